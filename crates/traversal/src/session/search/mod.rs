//! A search for ports: it is prepared, waits until both sides are ready, and sends its packets at a
//! steady pace within hard bounds, whatever the plan says.

mod run;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::plan::{PER_SECOND_MAX, PROBES_MAX};
use holepunch_wire::stun::{TransactionId, binding_request};

use super::{Phase, Session};
use crate::doors::{Event, SearchRefusal, SessionEvent, SocketId, Transmit, Turn};
use crate::schedule;
use run::State;
pub(crate) use run::{Prepared, SearchRun, opener};

const PACE_MAX: usize = PER_SECOND_MAX as usize;

const SECOND: Duration = Duration::from_secs(1);
/// The last packet's answer may take so long.
const GRACE: Duration = Duration::from_millis(2500);
/// A side that only keeps its sockets ready waits for the peer's largest search.
const ENDPOINT_UNTIL: Duration = Duration::from_secs(24);
/// The question for the last port is repeated after this time.
const SAMPLE_AGAIN_AFTER: Duration = Duration::from_millis(300);

impl Session {
    /// Sockets that the search wants to be opened.
    pub(crate) fn take_wanted_sockets(&mut self) -> u16 {
        self.search.as_mut().map_or(0, SearchRun::take_wanted)
    }

    pub(crate) fn socket_opened(
        &mut self,
        socket: SocketId,
        local: SocketAddr,
        (now, rng): Turn<'_>,
    ) {
        if let Some(search) = &mut self.search {
            search.opened(socket, local, now);
        }
        self.run_search((now, rng));
    }

    pub(crate) fn socket_failed(&mut self, (now, rng): Turn<'_>) {
        if let Some(search) = &mut self.search
            && search.lacks_socket(now)
        {
            self.search = None;
            return self.search_refused(SearchRefusal::NoSocket, now);
        }
        self.run_search((now, rng));
    }

    /// Another plan wants the search that is under way: it goes on, with what has become known.
    pub(super) fn go_on_searching(&mut self) {
        let Some(search) = &mut self.search else { return };
        search.number = self.plan.number;
        search.context.opener = opener(&self.plan);
        if search.state != State::Preparing {
            let accepted = search.accepted(self.id);
            self.out.events.push_back(Event::Signal(accepted));
        }
    }

    /// Takes the answer of a STUN server to the question of a search.
    pub(crate) fn handle_sample(
        &mut self,
        socket: SocketId,
        transaction: TransactionId,
        port: u16,
        (now, rng): Turn<'_>,
    ) -> bool {
        let Some(search) = &mut self.search else { return false };
        let asked = search.sample.as_ref();
        if !asked.is_some_and(|it| it.socket == Some(socket) && it.transaction == transaction) {
            return false;
        }
        search.sampled(port);
        self.run_search((now, rng));
        true
    }

    /// The peer is ready.
    pub(crate) fn handle_accepted(&mut self, number: u32, ports: Vec<u16>, (now, rng): Turn<'_>) {
        // Its acceptance may come before this side has its plan, or after a later one.
        self.peer_accepted = Some((number, ports));
        self.run_search((now, rng));
    }

    /// Does what is due in the search, if there is one.
    pub(super) fn run_search(&mut self, (now, rng): Turn<'_>) {
        let Some(search) = &mut self.search else { return };
        if search.peer_ports.is_none()
            && let Some((_, ports)) =
                self.peer_accepted.take_if(|(number, _)| *number == search.number)
        {
            search.peer_is_ready(ports);
        }
        self.take_sample(now);
        let Some(search) = &mut self.search else { return };
        if search.state == State::Preparing && search.is_prepared() {
            search.state = State::Accepted;
            let accepted = search.accepted(self.id);
            self.out.events.push_back(Event::Signal(accepted));
        }
        if search.state == State::Accepted && search.peer_ports.is_some() {
            search.state = State::Running { since: now };
            search.wait_until(now);
            search.ends_at = now + ENDPOINT_UNTIL;
            self.tell(SessionEvent::SearchStarted(self.plan.strategy));
        }
        self.shoot((now, rng));
        let linked = matches!(self.phase, Phase::Linked(_));
        self.search.take_if(|search| linked && search.ends_at <= now);
    }

    /// Asks a STUN server for the port of a new mapping, or of the socket that is to seek.
    fn take_sample(&mut self, now: Instant) {
        let Some(search) = &mut self.search else { return };
        let Some(sample) = &mut search.sample else { return };
        let Some(stun) = search.context.stun else {
            // There is nobody to ask: the search ends with its time for preparation.
            sample.again_at = None;
            return;
        };
        let due = sample.again_at.is_some_and(|at| at <= now);
        let Some(socket) = sample.socket.filter(|_| due) else { return };
        // One answer counts: the mapping of the first question stays the same.
        sample.again_at = Some(now + SAMPLE_AGAIN_AFTER);
        let payload = binding_request(sample.transaction);
        self.out.transmits.push_back(Transmit { socket, to: stun, payload, ttl: None });
    }

    /// Sends the packet whose time has come.
    fn shoot(&mut self, (now, rng): Turn<'_>) {
        loop {
            let Some(search) = &mut self.search else { return };
            let State::Running { since } = search.state else { return };
            if search.next_at.is_none_or(|at| at > now) {
                return;
            }
            let interval = SECOND / u32::from(search.spec.per_second);
            // Another plan is no reason to hurry, nor a new allowance.
            let is_full = self.recent_shots.len() >= PACE_MAX;
            let oldest = self.recent_shots.front().filter(|_| is_full);
            if let Some(soonest) = oldest.map(|at| *at + SECOND).filter(|at| *at > now) {
                search.next_at = Some(soonest);
                return;
            }
            let spent = self.shots >= u32::from(PROBES_MAX);
            if search.sent >= u32::from(search.spec.probes_max) || spent {
                search.next_at = None;
                search.state = State::Done;
                search.ends_at = search.ends_at.min(now + GRACE);
                return;
            }
            let is_first_round = search.round == 0;
            let may_open = search.is_lazy() && is_first_round;
            let open = u16::try_from(search.sockets.len()).unwrap_or(u16::MAX);
            if may_open && search.shot >= search.sockets.len() && open < search.spec.sockets {
                // The packet leaves when the socket is open.
                search.wanted = 1;
                search.next_at = None;
                return;
            }
            let Some(route) = search.shot(search.shot) else {
                search.shot = 0;
                match search.next_round(since, now) {
                    Some(at) => search.wait_until(at),
                    None => {
                        search.next_at = None;
                        search.state = State::Done;
                        search.ends_at = now + GRACE;
                    }
                }
                search.round += 1;
                continue;
            };
            search.shot += 1;
            search.sent += 1;
            search.wait_until(schedule::next_due(search.due, interval, now));
            if self.recent_shots.len() >= PACE_MAX {
                self.recent_shots.pop_front();
            }
            self.recent_shots.push_back(now);
            self.shots += 1;
            let ttl = search.opener_ttl(is_first_round);
            self.send_check(route, false, ttl, (now, rng));
        }
    }

    /// Whether the searches of this session have used up what there is for one.
    pub(crate) fn has_searched_enough(&self) -> bool {
        self.shots >= u32::from(PROBES_MAX)
    }

    /// The address whose owner a search is aimed at.
    pub(crate) fn search_target(&self) -> Option<IpAddr> {
        self.endpoint.map(|endpoint| endpoint.ip())
    }
}
