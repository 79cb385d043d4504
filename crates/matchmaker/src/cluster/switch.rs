//! The switchboard of one instance: which hall is where, and the ways there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::trunk::Trunk;
use super::{
    ASKED_AGAIN_AFTER, Envelope, Epoch, LEARNED_WITHIN, LEASE, LEASE_MARGIN, Letter, Packet,
    RENEWED_EVERY, Reply, Request,
};
use crate::desk::Note;
use crate::doors::{ConnectionId, DropReason};
use crate::halls::Halls;
use crate::names::Room;
use crate::seat::{Command, Effect, InstanceId, Seat};

/// What the switchboard wants done.
#[derive(Debug)]
pub(crate) enum SwitchOut {
    /// A desk here is told this.
    Note(ConnectionId, Note),
    /// The registry has to be told anew who is here: desks had this number before.
    Reclaim(InstanceId),
    Store(Request),
    Send(InstanceId, Packet),
    /// Something for another instance, or of one, was left alone.
    Dropped(DropReason),
    /// It is the first of this instance that cannot be read.
    Unreadable(InstanceId),
}

/// What is kept of what is said to a hall that has no owner, ...
const UNSAID_OF_ROOM_MAX: usize = 4096;
/// ... and to all of these.
const UNSAID_MAX: usize = 65_536;

/// Where a room's hall is.
#[derive(Debug, Default)]
struct Route {
    owner: Option<InstanceId>,
    /// That of the owner, or else the highest that is known.
    epoch: Epoch,
    /// When the store has said so.
    since: Option<Instant>,
    /// When the store was asked for the owner.
    asked_at: Option<Instant>,
    /// Desks here that have to do with the hall.
    users: BTreeSet<ConnectionId>,
    /// What these have said meanwhile, beside what they tell anew by themselves.
    unsaid: Vec<(ConnectionId, Command)>,
}

#[derive(Debug)]
pub(crate) struct Switch {
    own: InstanceId,
    /// There is no other one: it owns every room, and asks nobody.
    is_alone: bool,
    routes: BTreeMap<Room, Route>,
    /// How much of what was said is kept for halls without an owner.
    unsaid: usize,
    /// Rooms without an owner, and when the store is asked again.
    homeless: BTreeSet<(Instant, Room)>,
    /// Since when each is known.
    trunks: BTreeMap<InstanceId, (Instant, Trunk)>,
    /// By this clock; `None`: it is over, or has not begun.
    lease: Option<Instant>,
    /// Whether it has had one under this number.
    has_spoken: bool,
    /// The number under which the desks here are known, where that is another one.
    before: Option<InstanceId>,
    renew_at: Option<Instant>,
    /// What it was last taken for the owner of, and is not: the store is told so once.
    given_back: Option<(Room, Epoch)>,
    store: Option<u64>,
    /// Those of other versions, of the instances to which there is a trunk: it has been told that they are.
    unreadable: BTreeSet<InstanceId>,
    outs: VecDeque<SwitchOut>,
}

impl Switch {
    /// One that is alone.
    pub(crate) fn alone() -> Self {
        let own = InstanceId(0);
        Self {
            own,
            is_alone: true,
            routes: BTreeMap::new(),
            unsaid: 0,
            homeless: BTreeSet::new(),
            trunks: BTreeMap::new(),
            lease: None,
            has_spoken: false,
            before: None,
            renew_at: None,
            given_back: None,
            store: None,
            unreadable: BTreeSet::new(),
            outs: VecDeque::new(),
        }
    }

    /// One of several.
    pub(crate) fn new(own: InstanceId, now: Instant) -> Self {
        Self { own, is_alone: false, renew_at: Some(now), ..Self::alone() }
    }

    pub(crate) fn own(&self) -> InstanceId {
        self.own
    }

    /// Whether this instance may speak as an owner.
    pub(crate) fn has_lease(&self, now: Instant) -> bool {
        self.lease.is_some_and(|until| until > now)
    }

    /// The rooms that this instance owns.
    pub(crate) fn own_rooms(&self, now: Instant) -> impl Iterator<Item = (&Room, Epoch)> {
        let owned = self.routes.iter().filter(move |(_, route)| route.owner == Some(self.own));
        owned.filter(move |_| self.has_lease(now)).map(|(room, route)| (room, route.epoch))
    }

