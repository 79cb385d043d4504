//! The last events, for those who read them as they come or page by page.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use holepunch_matchmaker::{Event, Room, Told};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatClass;
use holepunch_wire::session::{RoomName, SessionId};
use holepunch_wire::tenant::Tenant;
use prometheus_client::metrics::counter::Counter;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use crate::telling::{Observer, is_surplus};

/// Events that are kept, some 400 bytes each: of 100 in a second, those of the last minute.
const EVENTS_KEPT: usize = 8192;
/// Bytes of what an event says beyond its fields.
const DETAIL_BYTES_MAX: usize = 256;

/// One event, as it is told.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: EventId,
    /// Milliseconds since 1970.
    at_ms: u64,
    pub(crate) event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    #[serde(flatten, serialize_with = "place")]
    pub(crate) room: Option<Room>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nats: Option<[NatClass; 2]>,
    pub(crate) workers: Vec<WorkerId>,
    #[serde(flatten)]
    more: More,
}

/// Where it has happened, as two fields.
fn place<S: Serializer>(room: &Option<Room>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Place<'a> {
        room: &'a RoomName,
        #[serde(skip_serializing_if = "Tenant::is_unnamed")]
        tenant: &'a Tenant,
    }
    let place = room.as_ref().map(|it| Place { room: &it.name, tenant: &it.tenant });
    place.serialize(serializer)
}

/// What some events say besides.
#[derive(Debug, Default, Serialize)]
struct More {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// The number of an event, and the instance that has counted it: `1a2b3c4d-17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventId {
    pub(crate) instance: u32,
    pub(crate) number: u64,
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}-{}", self.instance, self.number)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (instance, number) = text.split_once('-').ok_or(())?;
        let instance = u32::from_str_radix(instance, 16).map_err(|_| ())?;
        Ok(Self { instance, number: number.parse().map_err(|_| ())? })
    }
}

/// The last events of one server.
#[derive(Debug)]
pub(crate) struct Events {
    instance: u32,
    ring: Mutex<Ring>,
    /// Tells readers that there are newer ones.
    news: watch::Sender<()>,
    /// How many there have been.
    pub(crate) told: Counter,
    /// How many were gone before a reader came to them.
    pub(crate) missed: Counter,
}

#[derive(Debug)]
struct Ring {
    newest: u64,
    rows: VecDeque<Arc<Row>>,
}

/// What a reader has not had yet.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// How many of these are gone.
    pub(crate) missed: u64,
    pub(crate) rows: Vec<Arc<Row>>,
}

impl Events {
    pub(crate) fn new(instance: u32) -> Self {
        let ring = Ring { newest: 0, rows: VecDeque::with_capacity(EVENTS_KEPT) };
        let (ring, news) = (Mutex::new(ring), watch::Sender::new(()));
        Self { instance, ring, news, told: Counter::default(), missed: Counter::default() }
    }

    /// Which instance has counted them.
    pub(crate) fn instance(&self) -> u32 {
        self.instance
    }

    /// The number of the event that came last.
    pub(crate) fn newest(&self) -> u64 {
        self.lock().newest
    }

    /// The number of the last one that is gone.
    pub(crate) fn gone(&self) -> u64 {
        let ring = self.lock();
        ring.newest - ring.rows.len() as u64
    }

