//! One side of a link, with a QUIC connection that answers as the test says.

use std::time::{Duration, Instant};

use crate::{
    Action, Answer, Counts, End, Event, Input, Listed, PathId, Paths, Reason, Route, Routes,
    Status, WakeReason,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Direct(u16),
    Relay(u16),
}

impl Route for By {
    fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

const DIRECT: By = By::Direct(1);
const RELAY: By = By::Relay(1);
const MS: Duration = Duration::from_millis(1);

/// One side, and what QUIC says there.
struct Side {
    paths: Paths<By>,
    start: Instant,
    now: Instant,
    opens: bool,
    exchanges: bool,
    newest: u32,
    counts: Option<Counts>,
    peer: Option<By>,
    listed: Vec<Listed<By>>,
    actions: Vec<Action<By>>,
    events: Vec<Event<By>>,
}

fn routes(direct: Option<By>, relays: &[By]) -> Routes<By> {
    Routes { direct, relays: relays.to_vec(), ..Routes::default() }
}

fn listed(path: u32, is_validated: bool, route: Option<By>) -> Listed<By> {
    Listed { path: PathId(path), is_validated, is_abandoned: false, route }
}

impl Side {
    fn new(is_controlling: bool, first: By, routes: Routes<By>) -> Self {
        let now = crate::epoch();
        let mut side = Self {
            paths: Paths::new(is_controlling, first, routes, now),
            start: now,
            now,
            opens: true,
            exchanges: true,
            newest: 0,
            counts: Some(Counts::default()),
            peer: None,
            listed: vec![listed(0, true, Some(first))],
            actions: Vec::new(),
            events: Vec::new(),
        };
        side.drain();
        side
    }

    /// Both have a direct path, and one by the relay.
    fn with_both(is_controlling: bool) -> Self {
        let mut side = Self::new(is_controlling, DIRECT, routes(Some(DIRECT), &[RELAY]));
        side.established(1, RELAY);
        assert_eq!(side.paths.active(), Some((PathId(0), DIRECT)));
        side.news();
        side
    }

    fn drain(&mut self) {
        while let Some(action) = self.paths.poll_transmit() {
            self.actions.push(action);
            let answer = match action {
                Action::Open { route, .. } => {
                    self.newest += u32::from(self.opens);
                    let path = self.opens.then_some(PathId(self.newest));
                    Answer::Opened { route, path }
                }
                Action::Exchange(_) => Answer::Exchanged(self.exchanges),
                Action::Unbatch(_) => Answer::Unbatched(true),
                Action::Count(path) => Answer::Counted(path, self.counts),
                Action::Locate(path) => Answer::Located(path, self.peer),
                Action::List => Answer::Listed(self.listed.clone()),
                Action::Close(_) | Action::SetStatus(..) | Action::Ping(_) | Action::Watch(_) => {
                    continue;
                }
            };
            self.paths.handle_input(Input::Answer(answer), self.now);
        }
        while let Some(event) = self.paths.poll_event() {
            self.events.push(event);
        }
        self.paths.check_invariants();
    }

    fn input(&mut self, input: Input<By>) {
        self.paths.handle_input(input, self.now);
        self.drain();
    }

    fn established(&mut self, path: u32, route: By) {
        self.input(Input::Established { path: PathId(path), route: Some(route) });
    }

    fn suspect(&mut self, direct: By, relays: &[By]) {
        self.input(Input::Routes(Routes { is_suspect: true, ..routes(Some(direct), relays) }));
    }

    /// Lets time pass: the machine is called when it wants to be. Tells why it was.
    fn pass(&mut self, time: Duration) -> Vec<(u128, WakeReason)> {
        let (until, mut wakes) = (self.now + time, Vec::new());
        while let Some((at, why)) = self.paths.poll_timeout().filter(|(at, _)| *at <= until) {
            assert!(at > self.now || wakes.is_empty(), "called twice at a moment");
            self.now = at;
            wakes.push(((at - self.start).as_millis(), why));
            self.paths.handle_timeout(at);
            self.drain();
        }
        self.now = until;
        wakes
    }

    /// What has been done since this was asked last, without questions, and what has happened.
    fn news(&mut self) -> (Vec<Action<By>>, Vec<Event<By>>) {
        let is_deed = |action: &Action<By>| {
            !matches!(action, Action::Count(_) | Action::Locate(_) | Action::List)
        };
        let actions = std::mem::take(&mut self.actions).into_iter().filter(is_deed).collect();
        (actions, std::mem::take(&mut self.events))
    }

