//! What the desks of all connections have in common: the board, its clock, and the ways between the two.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holepunch_matchmaker::{
    Arrival, Board, Command, Config, ConnectionId, Desk, DropReason, Errand, Event, Member,
    NotAdmitted, Note, Reply, Request, Surroundings, Told,
};
use holepunch_wire::reason::CloseReason;
use holepunch_wire::session::SessionId;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use crate::clerk::Clerk;
use crate::events::Events;
use crate::mailbox::Mailbox;
use crate::metrics::{Metrics, Scrape};
use crate::peers::Peers;
use crate::relay::Relay;
use crate::telling::{Log, Observer};
use crate::tokens::Ticket;

/// The answer where the store of several rendezvous does not answer.
const STORE_AWAY: &str = "this rendezvous does not reach its store; try again later";
/// And where it does, and refuses.
const STORE_REFUSES: &str =
    "the store of this rendezvous refuses what it is asked: the log of the rendezvous says why";

/// Time in which all workers are sent to other rendezvous: what platforms give a process that is to end is ten seconds.
const DRAIN_WITHIN: Duration = Duration::from_secs(4);
/// Some of them are sent this often.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// Every connection of this server.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    /// Those whose tokens may end before they do.
    guests: Mutex<HashMap<ConnectionId, (Ticket, Arc<Mailbox>)>>,
    config: Config,
    /// The other rendezvous, where there are any.
    peers: Option<Peers>,
    /// The board wants to be called earlier than before.
    sooner: Notify,
    log: Arc<Log>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Events>,
    /// Everybody who is told of what happens.
    observers: Vec<Box<dyn Observer>>,
}

#[derive(Debug)]
struct State {
    board: Board,
    mailboxes: HashMap<ConnectionId, Arc<Mailbox>>,
    rng: StdRng,
    next_connection: u64,
    /// The server stops: nobody registers any more.
    has_ended: bool,
}

impl Hub {
    pub(crate) fn new(
        config: Config,
        mut rng: StdRng,
        relay: Option<Arc<Relay>>,
        peers: Option<Peers>,
    ) -> Self {
        let log = Arc::new(Log::new());
        // One that is alone has a number as well, so that an event of before a restart is known to be of before.
        let instance = peers.as_ref().map_or_else(|| rng.random(), |peers| peers.own().process());
        let events = Arc::new(Events::new(instance));
        let metrics = Arc::new(Metrics::new(peers.as_ref(), &events));
        let mut observers: Vec<Box<dyn Observer>> = vec![
            Box::new(Arc::clone(&log)),
            Box::new(Arc::clone(&metrics)),
            Box::new(Arc::clone(&events)),
        ];
        // First, since its sessions are to end at once.
        relay.into_iter().for_each(|relay| observers.insert(0, Box::new(relay)));
        let of_board = StdRng::from_seed(rng.random());
        let board = match &peers {
            None => Board::new(config.clone(), of_board),
            Some(peers) => Board::of_several(peers.own(), config.clone(), of_board, Instant::now()),
        };
        let (mailboxes, next_connection, has_ended) = (HashMap::new(), 1, false);
        let state = State { board, mailboxes, rng, next_connection, has_ended };
        let (state, sooner) = (Mutex::new(state), Notify::new());
        let guests = Mutex::default();
        Self { state, guests, config, peers, sooner, log, metrics, events, observers }
    }

    /// Somebody more who wants to know, while nothing has happened yet.
    #[cfg(feature = "otel")]
    pub(crate) fn add_observer(&mut self, observer: impl Observer + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// Whether there is room for `worker`, which comes from `ip`. `None`: the store does not answer.
    pub(crate) async fn admits(
        &self,
        worker: &Member,
        ip: IpAddr,
    ) -> Option<Result<(), NotAdmitted>> {
        let reply = self.ask(Request::Admits { worker: worker.clone(), ip }).await?;
        if let Reply::Admits(admits) = reply { Some(admits) } else { None }
    }

    /// What the store answers to a question that changes nothing; `None`: nothing in time.
    pub(crate) async fn ask(&self, request: Request) -> Option<Reply> {
        match &self.peers {
            Some(peers) => peers.ask(request).await,
            None => self.lock().board.ask(request, Instant::now()),
        }
    }

    /// Why the store has not done what was needed of it, for whoever asks by HTTP.
    pub(crate) fn store_trouble(&self) -> &'static str {
        let refuses = self.peers.as_ref().is_some_and(Peers::store_refuses);
        if refuses { STORE_REFUSES } else { STORE_AWAY }
    }

