//! The pairing machine with its clock, and the outboxes through which it speaks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use holepunch_matchmaker::{
    Action, Closing, Config, ConnectionId, DropReason, Event, Input, Matchmaker, NotAdmitted,
    Observed, Protocol, Told,
};
use holepunch_wire::WorkerId;
use holepunch_wire::session::RoomName;
use rand::rngs::StdRng;
use tokio::sync::Notify;

use crate::outbox::Outbox;
use crate::relay::Relay;
use crate::telling::{Counted, EventCounts, Log, Observer};

/// Who has opened a WebSocket.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) worker: WorkerId,
    pub(crate) observed: Observed,
    pub(crate) protocol: Protocol,
    /// The room in the URL.
    pub(crate) room: Option<RoomName>,
    /// What its welcome asks it to sign; empty in the baseline.
    pub(crate) challenge: String,
}

/// A connection is registered for as long as this value is there: also one whose task panics leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    hub: &'a Hub,
    pub(crate) id: ConnectionId,
    /// In which way it ends; [`Closing::OfferUnsent`] when it could not send an offer that it had taken off its outbox.
    pub(crate) closing: Closing,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.hub.closed(self.id, self.closing);
    }
}

/// Every connection of this server.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    next_connection: AtomicU64,
    /// The machine wants to be called earlier than before.
    sooner: Notify,
    log: Arc<Log>,
    counts: Arc<EventCounts>,
    /// Everybody who is told of what happens.
    observers: Vec<Box<dyn Observer>>,
}

#[derive(Debug)]
struct State {
    machine: Matchmaker,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
}

impl Hub {
    pub(crate) fn new(config: Config, rng: StdRng, relay: Option<Arc<Relay>>) -> Self {
        let (log, counts) = (Arc::new(Log::new()), Arc::<EventCounts>::default());
        let mut observers: Vec<Box<dyn Observer>> =
            vec![Box::new(Arc::clone(&log)), Box::new(Arc::clone(&counts))];
        // First, since its sessions are to end at once.
        relay.into_iter().for_each(|relay| observers.insert(0, Box::new(relay)));
        let state = State { machine: Matchmaker::new(config, rng), outboxes: HashMap::new() };
        Self {
            state: Mutex::new(state),
            next_connection: AtomicU64::new(1),
            sooner: Notify::new(),
            log,
            counts,
            observers,
        }
    }

    /// Whether there is room for `worker`, which comes from `ip`.
    pub(crate) fn admits(&self, worker: &WorkerId, ip: IpAddr) -> Result<(), NotAdmitted> {
        self.lock().machine.admits(worker, ip)
    }

    /// Registers a worker whose WebSocket is open, for as long as the first value is there.
    pub(crate) fn enter(&self, visitor: Visitor) -> (Entered<'_>, Arc<Outbox>) {
        let Visitor { worker, observed, protocol, room, challenge } = visitor;
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::default());
        self.lock().outboxes.insert(connection, Arc::clone(&outbox));
        self.input(Input::Connected { connection, worker, observed, protocol, room, challenge });
        (Entered { hub: self, id: connection, closing: Closing::Broken }, outbox)
    }

    /// Feeds the machine and carries out what it says.
    pub(crate) fn input(&self, input: Input<'_>) {
        self.with_state(|state, now| state.machine.handle_input(input, now));
    }

    fn closed(&self, connection: ConnectionId, closing: Closing) {
        // One step, so that no offer is queued unseen in between.
        self.with_state(|state, now| {
            let left_over =
                state.outboxes.remove(&connection).is_some_and(|it| it.holds_an_offer());
            let closing = if left_over { Closing::OfferUnsent } else { closing };
            state.machine.handle_input(Input::Closed { connection, closing }, now);
        });
    }

    /// Calls the machine whenever it wants to be called; never returns.
    pub(crate) async fn run_clock(&self) {
        loop {
            let next = self.lock().machine.poll_timeout();
            let due = async {
                match next {
                    Some((at, _)) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.with_state(|state, now| state.machine.handle_timeout(now)),
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Reads the machine, for a listing.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Matchmaker) -> T) -> T {
        read(&self.lock().machine)
    }

    /// Whether one more warning that a client causes may be logged.
    pub(crate) fn may_warn(&self) -> bool {
        self.log.may_warn()
    }

    /// How often each event has happened.
    pub(crate) fn counts(&self) -> Vec<(Counted, u64)> {
        self.counts.all()
    }

    /// Something that has come is left alone, before it gets to the machine.
    pub(crate) fn dropped(&self, why: DropReason) {
        self.tell(&Event::Dropped(why).told(None), SystemTime::now());
    }

    fn tell(&self, told: &Told, at: SystemTime) {
        self.observers.iter().for_each(|observer| observer.observe(told, at));
    }

    /// Calls the machine and carries out what it says.
    fn with_state(&self, act: impl FnOnce(&mut State, Instant)) {
        let mut state = self.lock();
        let before = state.machine.poll_timeout();
        let now = Instant::now();
        // Each time, since nothing tells of a clock that was set.
        let at = SystemTime::now();
        if let Ok(unix) = at.duration_since(UNIX_EPOCH) {
            state.machine.handle_input(Input::WallClock { unix }, now);
        }
        act(&mut state, now);
        let unsent = state.deliver();
        let events: Vec<Told> = std::iter::from_fn(|| state.machine.poll_event()).collect();
        let after = state.machine.poll_timeout();
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
    /// Hands every action to its connection; one that takes nothing more has ended. How many were for such ones.
    fn deliver(&mut self) -> u32 {
        let mut unsent = 0;
        while let Some(transmit) = self.machine.poll_transmit() {
            let connection = transmit.connection;
            let is_close = matches!(transmit.action, Action::Close(_));
            let is_offer = matches!(transmit.action, Action::Offer(_));
            let outbox = self.outboxes.get(&connection);
            let taken = outbox.is_some_and(|outbox| outbox.push(transmit.action));
            if !taken {
                unsent += 1;
                let offer_unsent = is_offer || outbox.is_some_and(|outbox| outbox.holds_an_offer());
                let closing = if offer_unsent { Closing::OfferUnsent } else { Closing::Broken };
                let closed = Input::Closed { connection, closing };
                self.machine.handle_input(closed, Instant::now());
            }
            if is_close || !taken {
                self.outboxes.remove(&connection);
            }
        }
        unsent
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[tokio::test]
    async fn a_connection_whose_task_panics_leaves_nothing_behind() {
        let hub = Arc::new(Hub::new(Config::default(), StdRng::seed_from_u64(1), None));
        let visitor = Visitor {
            worker: WorkerId::new("a").unwrap(),
            observed: Observed { ip: [192, 0, 2, 1].into(), port: None },
            protocol: Protocol::Baseline,
            room: None,
            challenge: String::new(),
        };
        let task = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move {
                let (_entered, _outbox) = hub.enter(visitor);
                assert_eq!(hub.read(Matchmaker::counts), (0, 0), "a fault in a task");
            }
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(hub.read(Matchmaker::counts), (0, 0));
        assert!(hub.lock().outboxes.is_empty());
    }
}