    /// Tells of each newer one.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// So many of those behind a number.
    pub(crate) fn after(&self, number: u64, limit: usize) -> Unread {
        let ring = self.lock();
        let number = number.min(ring.newest);
        let gone = ring.newest - ring.rows.len() as u64;
        let missed = gone.saturating_sub(number);
        let skip = usize::try_from(number.saturating_sub(gone)).unwrap_or(usize::MAX);
        let rows = ring.rows.range(skip.min(ring.rows.len())..).take(limit).cloned().collect();
        Unread { missed, rows }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Arc<Events> {
    fn observe(&self, told: &Told, at: SystemTime) {
        // The metrics have those, which come by the million, or would leave no room for others.
        if told.quiet || is_surplus(&told.event) || matches!(told.event, Event::Dropped(_)) {
            return;
        }
        // All tasks wait for the ring: what is made for it and thrown away is, without it.
        let mut row = Arc::new(Row::of(told, at, self.instance));
        let mut ring = self.lock();
        ring.newest += 1;
        if let Some(row) = Arc::get_mut(&mut row) {
            row.id.number = ring.newest;
        }
        let oldest = if ring.rows.len() < EVENTS_KEPT { None } else { ring.rows.pop_front() };
        ring.rows.push_back(row);
        drop(ring);
        drop(oldest);
        self.told.inc();
        // Whoever reads has subscribed before he has looked into the ring.
        if self.news.receiver_count() > 0 {
            self.news.send_replace(());
        }
    }
}

impl Row {
    /// Its number is that of its place in the ring.
    fn of(told: &Told, at: SystemTime, instance: u32) -> Self {
        let (event, reason) = told.event.code();
        let at_ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let (workers, more) = More::of(&told.event);
        Self {
            id: EventId { instance, number: 0 },
            at_ms: u64::try_from(at_ms).unwrap_or(u64::MAX),
            event,
            reason,
            room: told.room.clone(),
            session: told.session.map(|(session, _)| session),
            nats: told.session.map(|(_, nats)| nats),
            workers,
            more,
        }
    }
}

impl More {
    fn of(event: &Event) -> (Vec<WorkerId>, Self) {
        let one = |worker: &WorkerId| vec![worker.clone()];
        let nothing = Self::default();
        let cut = |text: &str| text[..text.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned();
        match event {
            Event::Registered(worker, observed) => {
                (one(worker), Self { ip: Some(observed.ip), ..nothing })
            }
            Event::PublicIp(worker, ip) => (one(worker), Self { ip: Some(*ip), ..nothing }),
            Event::Queued { worker, endpoint, waiting } => {
                let (endpoint, waiting) = (Some(*endpoint), Some(*waiting));
                (one(worker), Self { endpoint, waiting, ..nothing })
            }
            Event::ReportRefused(worker, _, detail, _)
            | Event::MessageIgnored(worker, _, detail, _) => {
                (one(worker), Self { detail: cut(detail), ..nothing })
            }
            Event::Paired(first, second) => (vec![first.clone(), second.clone()], nothing),
            Event::SessionStarted(workers, strategy, reason) => {
                let strategy = Some(strategy.as_str());
                (workers.to_vec(), Self { strategy, detail: cut(reason), ..nothing })
            }
            Event::Replanned(strategy, reason) => {
                let strategy = Some(strategy.as_str());
                (Vec::new(), Self { strategy, detail: cut(reason), ..nothing })
            }
            Event::LinkState(worker, report) => {
                let more = Self {
                    strategy: Some(report.strategy.as_str()),
                    elapsed_ms: Some(report.elapsed_ms),
                    rtt_ms: report.rtt_ms,
                    detail: cut(&report.reason),
                    ..nothing
                };
                (one(worker), more)
            }
            Event::Refused(worker, _)
            | Event::CallRefused(worker, _)
            | Event::PingOverdue(worker)
            | Event::Left(worker, _) => (one(worker), nothing),
            Event::Unreadable(from) => {
                let detail = format!("process {}", from.process());
                (Vec::new(), Self { detail, ..nothing })
            }
            Event::SessionEnded(_) | Event::Dropped(_) | Event::Denied(_) => (Vec::new(), nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use holepunch_matchmaker::DropReason;

    use super::*;
    use crate::telling::IGNORED_LOGGED_MAX;

    fn left(events: &Arc<Events>, times: usize) {
        let worker = WorkerId::new("a").unwrap();
        for _ in 0..times {
            events.observe(&Event::PingOverdue(worker.clone()).told(None), UNIX_EPOCH);
        }
    }

    fn numbers(unread: &Unread) -> Vec<u64> {
        unread.rows.iter().map(|row| row.id.number).collect()
    }

    #[test]
    fn the_last_events_are_kept_and_it_is_known_how_many_are_gone() {
        let events = Arc::new(Events::new(7));
        assert!(events.after(0, 10).rows.is_empty());
        left(&events, 3);
        assert_eq!(numbers(&events.after(0, 2)), [1, 2]);
        assert_eq!(numbers(&events.after(2, 9)), [3]);
        assert_eq!(events.after(u64::MAX, 9).rows.len(), 0, "nobody knows what is to come");
        left(&events, EVENTS_KEPT);
        let late = events.after(1, 1);
        assert_eq!((late.missed, numbers(&late)), (2, vec![4]));
        let row = events.after(events.newest() - 1, 9);
        assert_eq!(row.rows[0].id.to_string(), format!("00000007-{}", EVENTS_KEPT + 3));
        assert_eq!(row.rows[0].id.to_string().parse(), Ok(row.rows[0].id));
    }

    #[test]
    fn what_comes_by_the_million_is_left_to_the_metrics_and_what_is_long_is_cut() {
        let events = Arc::new(Events::new(7));
        events.observe(&Event::Dropped(DropReason::NotJson).told(None), UNIX_EPOCH);
        let worker = WorkerId::new("a").unwrap();
        let quiet = Told { quiet: true, ..Event::PingOverdue(worker.clone()).told(None) };
        events.observe(&quiet, UNIX_EPOCH);
        let again = || "why".to_owned();
        let again = Event::ReportRefused(worker.clone(), "bad", again(), IGNORED_LOGGED_MAX);
        events.observe(&again.told(None), UNIX_EPOCH);
        assert_eq!(events.newest(), 0);
        let refused = Event::ReportRefused(worker, "bad", "ü".repeat(60_000), 0).told(None);
        events.observe(&refused, UNIX_EPOCH);
        let text = serde_json::to_string(&*events.after(0, 1).rows[0]).unwrap();
        assert!(text.len() < 512, "{text}");
    }
}
