//! All sessions of the worker, and what they share: their searches, and what goes to addresses without proof.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use holepunch_wire::check::{Check, ParsedCheck};
use holepunch_wire::nat::{Allocation, SearchWish};
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{SessionOffer, WorkerV1};
use holepunch_wire::stun::{BindingOutcome, BindingResponse};

use crate::budget::{SearchHistory, Unproven};
use crate::doors::{Dropped, Event, Out, SearchRefusal, SocketId, Turn};
use crate::session::{PeerCheck, Prepared, Route, SearchRun, Session, Setting, Source, opener};
use crate::sockets::{Owner, Sockets};

/// What a search depends on beside its plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchSetting {
    pub(crate) wish: SearchWish,
    /// How the own NAT gives ports away.
    pub(crate) allocation: Allocation,
    /// Where a fresh socket learns its port.
    pub(crate) stun: Option<SocketAddr>,
}

/// What follows for the machine's other parts when a session has drawn its conclusions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settled {
    /// The worker leaves it, since nothing has come of it.
    pub(crate) in_vain: bool,
    /// Its path has become suspect: this side may have moved.
    pub(crate) alarm: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Boxed: a node of the map has room for eleven.
    all: BTreeMap<SessionId, Box<Session>>,
    searches: SearchHistory,
    /// What has been sent to addresses without proof.
    unproven: Unproven,
    /// The session whose search was counted last, and its target: further plans are the same search.
    searched: Option<(SessionId, IpAddr)>,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn ids(&self) -> Vec<SessionId> {
        self.all.keys().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.all.values().map(Box::as_ref)
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.all.get(&id).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.all.get_mut(&id).map(Box::as_mut)
    }

    pub(crate) fn network_changed(&mut self, now: Instant) {
        self.all.values_mut().for_each(|session| session.network_changed(now));
    }

    /// A session begins, in the place of one of the same number.
    pub(crate) fn begin(
        &mut self,
        offer: Box<SessionOffer>,
        setting: Setting,
        events: &mut VecDeque<Event>,
        (now, rng): Turn<'_>,
    ) {
        let id = offer.details.session;
        // What it searches is counted anew.
        self.searched.take_if(|(searched, _)| *searched == id);
        if let Some(mut replaced) = self.all.remove(&id) {
            replaced.end(EndReason::OfferedAnew, EndReason::OfferedAnew.text());
            events.append(&mut replaced.out.events);
        }
        self.all.insert(id, Box::new(Session::new(offer, setting, (now, rng))));
    }

    /// Begins the search of a plan, where it has one.
    pub(crate) fn search(
        &mut self,
        id: SessionId,
        plan: &Plan,
        setting: SearchSetting,
        (now, rng): Turn<'_>,
    ) {
        let search = plan.search.clone().filter(|_| plan.strategy != Strategy::Relay);
        let Some(search) = search else { return };
        let mut others = self.all.iter().filter(|(other, _)| **other != id);
        let searching = others.any(|(_, it)| it.search.is_some() && !it.is_linked());
        let Some(session) = self.all.get_mut(&id) else { return };
        if session.search.as_ref().is_some_and(|run| run.is_by(plan.number)) {
            return;
        }
        let endpoint = session.endpoint.filter(SocketAddr::is_ipv4);
        let refusal = if setting.wish == SearchWish::Never {
            Some(SearchRefusal::Unwanted)
        } else if session.proof == AddressProof::None {
            Some(SearchRefusal::Unproven)
        } else if endpoint.is_none() {
            Some(SearchRefusal::NoEndpoint)
        } else if searching {
            Some(SearchRefusal::Busy)
        } else {
            let target = session.search_target();
            // A better plan for the same pair is the same search, as long as it has packets left.
            let again = target.is_some_and(|ip| self.searched == Some((id, ip)));
            let allowed = again || target.is_some_and(|ip| self.searches.allows(ip, now));
            let refused = !allowed || session.has_searched_enough();
            refused.then_some(SearchRefusal::TooMany)
        };
        match (refusal, endpoint) {
            (None, Some(endpoint)) => {
                self.searched = Some((id, endpoint.ip()));
                let context = Prepared {
                    endpoint,
                    observed: session.observed(endpoint.ip()),
                    allocation: setting.allocation,
                    stun: setting.stun,
                    opener: opener(plan),
                };
                let run = SearchRun::new(plan.number, search, context, (now, rng));
                (session.search, session.refused) = (Some(run), None);
            }
            (refusal, _) => {
                let refusal = refusal.unwrap_or(SearchRefusal::NoEndpoint);
                session.search_refused(refusal, now);
            }
        }
    }

    /// Whether it is the answer to a question about a fresh socket's port.
    pub(crate) fn sampled(
        &mut self,
        socket: SocketId,
        response: &BindingResponse,
        (now, rng): Turn<'_>,
    ) -> bool {
        let BindingOutcome::Mapped(mapped) = response.outcome else { return false };
        let transaction = response.transaction;
        self.all
            .values_mut()
            .any(|session| session.handle_sample(socket, transaction, mapped.port(), (now, rng)))
    }

    /// Takes a check that came on a socket of this owner's, or on one of the worker's own. Whether it is for a session.
    pub(crate) fn check(
        &mut self,
        source: (Route, Option<Owner>),
        parsed: &ParsedCheck<'_>,
        dropped: &mut Dropped,
        (now, rng): Turn<'_>,
    ) -> bool {
        let (source, owner) = source;
        let transaction = parsed.transaction;
        let found = match parsed.check {
            Check::Request { username, .. } => {
                self.iter().find(|session| session.local_ufrag() == username.receiver())
            }
            Check::Success { .. } | Check::Error { .. } => {
                self.iter().find(|session| session.awaits(transaction))
            }
            Check::Indication => return true,
        };
        let Some(session) = found else { return false };
        // A path by a socket of the profiler's, or of another session's, would be cut when that one closes it.
        if owner.is_some_and(|owner| owner != Owner::Session(session.id)) {
            return false;
        }
        let is_request = matches!(parsed.check, Check::Request { .. });
        let key = if is_request { &session.local_key } else { &session.remote_key };
        if !parsed.verify(key) {
            dropped.unauthenticated += 1;
            return true;
        }
        let (id, peer) = (session.id, session.peer.clone());
        let mut is_anothers = false;
        for other in self.all.values_mut().filter(|other| other.peer != peer) {
            is_anothers |= other.knows(source);
            other.yield_source(source);
        }
        let Some(session) = self.get_mut(id) else { return false };
        match parsed.check {
            Check::Request { role, tie_breaker, use_candidate, .. } => {
                let check = PeerCheck { transaction, role, tie_breaker, nominates: use_candidate };
                if !session.handle_request(source.socket, source.to, check, (now, rng)) {
                    dropped.rate_limited += 1;
                }
            }
            Check::Success { mapped } => {
                let source = Source { route: source, is_anothers };
                session.handle_success((transaction, mapped), source, (now, rng));
            }
            Check::Error { code } => {
                session.handle_error((transaction, code), source.socket, (now, rng));
            }
            Check::Indication => {}
        }
        true
    }

    /// Lets a session draw its conclusions, and drains it.
    pub(crate) fn settle(
        &mut self,
        id: SessionId,
        sockets: &mut Sockets,
        out: &mut Out,
        (now, rng): Turn<'_>,
    ) -> Settled {
        let Some(session) = self.all.get_mut(&id) else { return Settled::default() };
        session.handle_timeout((now, rng));
        let in_vain = session.wants_to_leave(now);
        if in_vain {
            session.end(EndReason::InVain, &session.in_vain());
            out.events.push_back(Event::Signal(WorkerV1::Leave { session: id }));
        }
        let wanted = session.take_wanted_sockets();
        let alarm = session.take_alarm();
        // A search that there is no socket for draws its conclusions at once: they go out with the rest.
        for _ in 0..wanted {
            if sockets.are_enough() {
                session.socket_failed((now, rng));
            } else {
                out.events.push_back(sockets.open(Owner::Session(id)));
            }
        }
        // An empty queue takes no memory: a link is idle for most of its time, and there are many.
        let said = std::mem::take(&mut session.out);
        for transmit in said.transmits {
            let ip = transmit.to.ip();
            if session.vouches_for(ip) || self.unproven.allows(ip, now) {
                out.transmits.push_back(transmit);
            }
        }
        out.events.extend(said.events);
        if session.is_over() {
            self.all.remove(&id);
        }
        Settled { in_vain, alarm }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self, sockets: &Sockets) {
        use holepunch_wire::session::SESSIONS_MAX;
        assert!(self.all.len() <= SESSIONS_MAX, "{} sessions", self.all.len());
        let mut searching = 0;
        for (id, session) in &self.all {
            assert_eq!(session.id, *id, "a session stands under another's number");
            let own = sockets.iter().filter(|(_, owner, _)| *owner == Owner::Session(*id));
            let coming = own.clone().filter(|(_, _, is_open)| !is_open).count();
            let own = own.map(|(socket, ..)| socket);
            let own = [SocketId::MAIN, SocketId::MAIN_V6].into_iter().chain(own).collect();
            session.check_invariants(&own, coming);
            searching += usize::from(session.search.is_some() && !session.is_linked());
        }
        assert!(searching <= 1, "{searching} searches at once");
    }
}
