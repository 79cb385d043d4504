//! What is there at the moment, as gauges.

use holepunch_matchmaker::{Board, RoomView};
use holepunch_wire::session::RoomMode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::words::Word;
use crate::links::Path;

/// The classes of rooms: the room of all that name none, and the others by their mode.
pub(crate) const ROOMS: [&str; 4] = ["default", "pair", "mesh", "call"];
/// The places of sessions without a path, over the relay, and direct.
const PATHS: [Path; 3] = [Path::None, Path::Relayed, Path::Direct];

/// The class of a room, as its place among [`ROOMS`].
pub(crate) fn class_of(room: &RoomView<'_>) -> usize {
    match room.mode {
        _ if room.name.name.is_default() => 0,
        RoomMode::Pair => 1,
        RoomMode::Mesh => 2,
        RoomMode::Call => 3,
    }
}

/// What a scrape looks at.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    pub(crate) workers: usize,
    pub(crate) workers_max: usize,
    pub(crate) rooms: [usize; ROOMS.len()],
    pub(crate) members: [usize; ROOMS.len()],
    pub(crate) waiting: [usize; ROOMS.len()],
    pub(crate) sessions: [usize; PATHS.len()],
    pub(crate) rooms_owned: usize,
    pub(crate) is_ready: bool,
    pub(crate) event_readers: usize,
}

impl Scrape {
    /// Looks at the halls.
    pub(crate) fn see(&mut self, board: &Board) {
        for room in board.halls().rooms(None) {
            let class = class_of(&room);
            self.rooms[class] += 1;
            self.members[class] += room.members;
            self.waiting[class] += room.waiting;
        }
        for session in board.halls().session_views(None) {
            let ends = &session.ends;
            let path = if ends.iter().any(|end| end.is_direct) {
                2
            } else {
                usize::from(ends.iter().any(|end| end.is_relayed))
            };
            self.sessions[path] += 1;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Gauges {
    workers: Gauge,
    workers_max: Gauge,
    rooms: Family<Word, Gauge>,
    members: Family<Word, Gauge>,
    waiting: Family<Word, Gauge>,
    sessions: Family<Word, Gauge>,
    rooms_owned: Gauge,
    ready: Gauge,
    event_readers: Gauge,
}

impl Gauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (gauge, family) = (Gauge::default, Family::default);
        let all = Self {
            workers: gauge(),
            workers_max: gauge(),
            rooms: family(),
            members: family(),
            waiting: family(),
            sessions: family(),
            rooms_owned: gauge(),
            ready: gauge(),
            event_readers: gauge(),
        };
        let mut add = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add("workers", "Workers with a WebSocket here", &all.workers);
        add("workers_max", "Most workers that are let in", &all.workers_max);
        add("rooms_owned", "Rooms that this instance has the lease of", &all.rooms_owned);
        add("ready", "Whether workers can be paired here", &all.ready);
        add("event_readers", "Readers of the event stream", &all.event_readers);
        let mut add = |name, help, family: &Family<Word, Gauge>| {
            registry.register(name, help, family.clone());
        };
        add("rooms", "Rooms with somebody in them", &all.rooms);
        add("room_workers", "Workers in rooms", &all.members);
        add("workers_waiting", "Workers that wait for a peer", &all.waiting);
        add("sessions", "Sessions under way, by the path that workers tell", &all.sessions);
        all
    }

    pub(super) fn set(&self, now: &Scrape) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.workers.set(number(now.workers));
        self.workers_max.set(number(now.workers_max));
        self.rooms_owned.set(number(now.rooms_owned));
        self.ready.set(now.is_ready.into());
        self.event_readers.set(number(now.event_readers));
        for (place, class) in ROOMS.into_iter().enumerate() {
            let set = |family: &Family<Word, Gauge>, count| {
                family.get_or_create(&[("room", class)]).set(number(count));
            };
            set(&self.rooms, now.rooms[place]);
            set(&self.members, now.members[place]);
            set(&self.waiting, now.waiting[place]);
        }
        for (path, count) in PATHS.into_iter().zip(now.sessions) {
            self.sessions.get_or_create(&[("path", path.code())]).set(number(count));
        }
    }
}