    /// Takes a WebSocket that is open, for as long as its token is good. Its worker is registered for as long as what comes back
    /// is there.
    pub(crate) fn enter(self: &Arc<Self>, arrival: Arrival, ticket: Option<Ticket>) -> Clerk {
        let mailbox = Arc::new(Mailbox::default());
        let mut state = self.lock();
        let connection = ConnectionId(state.next_connection);
        state.next_connection += 1;
        if state.has_ended {
            let note = if self.peers.is_some() { Note::Move } else { Note::Shutdown };
            // It is empty.
            let _is_taken = mailbox.push(note);
        }
        state.mailboxes.insert(connection, Arc::clone(&mailbox));
        let desk = Desk::new(arrival, &mut state.rng, self.surroundings());
        drop(state);
        if let Some(ticket) = ticket {
            self.guests().insert(connection, (ticket, Arc::clone(&mailbox)));
        }
        Clerk::new(Arc::clone(self), connection, desk, mailbox)
    }

    /// What surrounds a step of a desk at this moment.
    pub(crate) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings { config: &self.config, now: Instant::now(), unix: unix() }
    }

    /// Sees to what a desk wants.
    pub(crate) fn take(
        &self,
        (connection, desk, mailbox): (ConnectionId, &Desk, &Mailbox),
        mut errands: Vec<Errand>,
    ) {
        self.with_state(|state, now| {
            if desk.is_gone() {
                state.mailboxes.remove(&connection);
                // It has not seen what is still there.
                if mailbox.holds_an_offer() {
                    errands.iter_mut().for_each(say_unsent);
                }
            }
            for errand in errands {
                state.board.take(connection, (desk.member(), desk.ip()), errand, now);
            }
        });
    }

    /// A connection has ended, and its desk with it.
    pub(crate) fn leave(&self, connection: ConnectionId) {
        self.lock().mailboxes.remove(&connection);
        self.guests().remove(&connection);
    }

    /// Tells those whose tokens are not good any more.
    pub(crate) fn expel(&self, why: impl Fn(&Ticket) -> Option<CloseReason>) {
        self.guests().retain(|_, (ticket, mailbox)| {
            let why = why(ticket);
            // One that takes no more notes ends by itself.
            why.into_iter().for_each(|why| drop(mailbox.push(Note::Expelled(why))));
            why.is_none()
        });
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<ConnectionId, (Ticket, Arc<Mailbox>)>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's connection to the relay of a session was opened, or has ended.
    pub(crate) fn relay_changed(&self, session: SessionId, end: usize, is_open: bool) {
        self.with_state(|state, now| state.board.relay_changed((session, end), is_open, now));
    }

    /// Tells every worker that the server stops.
    pub(crate) fn shutdown(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        // One that takes no more notes ends by itself.
        state.mailboxes.values().for_each(|mailbox| drop(mailbox.push(Note::Shutdown)));
    }

    /// Sends all workers to other rendezvous, where there are any, in no order: they all come there.
    pub(crate) async fn drain(&self) {
        if self.peers.is_none() {
            return;
        }
        let mut all: Vec<Arc<Mailbox>> = {
            let mut state = self.lock();
            state.has_ended = true;
            let mut all: Vec<_> = state.mailboxes.values().cloned().collect();
            all.shuffle(&mut state.rng);
            all
        };
        let steps = u32::try_from(DRAIN_WITHIN.as_millis() / DRAIN_STEP.as_millis()).unwrap_or(1);
        let at_once = all.len().div_ceil(steps as usize).max(1);
        while !all.is_empty() {
            // One that takes no more notes ends by itself.
            all.drain(..at_once.min(all.len())).for_each(|mailbox| drop(mailbox.push(Note::Move)));
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    /// The others need not wait for the end of this one's lease.
    pub(crate) async fn resign(&self) {
        if let Some(peers) = &self.peers {
            let own = self.lock().board.instance();
            peers.resign(own).await;
        }
    }

    /// Whether workers can be paired here.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.lock();
        !state.has_ended && state.board.is_ready(Instant::now())
    }

    /// Calls the board whenever it wants to be called, and carries what others send; never returns.
    pub(crate) async fn run(&self) {
        let clock = async {
            loop {
                let next = self.lock().board.poll_timeout();
                let due = async {
                    match next {
                        Some((at, _)) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = due => self.with_state(|state, now| state.board.handle_timeout(now)),
                    () = self.sooner.notified() => {}
                }
            }
        };
        match &self.peers {
            None => clock.await,
            Some(peers) => {
                let replied = |number, reply| {
                    self.with_state(|state, now| state.board.handle_reply(number, reply, now));
                };
                let came = |(from, to, packet)| {
                    self.with_state(|state, now| {
                        state.board.handle_packet((from, to), packet, now);
                    });
                };
                let is_open = |number| self.lock().board.is_open(number);
                tokio::join!(clock, peers.run(replied, came, is_open));
            }
        }
    }

    /// Reads the board, for a listing.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Board) -> T) -> T {
        read(&self.lock().board)
    }

    /// Whether one more warning that a client causes may be logged.
    pub(crate) fn may_warn(&self) -> bool {
        self.log.may_warn()
    }

    /// What a scrape sees of all desks and halls.
    pub(crate) fn scrape(&self) -> Scrape {
        let (state, now) = (self.lock(), Instant::now());
        let mut scrape = Scrape {
            workers: state.mailboxes.len(),
            workers_max: self.config.workers_max,
            rooms_owned: state.board.own_rooms(now).count(),
            is_ready: !state.has_ended && state.board.is_ready(now),
            ..Scrape::default()
        };
        scrape.see(&state.board);
        scrape
    }

    /// Something that has come is left alone.
    pub(crate) fn dropped(&self, why: DropReason) {
        self.tell(&Event::Dropped(why).told(None), SystemTime::now());
    }

    /// Tells everybody who wants to know; outside of the lock.
    pub(crate) fn tell(&self, told: &Told, at: SystemTime) {
        self.observers.iter().for_each(|observer| observer.observe(told, at));
    }

    /// Calls the board and carries out what it says.
    fn with_state(&self, act: impl FnOnce(&mut State, Instant)) {
        let mut state = self.lock();
        let before = state.board.poll_timeout();
        let now = Instant::now();
        // Each time, since nothing tells of a clock that was set.
        let at = SystemTime::now();
        if let Ok(unix) = at.duration_since(UNIX_EPOCH) {
            state.board.wall_clock(unix, now);
        }
        act(&mut state, now);
        let unsent = state.deliver(now);
        if let Some(peers) = &self.peers {
            peers.send(&mut state.board);
        }
        let events: Vec<Told> = std::iter::from_fn(|| state.board.poll_event()).collect();
        let after = state.board.poll_timeout();
        drop(state);
        let sooner = match (before, after) {
            (None, Some(_)) => true,
            (Some((before, _)), Some((after, _))) => after < before,
            (_, None) => false,
        };
        if sooner {
            self.sooner.notify_one();
        }
        events.iter().for_each(|told| self.tell(told, at));
        (0..unsent).for_each(|_| self.dropped(DropReason::Unsent));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Hands every note to its desk. How many were for such as are gone, or take nothing more.
    fn deliver(&mut self, now: Instant) -> u32 {
        let mut unsent = 0;
        while let Some((to, note)) = self.board.poll_note() {
            let Some(to) = to else {
                self.mailboxes.values().for_each(|mailbox| drop(mailbox.push(note.clone())));
                continue;
            };
            let left = match self.mailboxes.get(&to) {
                Some(mailbox) => mailbox.push(note),
                None => Some(note),
            };
            if let Some(note) = left {
                unsent += u32::from(matches!(note, Note::Effect(..)));
                self.board.undelivered(to, note, now);
            }
        }
        unsent
    }
}

/// The offer of a peer has not reached the worker that departs.
fn say_unsent(errand: &mut Errand) {
    if let Errand::Command(_, Command::Depart { unsent, .. }) = errand {
        *unsent = true;
    }
}

/// What the wall clock shows.
fn unix() -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use holepunch_matchmaker::{Observed, Protocol};
    use holepunch_wire::WorkerId;

    use super::*;

    fn workers(hub: &Hub) -> usize {
        hub.read(|board| board.registry().unwrap().count())
    }

    fn arrival() -> Arrival {
        Arrival {
            worker: WorkerId::new("a").unwrap(),
            observed: Observed { ip: [192, 0, 2, 1].into(), port: None },
            protocol: Protocol::Baseline,
            room: None,
            challenge: String::new(),
            permit: Arc::default(),
        }
    }

    #[tokio::test]
    async fn a_connection_for_which_there_is_no_place_leaves_nothing_behind() {
        let config = Config { workers_max: 0, ..Config::default() };
        let hub = Arc::new(Hub::new(config, StdRng::seed_from_u64(1), None, None));
        let clerk = hub.enter(arrival(), None);
        assert!(clerk.is_ending());
        drop(clerk);
        assert!(hub.lock().mailboxes.is_empty());
    }

    #[tokio::test]
    async fn a_connection_whose_task_panics_leaves_nothing_behind() {
        let rng = StdRng::seed_from_u64(1);
        let hub = Arc::new(Hub::new(Config::default(), rng, None, None));
        let task = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move {
                let _clerk = hub.enter(arrival(), None);
                assert_eq!(workers(&hub), 0, "a fault in a task");
            }
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(workers(&hub), 0);
        assert!(hub.lock().mailboxes.is_empty());
    }
}
