//! The pairing machine under a virtual clock.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Action, Closing, Config, ConnectionId, Event, Input, LeaveReason, Matchmaker, Observed,
    Protocol, WakeReason,
};
use holepunch_wire::WorkerId;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::signal::{FromServer, FromWorker};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// With more workers than this, not every step is followed by a look at all of them.
#[cfg(debug_assertions)]
const CHECKED_MAX: usize = 100;

/// A machine, a clock, and what was sent to whom.
struct Table {
    machine: Matchmaker,
    now: Instant,
    sent: BTreeMap<u64, Vec<Action>>,
    events: Vec<Event>,
    /// Those that are to be counted alone.
    quiet: Vec<Event>,
}

impl Table {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let machine = Matchmaker::new(Config::default(), StdRng::seed_from_u64(1));
        Self { machine, now, sent: BTreeMap::new(), events: Vec::new(), quiet: Vec::new() }
    }

    fn input(&mut self, input: Input<'_>) {
        self.machine.handle_input(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        // It looks at everybody: in a crowd every step would cost a look at all.
        #[cfg(debug_assertions)]
        if self.machine.workers().nth(CHECKED_MAX).is_none() {
            self.machine.check_invariants();
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            self.sent.entry(transmit.connection.0).or_default().push(transmit.action);
        }
        while let Some(told) = self.machine.poll_event() {
            let events = if told.quiet { &mut self.quiet } else { &mut self.events };
            events.push(told.event);
        }
    }

    fn connect(&mut self, session: u64, worker: &str) {
        let worker = WorkerId::new(worker).unwrap();
        let observed = Observed { ip: "198.51.100.1".parse().unwrap(), port: Some(1000) };
        self.input(Input::Connected {
            connection: ConnectionId(session),
            worker,
            observed,
            protocol: Protocol::Baseline,
            room: None,
            challenge: String::new(),
            permit: Default::default(),
        });
    }

    fn message(&mut self, session: u64, text: &str) {
        let message = FromWorker::parse(text).unwrap();
        self.input(Input::Message { connection: ConnectionId(session), message, proved: None });
    }

    fn report(&mut self, session: u64, port: u16) {
        self.message(
            session,
            &format!(
                r#"{{"type":"update_udp_endpoint","udp_ip":"203.0.113.1","udp_port":{port}}}"#
            ),
        );
    }

    fn close(&mut self, session: u64, offer_unsent: bool) {
        let closing = if offer_unsent { Closing::OfferUnsent } else { Closing::Broken };
        self.input(Input::Closed { connection: ConnectionId(session), closing });
    }

    /// Lets time pass, from one wake-up to the next.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = at;
            self.machine.handle_timeout(at);
            self.drain();
        }
        self.now = end;
    }

    /// The peers offered to a session so far.
    fn offers(&self, session: u64) -> Vec<String> {
        let actions = self.sent.get(&session).map(Vec::as_slice).unwrap_or_default();
        actions.iter().filter_map(offered_peer).collect()
    }

    fn ready(&self) -> Vec<&str> {
        self.machine.ready().map(WorkerId::as_str).collect()
    }
}

fn offered_peer(action: &Action) -> Option<String> {
    let Action::Offer(text) = action else { return None };
    let Ok(FromServer::Offer(Ok(offer))) = FromServer::parse(text) else { panic!("{text}") };
    Some(offer.peer.as_str().to_owned())
}

