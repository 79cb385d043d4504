//! An allocation against a TURN server played by hand.

use std::time::Duration;

use super::played::{
    LIFETIME_S, Signed, allocation, empty_success, error, success as success_with,
};
use super::*;
use turn_client_proto::types::message::CREATE_PERMISSION;
use turn_client_proto::types::stun::message::{MessageWrite, MessageWriteVec};

/// The library leaves so much time between two requests, and more; a request is repeated later than that.
const PAUSE: Duration = Duration::from_millis(100);

/// Another request than this one, of the same method.
fn stranger(request: &[u8]) -> Vec<u8> {
    let method = Message::from_bytes(request).unwrap().method();
    Message::builder_request(method, MessageWriteVec::new()).finish()
}

fn success(request: &[u8]) -> Vec<u8> {
    success_with(request, Signed::Rightly)
}

fn next_request(allocation: &mut Allocation, now: &mut Instant) -> Vec<u8> {
    *now += PAUSE;
    let request = allocation.poll_transmit(*now).expect("a request is due");
    assert!(Message::from_bytes(&request).unwrap().has_class(MessageClass::Request));
    request
}

/// An allocation that the server has made.
fn allocated() -> (Allocation, Instant) {
    let mut now = Instant::now();
    let mut allocation = allocation(now);
    let asked = next_request(&mut allocation, &mut now);
    allocation.handle(&error(&asked, 401, Signed::No), now);
    let asked = next_request(&mut allocation, &mut now);
    allocation.handle(&success(&asked), now);
    let told = allocation.poll_told(now);
    assert!(matches!(told, Some(Told::Allocated(_))), "{told:?}");
    (allocation, now)
}

/// An allocation that the server has made, its request to renew it, and when that was sent.
fn being_renewed() -> (Allocation, Vec<u8>, Instant) {
    let (mut allocation, mut now) = allocated();
    now += Duration::from_secs(u64::from(LIFETIME_S) - 1);
    let renewal = next_request(&mut allocation, &mut now);
    assert!(Message::from_bytes(&renewal).unwrap().has_method(REFRESH));
    (allocation, renewal, now)
}

/// What has become of it once its request to be renewed is answered with this error.
fn told_after(code: u16, signed: Signed) -> Option<Told> {
    let (mut allocation, renewal, now) = being_renewed();
    assert_eq!(allocation.handle(&error(&renewal, code, signed), now), None);
    allocation.poll_told(now)
}

#[test]
fn an_address_that_the_server_does_not_renew_is_given_up_at_once() {
    let told = told_after(437, Signed::Rightly);
    let Some(Told::Failed(failure)) = told else { panic!("it waits: {told:?}") };
    assert!(failure.why.starts_with("the TURN server does not renew the address: 437"));
    assert!(!failure.is_refused);
    let Some(Told::Failed(failure)) = told_after(401, Signed::No) else { panic!("it waits") };
    assert!(failure.is_refused && failure.why.contains("401"), "{failure:?}");
}

#[test]
fn a_request_to_renew_with_a_stale_nonce_is_made_again_with_another_one() {
    let (mut allocation, renewal, mut now) = being_renewed();
    allocation.handle(&error(&renewal, 438, Signed::No), now);
    assert_eq!(allocation.poll_told(now), None);
    let again = next_request(&mut allocation, &mut now);
    assert!(Message::from_bytes(&again).unwrap().has_method(REFRESH));
    assert_ne!(again, renewal);
    allocation.handle(&error(&renewal, 437, Signed::Rightly), now);
    assert_eq!(allocation.poll_told(now), None, "the first one has its answer");
    allocation.handle(&error(&again, 437, Signed::Rightly), now);
    assert!(matches!(allocation.poll_told(now), Some(Told::Failed(_))));
}

#[test]
fn who_does_not_know_which_request_waits_for_an_answer_ends_nothing() {
    for (code, signed) in [
        (401, Signed::No),
        (401, Signed::Rightly),
        (437, Signed::No),
        (437, Signed::Rightly),
        (438, Signed::No),
    ] {
        let (mut allocation, renewal, now) = being_renewed();
        allocation.handle(&error(&stranger(&renewal), code, signed), now);
        assert_eq!(allocation.poll_told(now), None, "{code} {signed:?}");
        assert_eq!(allocation.poll_transmit(now + PAUSE), None, "{code} {signed:?}");
        // The server's own word counts as before.
        allocation.handle(&error(&renewal, 437, Signed::Rightly), now);
        assert!(matches!(allocation.poll_told(now), Some(Told::Failed(_))), "{code} {signed:?}");
    }
}