    /// A desk here says something to the hall of a room.
    pub(crate) fn command(
        &mut self,
        (from, room): (Seat, Room),
        command: Command,
        halls: &mut Halls,
        now: Instant,
    ) {
        if self.is_alone {
            return halls.command(&room, from, command, now);
        }
        self.check_lease(halls, now);
        let leaves = matches!(command, Command::Depart { .. } | Command::Exit);
        let route = self.routes.entry(room.clone()).or_default();
        if !leaves {
            route.users.insert(from.connection);
        } else if matches!(command, Command::Depart { .. }) {
            route.users.remove(&from.connection);
        }
        let epoch = route.epoch;
        match route.owner {
            Some(owner) if owner == self.own => {
                halls.command(&room, from, command, now);
                self.forget_if_unused(&room, halls);
            }
            Some(owner) => {
                let letter = Letter::Command(from, command);
                self.post(owner, Envelope { room: room.clone(), epoch, letter }, now);
                self.forget_if_unused(&room, halls);
            }
            None => {
                let is_told_anew = matches!(
                    command,
                    Command::Enter { .. }
                        | Command::Rejoin { .. }
                        | Command::Announce(_)
                        | Command::Want { .. }
                );
                let has_room = route.unsaid.len() < UNSAID_OF_ROOM_MAX && self.unsaid < UNSAID_MAX;
                if !is_told_anew && !leaves && has_room {
                    self.unsaid += 1;
                    route.unsaid.push((from.connection, command));
                }
                self.find_owner(&room, now);
                self.forget_if_unused(&room, halls);
            }
        }
    }

    /// The id of a connection is another one's now.
    pub(crate) fn replaced(&mut self, old: Seat, now: Instant) {
        let letter = Letter::Replaced(old.connection);
        let (room, epoch) = (Room::default(), Epoch::default());
        if old.instance == self.own {
            self.outs.push_back(SwitchOut::Note(old.connection, Note::Replaced));
        } else {
            self.post(old.instance, Envelope { room, epoch, letter }, now);
        }
    }

    /// What a hall here says to a desk, wherever that is.
    pub(crate) fn effect(&mut self, room: Room, to: Seat, effect: Effect, now: Instant) {
        if to.instance == self.own {
            self.outs.push_back(SwitchOut::Note(to.connection, Note::Effect(room, effect)));
            return;
        }
        let Some(epoch) = self.routes.get(&room).map(|route| route.epoch) else { return };
        self.post(to.instance, Envelope { room, epoch, letter: Letter::Effect(to, effect) }, now);
    }

    /// A packet of another instance.
    pub(crate) fn receive(
        &mut self,
        from: InstanceId,
        packet: Packet,
        halls: &mut Halls,
        now: Instant,
    ) {
        self.check_lease(halls, now);
        let (_, trunk) = self.trunks.entry(from).or_insert_with(|| (now, Trunk::default()));
        for envelope in trunk.receive(packet) {
            match envelope {
                Some(envelope) => self.open(from, envelope, halls, now),
                None => self.skip(from),
            }
        }
        self.flush(from, now);
    }

    /// What the other one wanted does not happen here, and whoever waits for it gives up in time, as for a peer that is silent.
    fn skip(&mut self, from: InstanceId) {
        if self.unreadable.insert(from) {
            self.outs.push_back(SwitchOut::Unreadable(from));
        }
        self.outs.push_back(SwitchOut::Dropped(DropReason::OtherVersion));
    }

    fn open(&mut self, from: InstanceId, envelope: Envelope, halls: &mut Halls, now: Instant) {
        let Envelope { room, epoch, letter } = envelope;
        let route = self.routes.get(&room);
        let is_of = |owner| route.is_some_and(|it| it.owner == Some(owner) && it.epoch == epoch);
        match letter {
            Letter::Command(seat, command) if seat.instance == from && is_of(self.own) => {
                halls.command(&room, seat, command, now);
            }
            Letter::Command(..) => {
                let letter = Letter::NotOwned;
                self.post(from, Envelope { room: room.clone(), epoch, letter }, now);
                self.is_taken_for_owner(room, epoch, halls, now);
            }
            Letter::Effect(seat, effect) if seat.instance == self.own && is_of(from) => {
                self.outs.push_back(SwitchOut::Note(seat.connection, Note::Effect(room, effect)));
            }
            Letter::Effect(..) => {}
            Letter::Replaced(connection) => {
                self.outs.push_back(SwitchOut::Note(connection, Note::Replaced))
            }
            Letter::NotOwned if is_of(from) => self.lose_owner(&room, now),
            Letter::NotOwned => {}
        }
    }

