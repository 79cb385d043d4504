//! What workers report of their links, session by session.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use holepunch_matchmaker::{Event, Room, Told};
use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatClass;
use holepunch_wire::plan::Strategy;
use holepunch_wire::session::{LinkState, SessionId};
use holepunch_wire::signal::v1::LinkReport;

/// Sessions whose links are remembered, some 400 bytes each. The one that began first is forgotten first.
const LINKS_MAX: usize = 65_536;

/// What is known of one session's link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) room: Option<Room>,
    pub(crate) nats: [NatClass; 2],
    pub(crate) strategy: Strategy,
    pub(crate) began: SystemTime,
    /// In the order of the offer.
    pub(crate) workers: [WorkerId; 2],
    /// The last report of each of them.
    pub(crate) reports: [Option<LinkReport>; 2],
    /// The best path that either has told.
    pub(crate) best: Path,
    number: u64,
}

/// By which path two are linked, the better one last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    None,
    Relayed,
    Direct,
}

impl Path {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Relayed => "relayed",
            Self::Direct => "direct",
        }
    }

    fn of(state: LinkState) -> Self {
        match state {
            LinkState::Direct => Self::Direct,
            LinkState::Relayed => Self::Relayed,
            LinkState::Checking
            | LinkState::Repairing
            | LinkState::Declined
            | LinkState::Failed => Self::None,
        }
    }
}

/// What follows from an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The two have a better path than before, so long after their offer.
    Linked(Path, Strategy, Duration),
    /// The session is over, and this was the best that it had.
    Ended(Path),
}

/// Every session that is under way, as far as there is room.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    links: BTreeMap<SessionId, Link>,
    /// In the order of their beginning.
    order: BTreeMap<u64, SessionId>,
    next: u64,
}

impl Links {
    /// Takes in what has happened.
    pub(crate) fn observe(&self, told: &Told, at: SystemTime) -> Option<News> {
        let (session, nats) = told.session?;
        if let Event::SessionStarted(workers, strategy, _) = &told.event {
            self.lock().begin(session, |number| Link {
                room: told.room.clone(),
                nats,
                strategy: *strategy,
                began: at,
                workers: workers.clone(),
                reports: [None, None],
                best: Path::None,
                number,
            });
        } else if let Event::Replanned(strategy, _) = &told.event {
            let mut table = self.lock();
            let link = table.links.get_mut(&session)?;
            (link.nats, link.strategy) = (nats, *strategy);
        } else if let Event::LinkState(worker, report) = &told.event {
            return self.lock().links.get_mut(&session)?.report(worker, (report, nats), at);
        } else if let Event::SessionEnded(_) = &told.event {
            return Some(News::Ended(self.lock().remove(session)?.best));
        }
        None
    }

    /// One of them.
    #[cfg(feature = "otel")]
    pub(crate) fn find(&self, session: SessionId) -> Option<Link> {
        self.lock().links.get(&session).cloned()
    }

    /// Reads them, by their number, behind this one.
    pub(crate) fn read<T>(
        &self,
        after: Option<SessionId>,
        read: impl FnOnce(&mut dyn Iterator<Item = (SessionId, &Link)>) -> T,
    ) -> T {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let table = self.lock();
        read(&mut table.links.range((from, Bound::Unbounded)).map(|(id, link)| (*id, link)))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn report(
        &mut self,
        worker: &WorkerId,
        (report, nats): (&LinkReport, [NatClass; 2]),
        at: SystemTime,
    ) -> Option<News> {
        let own = self.workers.iter().position(|it| it == worker)?;
        self.reports[own] = Some(report.clone());
        self.nats = nats;
        let path = Path::of(report.state);
        if path <= self.best {
            return None;
        }
        self.best = path;
        // Nobody has been linked for longer than there was an offer, whatever he says.
        let since = at.duration_since(self.began).unwrap_or_default();
        let elapsed = Duration::from_millis(report.elapsed_ms).min(since);
        Some(News::Linked(path, report.strategy, elapsed))
    }
}

impl Table {
    fn begin(&mut self, session: SessionId, link: impl FnOnce(u64) -> Link) {
        if self.links.len() >= LINKS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.links.remove(&oldest);
        }
        self.next += 1;
        self.order.insert(self.next, session);
        if let Some(before) = self.links.insert(session, link(self.next)) {
            self.order.remove(&before.number);
        }
    }

    fn remove(&mut self, session: SessionId) -> Option<Link> {
        let link = self.links.remove(&session)?;
        self.order.remove(&link.number);
        Some(link)
    }
}

#[cfg(test)]
mod tests {
    use holepunch_wire::reason::EndReason;

    use super::*;

    const NATS: [NatClass; 2] = [NatClass::Easy; 2];

    fn told(session: u64, event: Event) -> Told {
        Told { session: Some((SessionId(session), NATS)), ..event.told(None) }
    }

    fn worker(name: &str) -> WorkerId {
        WorkerId::new(name).unwrap()
    }

    fn started() -> Event {
        Event::SessionStarted([worker("a"), worker("b")], Strategy::Plain, String::new())
    }

    fn report(session: u64, state: LinkState, elapsed_ms: u64) -> LinkReport {
        let (session, strategy, number) = (SessionId(session), Strategy::Opener, 1);
        let (reason, rtt_ms, probes) = (String::new(), None, 0);
        LinkReport { session, state, strategy, number, reason, rtt_ms, elapsed_ms, probes }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_link_is_timed_once_by_each_path_and_for_no_longer_than_it_was_offered() {
        let links = Links::default();
        assert_eq!(links.observe(&told(1, started()), at(100)), None);
        let says = |name: &str, state, ms, seconds| {
            let event = Event::LinkState(worker(name), report(1, state, ms));
            links.observe(&told(1, event), at(seconds))
        };
        let linked =
            |path, ms| Some(News::Linked(path, Strategy::Opener, Duration::from_millis(ms)));
        assert_eq!(says("a", LinkState::Checking, 5, 101), None);
        assert_eq!(says("a", LinkState::Relayed, 700, 101), linked(Path::Relayed, 700));
        assert_eq!(says("b", LinkState::Relayed, 800, 101), None, "they have that path");
        assert_eq!(says("x", LinkState::Direct, 800, 101), None, "none of the two");
        assert_eq!(says("b", LinkState::Direct, u64::MAX, 103), linked(Path::Direct, 3000));
        assert_eq!(says("a", LinkState::Direct, 900, 104), None);
        assert_eq!(says("a", LinkState::Repairing, 9000, 109), None);
        let over = told(1, Event::SessionEnded(EndReason::PeerLeft));
        assert_eq!(links.observe(&over, at(110)), Some(News::Ended(Path::Direct)));
        assert_eq!(links.observe(&over, at(110)), None);
        assert!(links.lock().links.is_empty() && links.lock().order.is_empty());
    }

    #[test]
    fn the_oldest_session_is_forgotten_where_there_are_too_many() {
        let links = Links::default();
        for session in 0..=LINKS_MAX as u64 {
            links.observe(&told(session, started()), at(1));
        }
        let table = links.lock();
        assert_eq!((table.links.len(), table.order.len()), (LINKS_MAX, LINKS_MAX));
        assert_eq!(table.links.keys().next(), Some(&SessionId(1)));
    }
}