#[test]
fn what_a_worker_says_of_itself_again_and_again_is_told_now_and_then() {
    let mut table = Table::new();
    let told = |table: &mut Table| {
        table.events.clear();
        for n in 0..1000 {
            let ip = n % 2 + 1;
            table.message(1, &format!(r#"{{"type":"register_public_ip","ip":"8.8.8.{ip}"}}"#));
            table.report(1, 4001 + ip);
            table.report(2, 5001 + ip);
        }
        table.events.len()
    };
    table.connect(1, "a");
    table.connect(2, "b");
    let first = told(&mut table);
    assert!((10..=20).contains(&first), "{first}");
    table.pass(Duration::from_secs(3));
    let later = told(&mut table);
    assert!((3..=6).contains(&later), "{later}");
    let offers = table.offers(1).len();
    assert!(offers > 1000, "what is not told happens all the same");
    let is_pair = |event: &&Event| matches!(event, Event::Paired(..));
    let quiet = table.quiet.iter().filter(is_pair).count();
    assert!((offers - 30..offers).contains(&quiet), "and is to be counted: {quiet} of {offers}");
}

#[test]
fn two_reports_make_a_pair_and_the_ack_goes_before_the_offer() {
    let mut table = Table::new();
    table.connect(1, "a");
    table.connect(2, "b");
    table.report(1, 4001);
    assert_eq!(table.ready(), ["a"]);
    table.report(2, 4002);
    assert_eq!(table.offers(1), ["b"]);
    assert_eq!(table.offers(2), ["a"]);
    assert!(table.ready().is_empty());
    assert!(matches!(table.sent[&2][..], [Action::Send(_), Action::Offer(_)]));
    let last = table.events.last().unwrap();
    assert!(matches!(last, Event::Paired(first, _) if first.as_str() == "a"));
}

#[test]
fn a_new_report_asks_for_another_peer() {
    let mut table = Table::new();
    for (session, worker) in [(1, "a"), (2, "b"), (3, "c")] {
        table.connect(session, worker);
        table.report(session, 4000 + u16::try_from(session).unwrap());
    }
    assert_eq!(table.ready(), ["c"]);
    table.close(2, false);
    table.report(1, 4001);
    assert_eq!(table.offers(1), ["b", "c"]);
    assert_eq!(table.offers(3), ["a"]);
}

#[test]
fn reporting_twice_keeps_one_place() {
    let mut table = Table::new();
    table.connect(1, "a");
    table.report(1, 4001);
    table.report(1, 4001);
    table.report(1, 4005);
    assert_eq!(table.ready(), ["a"]);
    assert!(table.offers(1).is_empty());
}

#[test]
fn two_ids_with_one_endpoint_are_not_paired_and_a_third_gets_the_longest_waiter() {
    let mut table = Table::new();
    for (session, worker) in [(1, "a"), (2, "b"), (3, "c")] {
        table.connect(session, worker);
    }
    table.report(1, 4000);
    table.report(2, 4000);
    assert_eq!(table.ready(), ["a", "b"]);
    table.report(3, 4003);
    assert_eq!(table.offers(3), ["a"]);
    assert_eq!(table.ready(), ["b"]);
    table.report(1, 4001);
    assert_eq!(table.offers(2), ["a"]);
}

#[test]
fn an_endpoint_that_changes_in_the_queue_can_make_the_pair() {
    let mut table = Table::new();
    table.connect(1, "a");
    table.connect(2, "b");
    table.report(1, 4000);
    table.report(2, 4000);
    table.report(1, 4001);
    assert_eq!(table.offers(1), ["b"]);
    assert_eq!(table.offers(2), ["a"]);
}

#[test]
fn the_same_id_replaces_its_session_and_the_late_end_of_the_old_one_changes_nothing() {
    let mut table = Table::new();
    table.connect(1, "a");
    table.report(1, 4001);
    table.connect(2, "a");
    let [.., Action::Close(reason)] = table.sent[&1][..] else { panic!("{:?}", table.sent[&1]) };
    assert_eq!(reason, CloseReason::Replaced);
    assert!(table.ready().is_empty(), "the place in the queue is dropped");
    assert!(table.machine.workers().next().unwrap().endpoint.is_none(), "all values are unknown");
    table.close(1, false);
    assert_eq!(table.machine.workers().count(), 1);
    table.report(1, 4001);
    assert!(table.ready().is_empty(), "the old session reports nothing any more");
}

#[test]
fn a_worker_that_leaves_is_offered_to_nobody() {
    let mut table = Table::new();
    table.connect(1, "a");
    table.report(1, 4001);
    table.close(1, false);
    table.connect(2, "b");
    table.report(2, 4002);
    assert!(table.offers(2).is_empty());
    assert_eq!(table.ready(), ["b"]);
}

#[test]
fn when_an_offer_cannot_be_sent_the_other_goes_back_to_its_place() {
    let mut table = Table::new();
    for (session, worker) in [(1, "a"), (2, "b"), (3, "c")] {
        table.connect(session, worker);
    }
    table.report(1, 4001);
    table.report(2, 4002);
    table.report(3, 4003);
    table.close(2, true);
    assert_eq!(table.offers(1), ["b", "c"]);
    assert_eq!(table.offers(3), ["a"]);
    table.close(3, true);
    assert_eq!(table.ready(), ["a"]);
}

#[test]
fn a_session_that_never_answers_is_held_back_and_then_closed() {
    let mut table = Table::new();
    table.connect(1, "dead");
    table.report(1, 4001);
    table.pass(Duration::from_secs(25));
    assert!(table.sent[&1].contains(&Action::Ping));
    assert_eq!(table.ready(), ["dead"]);
    table.pass(Duration::from_secs(5));
    assert!(table.ready().is_empty(), "a ping is overdue");
    table.connect(2, "b");
    table.report(2, 4002);
    assert!(table.offers(2).is_empty());
    table.pass(Duration::from_secs(20));
    let last = table.sent[&1].last();
    assert!(matches!(last, Some(Action::Close(CloseReason::PingTimeout))), "{last:?}");
    let left = Event::Left(WorkerId::new("dead").unwrap(), LeaveReason::PingTimeout);
    assert!(table.events.contains(&left));
}

#[test]
fn a_late_pong_gives_the_old_place_back() {
    let mut table = Table::new();
    table.connect(1, "slow");
    table.report(1, 4001);
    table.pass(Duration::from_secs(31));
    table.connect(2, "b");
    table.report(2, 4002);
    assert!(table.offers(2).is_empty());
    table.input(Input::Pong { connection: ConnectionId(1) });
    assert_eq!(table.offers(1), ["b"]);
    assert_eq!(table.offers(2), ["slow"]);
}

#[test]
fn a_session_that_answers_lives_on() {
    let mut table = Table::new();
    table.connect(1, "a");
    for _ in 0..20 {
        table.pass(Duration::from_secs(25));
        table.input(Input::Pong { connection: ConnectionId(1) });
    }
    assert_eq!(table.machine.workers().count(), 1);
    let (at, why) = table.machine.poll_timeout().unwrap();
    assert_eq!((at - table.now, why), (Duration::from_secs(25), WakeReason::Ping));
}

#[test]
fn a_refused_report_says_why_and_pairs_nobody() {
    let mut table = Table::new();
    table.connect(1, "a");
    table.connect(2, "b");
    table.report(1, 4001);
    for (ip, port) in [("\"10.0.0.1\"", "1"), ("\"224.0.0.1\"", "1"), ("\"8.8.8.8\"", "0")] {
        table.message(
            2,
            &format!(r#"{{"type":"update_udp_endpoint","udp_ip":{ip},"udp_port":{port}}}"#),
        );
        let Some(Action::Send(text)) = table.sent[&2].last() else { panic!() };
        let Ok(FromServer::UdpEndpointAck(Err(detail))) = FromServer::parse(text) else {
            panic!("{text}")
        };
        assert!(!detail.is_empty());
    }
    assert!(table.offers(1).is_empty());
    assert_eq!(table.ready(), ["a"]);
}

#[test]
fn shutdown_tells_everybody() {
    let mut table = Table::new();
    table.connect(1, "a");
    table.connect(2, "b");
    table.input(Input::Shutdown);
    for session in [1, 2] {
        assert!(matches!(table.sent[&session][..], [Action::Close(CloseReason::ShuttingDown)]));
    }
    assert_eq!(table.machine.workers().count(), 0);
    assert!(table.machine.poll_timeout().is_none());
}

#[test]
fn a_session_that_comes_after_the_shutdown_is_told_too() {
    let mut table = Table::new();
    table.input(Input::Shutdown);
    table.connect(1, "a");
    assert!(matches!(table.sent[&1][..], [Action::Close(CloseReason::ShuttingDown)]));
    assert_eq!(table.machine.workers().count(), 0);
    assert!(table.machine.poll_timeout().is_none());
}

#[test]
fn a_session_that_finds_the_house_full_is_sent_away_and_one_that_replaces_its_own_is_not() {
    let mut table = Table::new();
    let config = Config { workers_max: 1, ..Config::default() };
    table.machine = Matchmaker::new(config, StdRng::seed_from_u64(1));
    table.connect(1, "a");
    table.connect(2, "b");
    assert!(matches!(table.sent[&2][..], [Action::Close(CloseReason::Full)]));
    table.close(2, false);
    table.connect(3, "a");
    assert!(matches!(table.sent[&1][..], [Action::Close(CloseReason::Replaced)]));
    assert_eq!(table.machine.workers().count(), 1);
    table.close(3, false);
    table.connect(4, "b");
    assert_eq!(table.machine.workers().count(), 1);
}

#[test]
fn five_thousand_reports_pair_everybody_exactly_once() {
    let mut table = Table::new();
    for session in 0..5000_u64 {
        table.connect(session, &format!("w{session}"));
    }
    for session in 0..5000_u64 {
        table.report(session, u16::try_from(session + 1).unwrap());
    }
    for session in 0..5000_u64 {
        let offers = table.offers(session);
        assert_eq!(offers.len(), 1, "w{session}");
        let peer: u64 = offers[0][1..].parse().unwrap();
        assert_eq!(table.offers(peer), [format!("w{session}")]);
    }
}

#[test]
fn those_who_suit_nobody_are_in_nobodys_way() {
    let mut table = Table::new();
    for session in 1..=400 {
        table.connect(session, &format!("idle{session}"));
        table.input(Input::Message {
            connection: ConnectionId(session),
            message: FromWorker::parse(
                r#"{"type":"update_udp_endpoint","udp_ip":"2001:db8::1","udp_port":5}"#,
            )
            .unwrap(),
            proved: None,
        });
    }
    table.connect(501, "a");
    table.report(501, 1);
    table.connect(502, "b");
    table.report(502, 2);
    assert_eq!(table.offers(501), ["b"]);
}

#[derive(Debug, Clone)]
enum Step {
    Connect(u8),
    Report(u8, u16),
    Close(u8, bool),
    Pong(u8),
    Pass(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..6_u8).prop_map(Step::Connect),
        (0..6_u8, 1..5_u16).prop_map(|(worker, port)| Step::Report(worker, port)),
        (0..6_u8, any::<bool>()).prop_map(|(worker, unsent)| Step::Close(worker, unsent)),
        (0..6_u8).prop_map(Step::Pong),
        (1..30_u8).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens: who waits is registered, waits once, and could not be paired with anybody
    /// else who waits.
    #[test]
    fn the_queue_never_names_a_dead_session_and_never_keeps_a_pair_apart(steps in steps()) {
        let mut table = Table::new();
        let mut session = BTreeMap::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Connect(worker) => {
                    next += 1;
                    session.insert(worker, next);
                    table.connect(next, &format!("w{worker}"));
                }
                Step::Report(worker, port) => {
                    if let Some(&id) = session.get(&worker) { table.report(id, port); }
                }
                Step::Close(worker, unsent) => {
                    if let Some(&id) = session.get(&worker) { table.close(id, unsent); }
                }
                Step::Pong(worker) => {
                    if let Some(&id) = session.get(&worker) {
                        table.input(Input::Pong { connection: ConnectionId(id) });
                    }
                }
                Step::Pass(seconds) => table.pass(Duration::from_secs(seconds.into())),
            }
            let workers: BTreeMap<_, _> =
                table.machine.workers().map(|worker| (worker.id.as_str(), worker.endpoint)).collect();
            let ready = table.ready();
            let endpoints: Vec<_> = ready.iter().map(|id| workers.get(id)).collect();
            prop_assert!(endpoints.iter().all(Option::is_some), "{ready:?} {workers:?}");
            prop_assert!(endpoints.windows(2).all(|two| two[0] == two[1]), "{ready:?} {workers:?}");
            let mut once = ready.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), ready.len());
        }
    }
}
