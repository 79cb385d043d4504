//! One rendezvous of several: what it does when another one takes nothing.

use std::time::{Duration, Instant};

use holepunch_matchmaker::{
    Board, Command, Config, ConnectionId, DropReason, Envelope, Epoch, Errand, Event, InstanceId,
    Letter, Member, Packet, Question, Reply, Request, Room, Seat, Seen, Whereabouts,
};
use holepunch_wire::WorkerId;
use rand::SeedableRng;
use rand::rngs::StdRng;

const OTHER: InstanceId = InstanceId(1);
/// More than may wait for one instance.
const MUCH: usize = (1 << 18) + 10;

/// Answers what the store is asked: both are there, and every room is the other one's.
fn answer(board: &mut Board, now: Instant) {
    while let Some((number, request)) = board.poll_request() {
        let reply = if let Request::Own { room, .. } = request {
            Reply::Owner { room, owner: OTHER, epoch: Epoch(1), was_owned: true }
        } else if matches!(request, Request::Renew { .. }) {
            Reply::Renewed { live: vec![board.instance(), OTHER], store: 0 }
        } else {
            Reply::Done
        };
        board.handle_reply(number, reply, now);
    }
}

#[test]
fn an_instance_that_can_tell_another_one_nothing_more_begins_anew() {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let mut now = Instant::now();
    let own = InstanceId(0);
    let mut board = Board::of_several(own, Config::default(), StdRng::seed_from_u64(1), now);
    let worker = Member::unnamed(WorkerId::new("w").unwrap());
    let from = (&worker, [203, 0, 113, 1].into());
    board.handle_timeout(now);
    answer(&mut board, now);
    for _ in 0..MUCH {
        let want = Errand::Command(Room::default(), Command::Want { waited: None });
        board.take(ConnectionId(1), from, want, now);
        answer(&mut board, now);
        while board.poll_packet().is_some() {}
    }
    let dropped = std::iter::from_fn(|| board.poll_event());
    let dropped = dropped.filter(|it| it.event == Event::Dropped(DropReason::TooFarBehind)).count();
    assert!(dropped > 0, "nothing is left alone");
    now += Duration::from_secs(2);
    board.handle_timeout(now);
    answer(&mut board, now);
    assert_ne!(board.instance(), own);
    assert_eq!(board.instance().process(), own.process());
}

#[test]
fn where_a_worker_is_waits_for_the_store_once_however_often_that_changes() {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let now = Instant::now();
    let own = InstanceId(0);
    let mut board = Board::of_several(own, Config::default(), StdRng::seed_from_u64(1), now);
    let worker = Member::unnamed(WorkerId::new("w").unwrap());
    for port in 1..1000 {
        let seen = Seen { port: Some(port), ..Seen::default() };
        let is = Errand::Is(Whereabouts { seen, ..Whereabouts::default() });
        board.take(ConnectionId(1), (&worker, [203, 0, 113, 1].into()), is, now);
    }
    while board.poll_request().is_some() {}
    board.handle_timeout(now + Duration::from_secs(2));
    let again = std::iter::from_fn(|| board.poll_request()).filter_map(|(_, request)| {
        if let Request::Is { is, .. } = request { is.seen.port } else { None }
    });
    assert_eq!(again.collect::<Vec<_>>(), [999]);
}

#[test]
fn who_goes_before_the_store_has_answered_is_not_asked_for_behind_his_release() {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let now = Instant::now();
    let mut board =
        Board::of_several(InstanceId(0), Config::default(), StdRng::seed_from_u64(1), now);
    let (worker, ip) = (Member::unnamed(WorkerId::new("w").unwrap()), [203, 0, 113, 1].into());
    let gone = Errand::Gone { outlives: true, has_sessions: false };
    for errand in [Errand::Ask(Question::Arrive), gone] {
        board.take(ConnectionId(1), (&worker, ip), errand, now);
    }
    while board.poll_request().is_some() {}
    board.handle_timeout(now + Duration::from_secs(2));
    let again = std::iter::from_fn(|| board.poll_request()).map(|(_, request)| request);
    let again = again.filter(|request| !matches!(request, Request::Renew { .. }));
    assert!(matches!(again.collect::<Vec<_>>()[..], [Request::Release { .. }]));
}

#[test]
fn what_was_sent_to_an_instance_of_before_is_left_alone() {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let now = Instant::now();
    let own = InstanceId(0);
    let mut board = Board::of_several(own, Config::default(), StdRng::seed_from_u64(1), now);
    let letter = Letter::Replaced(ConnectionId(1));
    let envelope = Envelope { room: Room::default(), epoch: Epoch::default(), letter };
    let packet = Packet { sent: Some((1, Some(envelope))), received: 0 };
    board.handle_packet((OTHER, InstanceId(1 << 32)), packet.clone(), now);
    assert!(board.poll_note().is_none() && board.poll_packet().is_none());
    board.handle_packet((OTHER, own), packet, now);
    assert!(board.poll_note().is_some(), "it is the first one that has arrived");
}

#[test]
fn a_room_for_whose_owner_it_is_taken_is_given_back_once_and_not_asked_for() {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let now = Instant::now();
    let own = InstanceId(0);
    let mut board = Board::of_several(own, Config::default(), StdRng::seed_from_u64(1), now);
    board.handle_timeout(now);
    answer(&mut board, now);
    let (room, epoch) = (Room::unnamed("theirs".parse().unwrap()), Epoch(7));
    let seat = Seat { instance: OTHER, connection: ConnectionId(1) };
    for number in 1..=2 {
        let letter = Letter::Command(seat, Command::Want { waited: None });
        let envelope = Envelope { room: room.clone(), epoch, letter };
        let packet = Packet { sent: Some((number, Some(envelope))), received: 0 };
        board.handle_packet((OTHER, own), packet, now);
    }
    let asked: Vec<_> = std::iter::from_fn(|| board.poll_request()).map(|(_, it)| it).collect();
    assert_eq!(asked, [Request::Disown { room, epoch }]);
}

#[test]
fn what_cannot_be_read_is_counted_told_of_once_acknowledged_and_skipped() {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    let now = Instant::now();
    let own = InstanceId(0);
    let mut board = Board::of_several(own, Config::default(), StdRng::seed_from_u64(1), now);
    let letter = Letter::Replaced(ConnectionId(1));
    let known = Envelope { room: Room::default(), epoch: Epoch::default(), letter };
    for (number, envelope) in (1..).zip([None, None, Some(known)]) {
        let packet = Packet { sent: Some((number, envelope)), received: 0 };
        board.handle_packet((OTHER, own), packet.clone(), now);
        // It comes twice, as the fabric likes.
        board.handle_packet((OTHER, own), packet, now);
    }
    assert!(board.poll_note().is_some(), "what follows goes on");
    let acknowledged = std::iter::from_fn(|| board.poll_packet()).last();
    assert_eq!(acknowledged, Some((OTHER, Packet { sent: None, received: 3 })));
    let told: Vec<_> = std::iter::from_fn(|| board.poll_event()).map(|it| it.event).collect();
    let dropped = Event::Dropped(DropReason::OtherVersion);
    assert_eq!(told, [Event::Unreadable(OTHER), dropped.clone(), dropped]);
}