#[test]
fn an_error_without_a_right_integrity_is_none_but_where_credentials_are_refused() {
    assert_eq!(told_after(437, Signed::No), None);
    assert_eq!(told_after(437, Signed::Wrongly), None);
    assert_eq!(told_after(403, Signed::No), None);
}

#[test]
fn credentials_are_refused_by_the_answer_to_the_request_that_shows_them_and_by_no_other() {
    let mut now = Instant::now();
    let mut allocation = allocation(now);
    let asked = next_request(&mut allocation, &mut now);
    for _ in 0..3 {
        allocation.handle(&error(&stranger(&asked), 401, Signed::No), now);
    }
    let challenge = error(&asked, 401, Signed::No);
    for _ in 0..3 {
        allocation.handle(&challenge, now);
    }
    assert_eq!(allocation.poll_told(now), None, "the network repeats a challenge");
    let shown = next_request(&mut allocation, &mut now);
    allocation.handle(&error(&shown, 401, Signed::No), now);
    let Some(Told::Failed(failure)) = allocation.poll_told(now) else { panic!("it waits") };
    assert!(failure.is_refused, "{failure:?}");
    assert_eq!(allocation.poll_transmit(now + PAUSE), None, "the library does not ask again");
}

#[test]
fn requests_that_nobody_answers_do_not_heap_up_and_the_newest_count() {
    let mut allocation = allocation(Instant::now());
    for number in 0..1000_u128 {
        // The second time it is repeated.
        allocation.await_answer(number.into());
        allocation.await_answer(number.into());
    }
    assert_eq!(allocation.requests.len(), REQUESTS_MAX);
    assert_eq!(allocation.requests.back(), Some(&999.into()));
}

#[test]
fn channel_data_is_unpacked_without_its_padding_and_not_where_it_is_cut_short() {
    assert_eq!(unpacked(&[0x40, 0, 0, 3, 1, 2, 3]), Some(&[1, 2, 3][..]));
    assert_eq!(unpacked(&[0x40, 0, 0, 3, 1, 2, 3, 0]), Some(&[1, 2, 3][..]));
    assert_eq!(unpacked(&[0x40, 0, 0, 0]), Some(&[][..]));
    for short in [&[0x40, 0, 0, 3, 1, 2][..], &[0x40, 0, 0], &[]] {
        assert_eq!(unpacked(short), None);
    }
}

#[test]
fn a_channel_that_is_being_made_is_not_ready_however_often_its_peer_comes_back() {
    let [first, second] = ["192.0.2.7:1", "192.0.2.7:2"].map(|text| text.parse().unwrap());
    let (mut allocation, mut now) = allocated();
    for peer in [first, second, first, second, first] {
        assert!(allocation.want_peer(peer, now));
        // The answer to a request for a permission alone: the peer may be sent to, but not by a channel.
        now += PAUSE;
        while let Some(request) = allocation.poll_transmit(now) {
            if Message::from_bytes(&request).is_ok_and(|it| it.has_method(CREATE_PERMISSION)) {
                allocation.handle(&empty_success(&request, Signed::Rightly), now);
            }
            now += PAUSE;
        }
        assert_eq!(allocation.poll_told(now), None);
        assert_eq!(allocation.header(1), None, "no channel is made");
    }
}

proptest::proptest! {
    /// Half of them behind a challenge and an address that was given, which chance does not find.
    #[test]
    fn whatever_is_answered_nothing_breaks(
        is_allocated in proptest::bool::ANY,
        rest in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
    ) {
        let begin = [4, 20, 1, 3, 4, 20, 2, 2, 5, 1, 4, 20, 3, 2, 4, 20, 3, 2];
        let begin = if is_allocated { &begin[..] } else { &[] };
        fuzzing::answers(&[begin, &rest].concat());
    }
}