    fn reasons(&mut self) -> Vec<Reason> {
        let events = self.news().1.into_iter();
        events
            .filter_map(|event| match event {
                Event::Active { reason, .. } => Some(reason),
                Event::Doubt | Event::Narrow(_) | Event::Relayed(_) | Event::Ended(_) => None,
            })
            .collect()
    }
}

fn active(path: u32, route: By, reason: Reason) -> Event<By> {
    Event::Active { path: Some((PathId(path), route)), reason }
}

#[test]
fn the_first_path_is_used_and_the_side_that_connected_opens_the_others() {
    let mut side = Side::new(true, RELAY, routes(None, &[RELAY]));
    let (actions, events) = side.news();
    assert_eq!(events, [active(0, RELAY, Reason::First), Event::Relayed(true)]);
    let status = Action::SetStatus(PathId(0), Status::Available);
    assert_eq!(actions, [status, Action::Watch(None)]);
    side.input(Input::Routes(routes(Some(DIRECT), &[RELAY])));
    let open = Action::Open { route: DIRECT, status: Status::Available };
    assert_eq!(side.news(), (vec![open], vec![]), "a path that waits for the peer is not used");
    side.established(1, DIRECT);
    let (actions, events) = side.news();
    assert_eq!(events, [active(1, DIRECT, Reason::DirectAnswers)]);
    let statuses = [Status::Backup, Status::Available];
    let statuses = [0, 1].map(|path| Action::SetStatus(PathId(path), statuses[path as usize]));
    assert_eq!(actions, [&statuses[..], &[Action::Watch(Some(DIRECT))]].concat());
}

#[test]
fn the_side_that_accepts_opens_nothing_and_sends_where_its_peer_has_opened_a_path() {
    let mut side = Side::new(false, RELAY, routes(Some(DIRECT), &[RELAY]));
    assert!(side.pass(Duration::from_secs(60)).is_empty());
    side.established(1, DIRECT);
    let (actions, _) = side.news();
    assert!(!actions.iter().any(|it| matches!(it, Action::Open { .. } | Action::Close(_))));
    assert_eq!(side.paths.active(), Some((PathId(1), DIRECT)));
}

#[test]
fn a_path_that_quic_cannot_open_is_tried_again() {
    let mut side = Side::new(true, DIRECT, routes(Some(DIRECT), &[]));
    side.opens = false;
    side.input(Input::Routes(routes(Some(DIRECT), &[RELAY])));
    let wakes = side.pass(40 * MS);
    assert_eq!(wakes, [5, 15, 35].map(|at| (at, WakeReason::Again)));
    side.opens = true;
    side.pass(40 * MS);
    side.established(1, RELAY);
    assert_eq!(side.pass(Duration::from_secs(60)), [], "nothing is missing");
}

#[test]
fn a_direct_path_that_answers_no_more_is_left_and_closed_until_it_answers() {
    let mut side = Side::with_both(true);
    side.suspect(DIRECT, &[RELAY]);
    let (actions, events) = side.news();
    assert_eq!(events, [active(1, RELAY, Reason::DirectSilent)]);
    assert_eq!(actions.last(), Some(&Action::Close(PathId(0))));
    assert_eq!(side.pass(Duration::from_secs(60)), []);
    side.input(Input::Routes(routes(Some(DIRECT), &[RELAY])));
    side.established(2, DIRECT);
    assert_eq!(side.reasons(), [Reason::DirectAnswers]);
}

#[test]
fn the_side_that_accepts_leaves_a_direct_path_and_does_not_close_it() {
    let mut side = Side::with_both(false);
    side.suspect(DIRECT, &[RELAY]);
    let (actions, _) = side.news();
    assert!(!actions.contains(&Action::Close(PathId(0))));
    // The peer has opened another one, and knew sooner.
    side.established(2, DIRECT);
    assert_eq!(side.paths.active(), Some((PathId(2), DIRECT)), "that is newer than the silence");
}

#[test]
fn the_path_of_a_relay_that_is_gone_is_closed_where_another_way_serves() {
    let mut side = Side::with_both(true);
    side.input(Input::Routes(routes(Some(DIRECT), &[])));
    assert!(side.news().0.contains(&Action::Close(PathId(1))));
    side.input(Input::Routes(routes(Some(DIRECT), &[By::Relay(2)])));
    side.input(Input::Routes(routes(Some(DIRECT), &[By::Relay(2), RELAY])));
    side.established(2, By::Relay(2));
    side.suspect(DIRECT, &[RELAY, By::Relay(2)]);
    assert_eq!(side.paths.active(), Some((PathId(2), By::Relay(2))), "the one that is there");
    side.established(3, RELAY);
    assert_eq!(side.paths.active(), Some((PathId(3), RELAY)), "the best one");
    assert_eq!(side.reasons(), [Reason::DirectSilent, Reason::OtherRelay]);
}

#[test]
fn a_path_that_is_given_up_is_no_more_and_the_next_one_says_why() {
    let mut side = Side::with_both(false);
    side.input(Input::Abandoned(PathId(0)));
    side.input(Input::Abandoned(PathId(1)));
    side.established(0, DIRECT);
    let both = [Reason::DirectGone, Reason::NoneLeft];
    assert_eq!(side.reasons(), both, "what was given up does not come back");
    side.input(Input::Discarded(PathId(0)));
    side.established(2, RELAY);
    assert_eq!(side.reasons(), [Reason::First]);
}

#[test]
fn a_path_without_acknowledgements_is_doubted_unbatched_and_left() {
    let mut side = Side::with_both(true);
    side.counts = Some(Counts { acked_bytes: 7, in_flight_bytes: 1, ..Counts::default() });
    side.input(Input::Sent);
    side.pass(1300 * MS);
    let (actions, events) = side.news();
    let ping = actions.iter().position(|action| *action == Action::Ping(PathId(0)));
    let unbatch = actions.iter().position(|action| *action == Action::Unbatch(DIRECT));
    assert!(unbatch.is_some() && unbatch < ping, "{actions:?}");
    let expected = [
        Event::Doubt,
        active(0, DIRECT, Reason::Unbatched),
        Event::Doubt,
        Event::Doubt,
        Event::Narrow(DIRECT),
        active(1, RELAY, Reason::DirectNarrow),
    ];
    assert_eq!(events, expected);
    // It is tried again after a while, and further and further apart.
    let begin = (side.now - side.start).as_millis();
    let wakes = side.pass(Duration::from_secs(20));
    let tries: Vec<_> = wakes.iter().map(|(at, _)| at - begin).collect();
    assert!(wakes.iter().all(|(_, why)| *why == WakeReason::Narrow), "{wakes:?}");
    assert!((1900..2000).contains(&tries[0]), "{wakes:?}");
    side.established(2, DIRECT);
    assert_eq!(side.reasons(), [Reason::DirectAnswers]);
}

#[test]
fn an_idle_path_is_not_looked_at() {
    let mut side = Side::with_both(true);
    assert_eq!(side.pass(Duration::from_secs(60)), []);
    side.input(Input::Sent);
    let wakes = side.pass(Duration::from_secs(60));
    assert_eq!(wakes, [(60_020, WakeReason::Progress)]);
    let (actions, _) = side.news();
    assert_eq!(actions, [Action::Watch(Some(DIRECT))], "the next packet is waited for");
    side.counts = None;
    side.input(Input::Sent);
    assert!(side.pass(100 * MS).len() > 2, "QUIC may know the path again");
}

#[test]
fn a_black_hole_is_told_once() {
    let mut side = Side::with_both(true);
    let counts = Counts { in_flight_bytes: 1, payload_bytes: 1200, ..Counts::default() };
    side.counts = Some(Counts { black_holes: 1, ..counts });
    side.input(Input::Sent);
    side.pass(60 * MS);
    let events = side.news().1;
    assert_eq!(events, [active(0, DIRECT, Reason::BlackHole { payload_bytes: 1200 })]);
}

#[test]
fn the_only_path_makes_a_detour_where_quic_cannot_open_another_one() {
    let mut side = Side::new(true, DIRECT, routes(Some(DIRECT), &[]));
    side.news();
    side.opens = false;
    side.suspect(DIRECT, &[RELAY]);
    let (actions, events) = side.news();
    assert!(actions.contains(&Action::Exchange([DIRECT, RELAY])), "{actions:?}");
    assert_eq!(events, [active(0, RELAY, Reason::DirectSilent), Event::Relayed(true)]);
    let pings = side.pass(2000 * MS).into_iter().filter(|(_, why)| *why == WakeReason::Nudge);
    let pings: Vec<_> = pings.map(|(at, _)| at).collect();
    assert_eq!(pings, [20, 60, 140, 300, 620, 1260]);
    side.opens = true;
    side.input(Input::Routes(routes(Some(DIRECT), &[RELAY])));
    side.established(1, DIRECT);
    assert_eq!(side.reasons(), [Reason::DirectAnswers]);
}

#[test]
fn a_peer_that_does_not_answer_on_the_relay_gets_its_time_before_a_detour() {
    let mut side = Side::new(true, DIRECT, routes(Some(DIRECT), &[]));
    side.suspect(DIRECT, &[RELAY]);
    assert_eq!(side.pass(299 * MS), []);
    side.exchanges = false;
    assert_eq!(side.pass(MS), [(300, WakeReason::Detour)]);
    assert!(side.paths.active() == Some((PathId(0), DIRECT)), "too many have been exchanged");
    assert_eq!(side.pass(1000 * MS), [], "a moment that has passed has had its detour");
    side.exchanges = true;
    side.input(Input::Sent);
    assert_eq!(side.paths.active(), Some((PathId(0), RELAY)));
    assert!(side.news().0.contains(&Action::Close(PathId(1))), "the one that was opened in vain");
}

#[test]
fn the_only_path_leaves_a_relay_that_is_gone_where_quic_cannot_open_another_one() {
    let mut side = Side::new(true, RELAY, routes(None, &[RELAY]));
    side.opens = false;
    side.input(Input::Routes(routes(None, &[])));
    side.news();
    assert_eq!(side.pass(1000 * MS), [], "there is no other way");
    side.input(Input::Routes(routes(Some(DIRECT), &[])));
    let (actions, events) = side.news();
    assert!(actions.contains(&Action::Exchange([RELAY, DIRECT])), "{actions:?}");
    assert!(actions.contains(&Action::Ping(PathId(0))), "{actions:?}");
    assert_eq!(events, [active(0, DIRECT, Reason::DirectAnswers), Event::Relayed(false)]);
    side.opens = true;
    side.input(Input::Routes(routes(Some(DIRECT), &[RELAY])));
    side.established(1, RELAY);
    side.suspect(DIRECT, &[RELAY]);
    assert_eq!(side.paths.active(), Some((PathId(1), RELAY)), "it has a path again");
    assert!(!side.news().0.iter().any(|action| matches!(action, Action::Exchange(_))));
}

#[test]
fn the_only_path_leaves_a_relay_for_another_one() {
    let other = By::Relay(2);
    let mut side = Side::new(true, RELAY, routes(None, &[RELAY]));
    side.opens = false;
    side.input(Input::Routes(routes(None, &[other])));
    assert!(side.news().0.contains(&Action::Exchange([RELAY, other])));
    assert_eq!(side.paths.active(), Some((PathId(0), other)));
}

#[test]
fn a_relay_that_may_carry_packets_gets_its_time_before_a_detour() {
    let mut side = Side::new(true, RELAY, routes(None, &[RELAY]));
    side.opens = false;
    side.input(Input::Routes(routes(Some(DIRECT), &[RELAY])));
    side.pass(999 * MS);
    assert_eq!(side.paths.active(), Some((PathId(0), RELAY)));
    assert_eq!(side.pass(MS), [(1000, WakeReason::Detour)]);
    assert_eq!(side.paths.active(), Some((PathId(0), DIRECT)));
    // A path that is opened waits for the peer, who may be slow.
    let mut side = Side::new(true, RELAY, routes(Some(DIRECT), &[RELAY]));
    assert_eq!(side.pass(Duration::from_secs(60)), []);
    assert_eq!(side.paths.active(), Some((PathId(0), RELAY)));
}

#[test]
fn the_side_that_accepts_follows_its_peer_from_a_relay_that_is_gone() {
    let mut side = Side::new(false, RELAY, routes(None, &[RELAY]));
    side.peer = Some(RELAY);
    side.input(Input::Routes(routes(Some(DIRECT), &[])));
    assert_eq!(side.pass(35 * MS), [10, 30].map(|at| (at, WakeReason::Follow)));
    side.news();
    side.peer = Some(DIRECT);
    side.pass(45 * MS);
    let (actions, events) = side.news();
    assert_eq!(events, [active(0, DIRECT, Reason::DirectAnswers), Event::Relayed(false)]);
    assert!(!actions.iter().any(|action| matches!(action, Action::Exchange(_))), "{actions:?}");
    assert_eq!(side.pass(Duration::from_secs(60)), []);
}

#[test]
fn the_side_that_accepts_looks_no_more_for_a_peer_that_has_another_relay() {
    let mut side = Side::new(false, RELAY, routes(None, &[RELAY]));
    side.peer = Some(RELAY);
    side.input(Input::Routes(routes(Some(DIRECT), &[RELAY, By::Relay(2)])));
    side.established(1, By::Relay(2));
    assert_eq!(side.pass(Duration::from_secs(60)), []);
    assert_eq!(side.paths.active(), Some((PathId(0), RELAY)));
}

#[test]
fn the_side_that_accepts_follows_its_peer() {
    let mut side = Side::with_both(false);
    side.peer = Some(DIRECT);
    side.input(Input::Routes(routes(Some(By::Direct(2)), &[RELAY])));
    assert_eq!(side.pass(35 * MS), [10, 30].map(|at| (at, WakeReason::Follow)));
    side.peer = Some(By::Direct(2));
    side.pass(35 * MS);
    assert_eq!(side.reasons(), [Reason::PeerMoved]);
    assert_eq!(side.paths.active(), Some((PathId(0), By::Direct(2))));
    assert_eq!(side.pass(Duration::from_secs(60)), []);
}

#[test]
fn another_address_is_shown_and_a_new_connection_to_a_relay_greeted() {
    let mut side = Side::with_both(true);
    let known = routes(Some(DIRECT), &[RELAY]);
    side.input(Input::Routes(Routes { rebound: 1, ..known.clone() }));
    assert_eq!(side.news().0, [Action::Ping(PathId(0))]);
    side.input(Input::Routes(Routes { rebound: 1, renewed: 1, ..known }));
    assert_eq!(side.news().0, [Action::Ping(PathId(1))]);
}

#[test]
fn paths_that_nobody_told_of_are_found() {
    let mut side = Side::new(false, RELAY, routes(None, &[RELAY]));
    side.listed = vec![
        listed(1, true, Some(DIRECT)),
        listed(2, false, Some(By::Direct(2))),
        listed(3, true, None),
    ];
    side.input(Input::EventsLost);
    assert_eq!(side.paths.open().collect::<Vec<_>>(), [(PathId(1), DIRECT)], "and one is gone");
    assert_eq!(side.reasons(), [Reason::First, Reason::DirectAnswers]);
}

#[test]
fn a_peer_opens_paths_in_any_order_and_each_question_is_one() {
    let mut side = Side::new(false, RELAY, routes(None, &[RELAY]));
    side.listed = vec![listed(4_000_000_000, true, Some(DIRECT))];
    side.input(Input::EventsLost);
    side.established(7, By::Direct(2));
    side.listed = vec![listed(7, true, Some(By::Direct(2)))];
    side.input(Input::EventsLost);
    side.established(5, DIRECT);
    side.listed.push(listed(5, true, Some(DIRECT)));
    side.input(Input::EventsLost);
    let open: Vec<_> = side.paths.open().map(|(path, _)| path.0).collect();
    assert_eq!(open, [5, 7]);
    let asked = side.actions.iter().filter(|action| **action == Action::List);
    assert_eq!(asked.count(), 4);
}

#[test]
fn a_path_that_was_given_up_while_events_were_lost_is_none() {
    let mut side = Side::with_both(false);
    let given_up = |path, route| Listed { is_abandoned: true, ..listed(path, true, Some(route)) };
    side.listed =
        vec![given_up(0, DIRECT), listed(1, true, Some(RELAY)), given_up(2, By::Direct(2))];
    side.input(Input::EventsLost);
    // What was told before comes behind.
    side.established(2, By::Direct(2));
    assert_eq!(side.paths.open().collect::<Vec<_>>(), [(PathId(1), RELAY)]);
    assert_eq!(side.reasons(), [Reason::DirectGone]);
}

#[test]
fn a_link_without_a_route_ends_after_a_while() {
    let mut side = Side::new(true, DIRECT, routes(Some(DIRECT), &[]));
    side.suspect(DIRECT, &[]);
    side.pass(Duration::from_secs(20));
    side.input(Input::Routes(routes(Some(DIRECT), &[])));
    side.suspect(DIRECT, &[]);
    assert_eq!(side.pass(Duration::from_secs(29)), []);
    side.news();
    assert_eq!(side.pass(Duration::from_secs(1)), [(50_000, WakeReason::Stranded)]);
    assert_eq!(side.news().1, [Event::Ended(End::Stranded)]);
    assert_eq!(side.paths.poll_timeout(), None);
    side.established(1, RELAY);
    assert_eq!(side.news().1, [], "nothing comes after the end");
}

#[test]
fn a_session_that_is_over_leaves_the_peer_its_last_words() {
    let mut side = Side::with_both(true);
    side.input(Input::SessionOver);
    side.suspect(DIRECT, &[RELAY]);
    assert_eq!(side.pass(Duration::from_secs(1)), [(150, WakeReason::SessionOver)]);
    assert_eq!(side.news(), (vec![], vec![Event::Ended(End::Session)]));
}