    /// Another instance has been told that a room is this one's, which does not know that.
    fn is_taken_for_owner(&mut self, room: Room, epoch: Epoch, halls: &mut Halls, now: Instant) {
        if let Some(route) = self.routes.get_mut(&room) {
            let is_of_before = route.owner == Some(self.own) && route.epoch < epoch;
            if route.owner.is_some() && !is_of_before {
                return;
            }
            route.epoch = route.epoch.max(epoch);
            if route.owner.take().is_some() {
                halls.disown(&room);
            }
            // It may be, and the store's answer be late.
            if !route.users.is_empty() || route.asked_at.is_some() {
                return self.find_owner(&room, now);
            }
            self.forget_if_unused(&room, halls);
        }
        // Nobody here wants the room. Those who do take it once the store knows that: did this one ask for it, it would give
        // it back at once, and the two would do so for ever.
        let taken = (room, epoch);
        if self.given_back.as_ref() != Some(&taken) {
            let (room, epoch) = taken.clone();
            self.outs.push_back(SwitchOut::Store(Request::Disown { room, epoch }));
            self.given_back = Some(taken);
        }
    }

    /// What the store says to a question that needs the halls; others are the desks'.
    pub(crate) fn reply(
        &mut self,
        (reply, asked_at): (&Reply, Instant),
        halls: &mut Halls,
        now: Instant,
    ) {
        self.check_lease(halls, now);
        match reply {
            Reply::Renewed { live, store } => self.renewed((live, *store), asked_at, halls, now),
            Reply::Owner { room, owner, epoch, was_owned } => {
                let pairs_from = was_owned.then(|| now + LEARNED_WITHIN);
                self.owned((room, *owner, *epoch), pairs_from, halls, now);
            }
            Reply::Admits(_)
            | Reply::Listed(_)
            | Reply::Arrived(..)
            | Reply::Claimed(..)
            | Reply::Reclaimed(..)
            | Reply::Found(..)
            | Reply::NotLive
            | Reply::Done => {}
        }
    }

    fn renewed(
        &mut self,
        (live, store): (&[InstanceId], u64),
        sent_at: Instant,
        halls: &mut Halls,
        now: Instant,
    ) {
        let has_forgotten = self.store.replace(store).is_some_and(|before| before != store);
        if has_forgotten || (self.lease.is_none() && self.has_spoken) {
            return self.begin_anew(halls, now);
        }
        // By the time of the question: the store may have answered long before its answer came.
        let until = Some(sent_at + LEASE - LEASE_MARGIN).filter(|until| *until > now);
        let Some(until) = until.filter(|_| live.contains(&self.own)) else { return };
        (self.lease, self.has_spoken) = (Some(until), true);
        self.renew_at = Some((sent_at + RENEWED_EVERY).max(now));
        if let Some(before) = self.before.take() {
            self.outs.push_back(SwitchOut::Reclaim(before));
        }
        // What has been heard of since the question is not known to this answer.
        let is_gone = |instance: &InstanceId, since: Option<Instant>| {
            !live.contains(instance) && since.is_none_or(|since| since < sent_at)
        };
        let gone = self.trunks.extract_if(.., |id, (since, _)| is_gone(id, Some(*since)));
        let gone: Vec<InstanceId> = gone.map(|(instance, _)| instance).collect();
        self.unreadable.retain(|instance| self.trunks.contains_key(instance));
        gone.into_iter().for_each(|instance| halls.instance_gone(instance, now));
        let rooms: Vec<Room> = self.routes.keys().cloned().collect();
        for room in rooms {
            let Some(route) = self.routes.get(&room) else { continue };
            match route.owner {
                Some(owner) if owner != self.own && is_gone(&owner, route.since) => {
                    self.lose_owner(&room, now);
                }
                Some(_) => {}
                None => self.find_owner(&room, now),
            }
        }
    }

    /// The others take this one for gone, or will: what they said to it, and it to them, is of before. It has another number from
    /// now on, and no lease under it yet.
    fn begin_anew(&mut self, halls: &mut Halls, now: Instant) {
        self.before.get_or_insert(self.own);
        self.own = self.own.next();
        (self.lease, self.has_spoken, self.renew_at) = (None, false, Some(now));
        self.trunks.clear();
        self.unreadable.clear();
        self.homeless.clear();
        for (room, route) in &mut self.routes {
            (route.owner, route.asked_at) = (None, None);
            halls.disown(room);
        }
    }

    fn owned(
        &mut self,
        (room, owner, epoch): (&Room, InstanceId, Epoch),
        pairs_from: Option<Instant>,
        halls: &mut Halls,
        now: Instant,
    ) {
        let Some(route) = self.routes.get_mut(room) else { return };
        if let Some(at) = route.asked_at.take() {
            self.homeless.remove(&(at + ASKED_AGAIN_AFTER, room.clone()));
        }
        if (route.owner, route.epoch) == (Some(owner), epoch) {
            return;
        }
        let was_own = route.owner == Some(self.own);
        if epoch < route.epoch {
            // The store has forgotten that there was a later one.
            return self.find_owner(room, now);
        }
        (route.owner, route.epoch, route.since) = (Some(owner), epoch, Some(now));
        if was_own {
            halls.disown(room);
        }
        if owner == self.own {
            halls.own(room.clone(), pairs_from);
        }
        let users = route.users.iter().copied();
        self.outs.extend(
            users.map(|connection| SwitchOut::Note(connection, Note::Rejoin(room.clone()))),
        );
        // Among these is what takes up a session: whoever has one is not to be offered to others.
        self.unsaid -= route.unsaid.len();
        for (connection, command) in std::mem::take(&mut route.unsaid) {
            self.outs.push_back(SwitchOut::Note(connection, Note::SayAgain(room.clone(), command)));
        }
        let users = route.users.iter().copied();
        self.outs.extend(
            users.map(|connection| SwitchOut::Note(connection, Note::WantAgain(room.clone()))),
        );
        self.forget_if_unused(room, halls);
    }

