//! What stands between the desks of one rendezvous and everybody else: the halls that it owns, the way to those of others,
//! and the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use holepunch_wire::session::SessionId;
use rand::rngs::StdRng;

use crate::cluster::{
    ASKED_AGAIN_AFTER, Epoch, LEASE, Packet, Reply, Request, Store, Switch, SwitchOut,
};
use crate::desk::{Answer, Errand, Note, Question, WakeReason};
use crate::doors::{Config, ConnectionId, Told};
use crate::halls::Halls;
use crate::names::{Member, Room};
use crate::registry::Registry;
use crate::seat::{Command, InstanceId, Seat};

/// The board of one rendezvous, which all its desks have in common.
///
/// Five doors, and two more where there are other rendezvous: [`take`](Self::take) (what a desk wants),
/// [`handle_timeout`](Self::handle_timeout), [`poll_note`](Self::poll_note) (what desks are told),
/// [`poll_timeout`](Self::poll_timeout), [`poll_event`](Self::poll_event); [`poll_request`](Self::poll_request) and
/// [`handle_reply`](Self::handle_reply), [`poll_packet`](Self::poll_packet) and [`handle_packet`](Self::handle_packet).
#[derive(Debug)]
pub struct Board {
    config: Config,
    halls: Halls,
    switch: Switch,
    /// Its own, where there is no other rendezvous.
    store: Option<Store>,
    /// What the store has not answered, and when it was asked.
    asked: BTreeMap<u64, (Request, Instant)>,
    /// When each of these is asked again.
    again: BTreeSet<(Instant, u64)>,
    /// Which of these says where the worker of a connection is: a newer one takes its place.
    whereabouts: BTreeMap<ConnectionId, u64>,
    /// And which of them the worker waits for: a place, or its id.
    claims: BTreeMap<ConnectionId, u64>,
    next_request: u64,
    requests: VecDeque<(u64, Request)>,
    packets: VecDeque<(InstanceId, Packet)>,
    notes: VecDeque<(Option<ConnectionId>, Note)>,
}

impl Board {
    /// That of a rendezvous which is alone. `rng` makes credentials, so it must be seeded from the operating system outside of
    /// tests.
    #[must_use]
    pub fn new(config: Config, rng: StdRng) -> Self {
        Self { store: Some(Store::of_one()), ..Self::with(Switch::alone(), config, rng) }
    }

    /// That of one of several, which has a store in common with the others.
    #[must_use]
    pub fn of_several(own: InstanceId, config: Config, rng: StdRng, now: Instant) -> Self {
        Self::with(Switch::new(own, now), config, rng)
    }

    fn with(switch: Switch, config: Config, rng: StdRng) -> Self {
        Self {
            halls: Halls::new(config.relay.clone(), rng),
            config,
            switch,
            store: None,
            asked: BTreeMap::new(),
            again: BTreeSet::new(),
            whereabouts: BTreeMap::new(),
            claims: BTreeMap::new(),
            next_request: 0,
            requests: VecDeque::new(),
            packets: VecDeque::new(),
            notes: VecDeque::new(),
        }
    }

