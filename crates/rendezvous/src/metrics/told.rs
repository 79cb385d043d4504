//! What happens, as counters.

use std::fmt::{self, Write};

use holepunch_matchmaker::{DropReason, Event, LeaveReason, Told};
use holepunch_wire::nat::NatClass;
use holepunch_wire::plan::Strategy;
use holepunch_wire::reason::{CallError, CloseReason, EndReason};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::words::{ByWord, Word, by_reason};
use crate::links::{News, Path};
use crate::tokens::REFUSAL_CODES;

/// Seconds from an offer to a link. Most are there within a second; searches for ports take up to half a minute.
const TIME_TO_LINK: [f64; 14] =
    [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];
/// The places of the protocols among their words.
const BASELINE: usize = 0;
const V1: usize = 1;

/// The classes of two NATs, in whatever order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Nats(&'static str, &'static str);

impl Nats {
    fn of(mut classes: [NatClass; 2]) -> Self {
        classes.sort_unstable();
        Self(classes[0].code(), classes[1].code())
    }
}

impl EncodeLabelValue for Nats {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        write!(encoder, "{}/{}", self.0, self.1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Planned {
    nats: Nats,
    strategy: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    nats: Nats,
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Linked {
    nats: Nats,
    path: &'static str,
    strategy: &'static str,
}

fn time_to_link() -> Histogram {
    Histogram::new(TIME_TO_LINK)
}

#[derive(Debug)]
pub(super) struct Counters {
    registrations: Counter,
    registrations_refused: ByWord,
    left: ByWord,
    reports_refused: Family<Word, Counter>,
    denied: Family<Word, Counter>,
    waits: Counter,
    pairings: ByWord,
    offers: ByWord,
    calls_refused: ByWord,
    started: Family<Planned, Counter>,
    replanned: Family<Word, Counter>,
    link_reports: Family<Word, Counter>,
    ended: ByWord,
    outcomes: Family<Outcome, Counter>,
    time_to_link: Family<Linked, Histogram, fn() -> Histogram>,
    dropped: ByWord,
    pings_overdue: Counter,
}

impl Counters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let protocols = || ByWord::new("protocol", ["baseline", "v1"]);
        let all = Self {
            registrations: Counter::default(),
            registrations_refused: by_reason!(CloseReason),
            left: by_reason!(LeaveReason),
            reports_refused: Family::default(),
            denied: ByWord::new("reason", REFUSAL_CODES).family(),
            waits: Counter::default(),
            pairings: protocols(),
            offers: protocols(),
            calls_refused: by_reason!(CallError),
            started: Family::default(),
            replanned: Family::default(),
            link_reports: Family::default(),
            ended: by_reason!(EndReason),
            outcomes: Family::default(),
            time_to_link: Family::new_with_constructor(time_to_link),
            dropped: by_reason!(DropReason),
            pings_overdue: Counter::default(),
        };
        let mut add = |name, help, family| registry.register(name, help, family);
        add("registrations_refused", "WebSockets refused", all.registrations_refused.family());
        add("workers_left", "Workers that have left", all.left.family());
        add("reports_refused", "UDP endpoints refused", all.reports_refused.clone());
        add("denied", "What tokens did not allow", all.denied.clone());
        add("pairings", "Pairs that were offered each other", all.pairings.family());
        add("offers", "Offers made, two for each pair", all.offers.family());
        add("calls_refused", "Calls that came to nothing for now", all.calls_refused.family());
        add("sessions_replanned", "Further plans of sessions", all.replanned.clone());
        add("link_reports", "What workers say of their links", all.link_reports.clone());
        add("sessions_ended", "Sessions that have ended", all.ended.family());
        add("dropped", "Messages and news left alone", all.dropped.family());
        let mut add = |name, help, counter| registry.register(name, help, counter);
        add("registrations", "Workers that have registered", all.registrations.clone());
        add("waits", "Workers put into a ready queue", all.waits.clone());
        add("pings_overdue", "Pings that were not answered in time", all.pings_overdue.clone());
        registry.register("sessions_started", "Sessions offered", all.started.clone());
        let outcomes = "Sessions that have ended, by the best path that they had";
        registry.register("session_outcomes", outcomes, all.outcomes.clone());
        let time = "Time from the offer to the first report of a path";
        registry.register("time_to_link_seconds", time, all.time_to_link.clone());
        all
    }

    /// Counts what has happened, and what follows from it of a session's link.
    pub(super) fn count(&self, told: &Told, news: Option<News>) {
        let nats = told.session.map(|(_, classes)| Nats::of(classes));
        self.count_event(&told.event, nats.as_ref());
        let Some((news, nats)) = news.zip(nats) else { return };
        match news {
            News::Linked(path, strategy, time) => {
                let linked = Linked { nats, path: path.code(), strategy: strategy.as_str() };
                self.time_to_link.get_or_create(&linked).observe(time.as_secs_f64());
            }
            News::Ended(path) => self.count_outcome(path, nats),
        }
    }

    fn count_event(&self, event: &Event, nats: Option<&Nats>) {
        match event {
            Event::Registered(..) => drop(self.registrations.inc()),
            Event::Refused(_, why) => self.registrations_refused.add(*why as usize, 1),
            // What cannot be read is counted as dropped, the first one too.
            Event::PublicIp(..) | Event::Unreadable(_) => {}
            Event::Queued { .. } => drop(self.waits.inc()),
            Event::ReportRefused(_, why, ..) => {
                self.reports_refused.get_or_create(&[("reason", *why)]).inc();
            }
            Event::Paired(..) => self.count_pair(BASELINE),
            Event::CallRefused(_, why) => self.calls_refused.add(*why as usize, 1),
            Event::SessionStarted(_, strategy, _) => {
                self.count_pair(V1);
                self.count_start(*strategy, nats);
            }
            Event::Replanned(strategy, _) => {
                self.replanned.get_or_create(&[("strategy", strategy.as_str())]).inc();
            }
            Event::LinkState(_, report) => {
                self.link_reports.get_or_create(&[("state", report.state.code())]).inc();
            }
            Event::SessionEnded(why) => self.ended.add(*why as usize, 1),
            Event::MessageIgnored(_, why, ..) | Event::Dropped(why) => {
                self.dropped.add(*why as usize, 1);
            }
            Event::PingOverdue(_) => drop(self.pings_overdue.inc()),
            Event::Denied(why) => drop(self.denied.get_or_create(&[("reason", *why)]).inc()),
            Event::Left(_, why) => self.left.add(*why as usize, 1),
        }
    }

    fn count_pair(&self, protocol: usize) {
        self.pairings.add(protocol, 1);
        self.offers.add(protocol, 2);
    }

    fn count_start(&self, strategy: Strategy, nats: Option<&Nats>) {
        let Some(nats) = nats.cloned() else { return };
        self.started.get_or_create(&Planned { nats, strategy: strategy.as_str() }).inc();
    }

    fn count_outcome(&self, path: Path, nats: Nats) {
        self.outcomes.get_or_create(&Outcome { nats, path: path.code() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_the_place_of_its_number() {
        let words = by_reason!(DropReason);
        words.add(DropReason::NotJson as usize, 1);
        words.add(DropReason::Unknown as usize, 2);
        let count = |word| words.family().get_or_create(&[("reason", word)]).get();
        assert_eq!(count(DropReason::NotJson.code()), 1);
        assert_eq!(count(DropReason::Unknown.code()), 2);
        assert_eq!(count(DropReason::NotText.code()), 0);
    }

    #[test]
    fn two_nats_are_the_same_in_whatever_order() {
        let (easy, hard) = (NatClass::Easy, NatClass::Hard);
        assert_eq!(Nats::of([easy, hard]), Nats::of([hard, easy]));
    }
}