    /// A room has no owner any more that is known.
    fn lose_owner(&mut self, room: &Room, now: Instant) {
        if let Some(route) = self.routes.get_mut(room) {
            route.owner = None;
            self.find_owner(room, now);
        }
    }

    fn find_owner(&mut self, room: &Room, now: Instant) {
        let has_lease = self.has_lease(now);
        let Some(route) = self.routes.get_mut(room) else { return };
        if route.asked_at.is_some() || !has_lease {
            return; // It is asked for when there is a lease again.
        }
        route.asked_at = Some(now);
        self.homeless.insert((now + ASKED_AGAIN_AFTER, room.clone()));
        let request = Request::Own { room: room.clone(), known: route.epoch };
        self.outs.push_back(SwitchOut::Store(request));
    }

    /// An owner whose lease is over is none: what its halls know is worth nothing from then on.
    pub(crate) fn check_lease(&mut self, halls: &mut Halls, now: Instant) {
        if self.lease.is_none_or(|until| until > now) {
            return;
        }
        self.lease = None;
        for (room, route) in &mut self.routes {
            if route.owner == Some(self.own) {
                route.owner = None;
                halls.disown(room);
            }
            route.asked_at = None;
        }
        self.homeless.clear();
    }

    /// A room that nobody here has to do with is forgotten, and given back where it is this one's own.
    pub(crate) fn forget_if_unused(&mut self, room: &Room, halls: &Halls) {
        let Some(route) = self.routes.get(room) else { return };
        if !route.users.is_empty() || halls.has(room) || route.asked_at.is_some() {
            return;
        }
        if route.owner == Some(self.own) {
            let request = Request::Disown { room: room.clone(), epoch: route.epoch };
            self.outs.push_back(SwitchOut::Store(request));
        }
        self.unsaid -= route.unsaid.len();
        self.routes.remove(room);
    }

    fn post(&mut self, to: InstanceId, envelope: Envelope, now: Instant) {
        let (_, trunk) = self.trunks.entry(to).or_insert_with(|| (now, Trunk::default()));
        if !trunk.send(envelope) {
            // The two are lost to each other. What is said must not have gaps, so this one goes by another number soon.
            self.lease = self.lease.map(|_| now);
            self.outs.push_back(SwitchOut::Dropped(DropReason::TooFarBehind));
        }
        self.flush(to, now);
    }

    fn flush(&mut self, to: InstanceId, now: Instant) {
        let Some((_, trunk)) = self.trunks.get_mut(&to) else { return };
        while let Some(packet) = trunk.poll(now) {
            self.outs.push_back(SwitchOut::Send(to, packet));
        }
    }

    pub(crate) fn handle_timeout(&mut self, halls: &mut Halls, now: Instant) {
        self.check_lease(halls, now);
        if self.renew_at.is_some_and(|at| at <= now) {
            self.renew_at = Some(now + ASKED_AGAIN_AFTER);
            self.outs.push_back(SwitchOut::Store(Request::Renew { again: self.has_spoken }));
        }
        while let Some((at, room)) = self.homeless.first()
            && *at <= now
        {
            let room = room.clone();
            self.homeless.pop_first();
            if let Some(route) = self.routes.get_mut(&room) {
                route.asked_at = None;
                self.find_owner(&room, now);
            }
        }
        let due = |(_, (_, trunk)): &(&InstanceId, &(Instant, Trunk))| {
            trunk.poll_timeout().is_some_and(|at| at <= now)
        };
        let due: Vec<InstanceId> = self.trunks.iter().filter(due).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|instance| self.flush(instance, now));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let homeless = self.homeless.first().map(|(at, _)| *at);
        let trunks = self.trunks.values().filter_map(|(_, trunk)| trunk.poll_timeout());
        self.renew_at.into_iter().chain(self.lease).chain(homeless).chain(trunks).min()
    }

    pub(crate) fn poll(&mut self) -> Option<SwitchOut> {
        self.outs.pop_front()
    }
}