    /// Its number, by which the others know it. It has another one after it has lost its lease.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.switch.own()
    }

    /// Sees to what the desk of a worker wants, which comes from this address.
    pub fn take(
        &mut self,
        connection: ConnectionId,
        (worker, ip): (&Member, IpAddr),
        errand: Errand,
        now: Instant,
    ) {
        let seat = self.seat(connection);
        let request = match errand {
            Errand::Command(room, command) => {
                self.switch.command((seat, room), command, &mut self.halls, now);
                return self.settle(now);
            }
            Errand::Ask(Question::Find(called)) => {
                let worker = Member { tenant: worker.tenant.clone(), name: called };
                Request::Find { seat, worker }
            }
            Errand::Ask(Question::Arrive) => Request::Arrive { seat, worker: worker.clone(), ip },
            Errand::Ask(Question::Claim(key)) => {
                Request::Claim { seat, worker: worker.clone(), ip, key, again: None }
            }
            Errand::Ask(Question::Reclaim(key, before)) => {
                let again = Some(Seat { instance: before, connection });
                Request::Claim { seat, worker: worker.clone(), ip, key, again }
            }
            Errand::Is(is) => Request::Is { seat, worker: worker.clone(), is },
            Errand::Gone { outlives, has_sessions } => {
                // What is asked again would come behind its release, and be nobody's for ever.
                let open = [&self.claims, &self.whereabouts].map(|it| it.get(&connection).copied());
                open.into_iter().flatten().for_each(|number| drop(self.forget(number)));
                Request::Release { seat, worker: worker.clone(), ip, outlives, has_sessions }
            }
        };
        self.request(request, now);
        self.settle(now);
    }

    /// A note could not be delivered, since its desk is gone.
    pub fn undelivered(&mut self, connection: ConnectionId, note: Note, now: Instant) {
        if let Note::Effect(room, _) = note {
            // The hall cannot know yet: whoever was offered to it wants another one.
            let depart = Command::Depart { leaves: false, unsent: true };
            self.switch.command((self.seat(connection), room), depart, &mut self.halls, now);
            self.settle(now);
        }
    }

    /// What the wall clock shows, since 1970; without it, there are no tokens for a relay.
    pub fn wall_clock(&mut self, unix: Duration, now: Instant) {
        self.halls.wall_clock(unix, now);
    }

    /// A worker's connection to the relay of a session was opened, or has ended. A relay elsewhere says nothing of it.
    pub fn relay_changed(&mut self, end: (SessionId, usize), is_open: bool, now: Instant) {
        self.switch.check_lease(&mut self.halls, now);
        self.halls.relay_changed(end, is_open, now);
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Before the halls: one that has slept beyond its lease owns none.
        self.switch.handle_timeout(&mut self.halls, now);
        self.halls.handle_timeout(now);
        self.ask_again(now);
        self.settle(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        let again = self.again.first().map(|(at, _)| *at);
        let several = self.switch.poll_timeout().into_iter().chain(again).min();
        let several = several.map(|at| (at, WakeReason::Switch));
        self.halls.poll_timeout().into_iter().chain(several).min_by_key(|(at, _)| *at)
    }

    /// Whether workers can be paired here: as one of several, only with a lease.
    #[must_use]
    pub fn is_ready(&self, now: Instant) -> bool {
        self.store.is_some() || self.switch.has_lease(now)
    }

    /// Whether the store has not answered a question.
    #[must_use]
    pub fn is_open(&self, number: u64) -> bool {
        self.asked.contains_key(&number)
    }

    /// What a desk, or all of them (`None`), is to be told next. One that is not here: see [`undelivered`](Self::undelivered).
    pub fn poll_note(&mut self) -> Option<(Option<ConnectionId>, Note)> {
        self.notes.pop_front()
    }

    /// The next question to the store, by its number; the same one again where no answer has come.
    pub fn poll_request(&mut self) -> Option<(u64, Request)> {
        self.requests.pop_front()
    }

    /// The store has answered.
    pub fn handle_reply(&mut self, number: u64, reply: Reply, now: Instant) {
        // One that comes twice, or was given up, is none.
        if reply != Reply::NotLive
            && let Some((_, asked_at)) = self.forget(number)
        {
            self.reply(reply, asked_at, now);
        }
        self.settle(now);
    }

    /// The next packet to another instance.
    pub fn poll_packet(&mut self) -> Option<(InstanceId, Packet)> {
        self.packets.pop_front()
    }

    /// A packet came from another instance, to one of this process: to one of before, it says nothing to this one.
    pub fn handle_packet(
        &mut self,
        (from, to): (InstanceId, InstanceId),
        packet: Packet,
        now: Instant,
    ) {
        if to == self.switch.own() {
            self.switch.receive(from, packet, &mut self.halls, now);
        }
        self.settle(now);
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Told> {
        self.halls.poll_event()
    }

    /// Who is registered, where that is known here: one that is alone knows.
    #[must_use]
    pub fn registry(&self) -> Option<&Registry> {
        self.store.as_ref().map(|store| &store.registry)
    }

    /// The rooms that this one owns, and with which epoch.
    pub fn own_rooms(&self, now: Instant) -> impl Iterator<Item = (&Room, Epoch)> {
        self.switch.own_rooms(now)
    }

    /// The halls that are here.
    #[must_use]
    pub fn halls(&self) -> &Halls {
        &self.halls
    }

    /// What the store answers to a question that changes nothing, where it is this one's own.
    pub fn ask(&mut self, request: Request, now: Instant) -> Option<Reply> {
        let own = self.switch.own();
        self.store.as_mut().map(|store| store.answer(own, request, &self.config, now))
    }

    /// Asks the store, which answers at once where it is this one's own.
    fn request(&mut self, request: Request, now: Instant) {
        if let Some(store) = &mut self.store {
            let reply = store.answer(self.switch.own(), request, &self.config, now);
            return self.reply(reply, now, now);
        }
        self.next_request += 1;
        let number = self.next_request;
        if let Request::Is { seat, .. } = &request {
            // So a worker that is somewhere else with each message takes no more room than any other.
            let before = self.whereabouts.insert(seat.connection, number);
            before.into_iter().for_each(|before| drop(self.forget(before)));
        }
        if let Request::Arrive { seat, .. } | Request::Claim { seat, again: None, .. } = &request {
            self.claims.insert(seat.connection, number);
        }
        self.ask_store(number, request, now);
    }

    fn ask_store(&mut self, number: u64, request: Request, now: Instant) {
        self.requests.push_back((number, request.clone()));
        self.again.insert((again_at(&request, now), number));
        self.asked.insert(number, (request, now));
    }

    /// A question is none any more.
    fn forget(&mut self, number: u64) -> Option<(Request, Instant)> {
        let (mut request, at) = self.asked.remove(&number)?;
        self.again.remove(&(again_at(&request, at), number));
        if let Some(&mut Seat { connection, .. }) = request.seat_mut() {
            for open in [&mut self.whereabouts, &mut self.claims] {
                if open.get(&connection) == Some(&number) {
                    open.remove(&connection);
                }
            }
        }
        Some((request, at))
    }

    fn reply(&mut self, reply: Reply, asked_at: Instant, now: Instant) {
        let (to, answer) = match reply {
            Reply::Renewed { .. } | Reply::Owner { .. } => {
                return self.switch.reply((&reply, asked_at), &mut self.halls, now);
            }
            Reply::Arrived(seat, needs_proof) => (seat, Answer::Arrived(needs_proof)),
            Reply::Claimed(seat, claimed) => {
                if let Some(old) = claimed.as_ref().ok().and_then(|claimed| claimed.replaced) {
                    self.switch.replaced(old, now);
                    self.settle_switch(now);
                }
                (seat, Answer::Claim(claimed))
            }
            Reply::Reclaimed(seat, claimed) => (seat, Answer::Reclaim(claimed)),
            Reply::Found(seat, found) => (seat, Answer::Found(found)),
            Reply::Admits(_) | Reply::Listed(_) | Reply::NotLive | Reply::Done => return,
        };
        self.notes.push_back((Some(to.connection), Note::Answer(answer)));
    }

    /// What the store has not answered in time is asked again. (The switchboard sees to the lease and to owners by itself: an
    /// answer to what it asked long ago says nothing of now.)
    fn ask_again(&mut self, now: Instant) {
        while let Some((at, number)) = self.again.first().copied()
            && at <= now
        {
            self.again.pop_first();
            let Some((request, _)) = self.asked.remove(&number) else { continue };
            if !matches!(request, Request::Renew { .. } | Request::Own { .. }) {
                self.ask_store(number, request, now);
            }
        }
    }

    /// What the halls have said goes on its way, until nobody has anything to say.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some((room, to, effect)) = self.halls.poll_effect() {
                self.switch.effect(room, to, effect, now);
            }
            for room in self.halls.emptied() {
                self.switch.forget_if_unused(&room, &self.halls);
            }
            if !self.settle_switch(now) {
                break;
            }
        }
        self.switch.check_lease(&mut self.halls, now);
    }

    /// What the switchboard wants done; whether there was anything.
    fn settle_switch(&mut self, now: Instant) -> bool {
        let mut has_any = false;
        while let Some(out) = self.switch.poll() {
            has_any = true;
            match out {
                SwitchOut::Note(connection, note) => self.notes.push_back((Some(connection), note)),
                SwitchOut::Reclaim(before) => {
                    let own = self.switch.own();
                    for seat in self.asked.values_mut().filter_map(|(it, _)| it.seat_mut()) {
                        seat.instance = own;
                    }
                    self.notes.push_back((None, Note::Reclaim(before)));
                }
                SwitchOut::Store(request) => self.request(request, now),
                SwitchOut::Send(to, packet) => self.packets.push_back((to, packet)),
                SwitchOut::Dropped(why) => self.halls.dropped(why),
                SwitchOut::Unreadable(from) => self.halls.unreadable(from),
            }
        }
        has_any
    }

    /// Where a connection is, for the others.
    pub(crate) fn seat(&self, connection: ConnectionId) -> Seat {
        Seat { instance: self.switch.own(), connection }
    }
}

/// When a question is asked again, or given up. What the store says of a lease counts for as long as that lasts.
fn again_at(request: &Request, asked_at: Instant) -> Instant {
    asked_at + if matches!(request, Request::Renew { .. }) { LEASE } else { ASKED_AGAIN_AFTER }
}
