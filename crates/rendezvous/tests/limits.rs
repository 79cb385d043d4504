//! What a client may not do, and what becomes of one that does nothing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::raw::{CLOSE, PING, PONG, RawClient, TEXT, frame};
use common::{Rendezvous, ready};
use serde_json::Value;
use tokio::task::JoinSet;

/// Most bytes of a message.
const BYTES_MAX: usize = 64 * 1024;
/// First bytes of the frames of a fragmented text: the first, one in the middle, the last.
const TEXT_BEGINS: u8 = 0x01;
const CONTINUES: u8 = 0x00;
const ENDS: u8 = 0x80;

/// An echo request of exactly this length, in bytes.
fn echo_request(bytes: usize) -> Vec<u8> {
    let empty = r#"{"type":"echo_request","payload":""}"#.len();
    format!(r#"{{"type":"echo_request","payload":"{}"}}"#, "x".repeat(bytes - empty)).into_bytes()
}

/// A client that writes these bytes is closed with this code, and nobody else is.
async fn is_closed_for(bytes: &[u8], code: u16) {
    let rendezvous = Rendezvous::start();
    let mut bystander = rendezvous.worker("bystander").await;
    let mut offender = RawClient::register(rendezvous.address(), "offender").await;
    let (closed, reason) = offender.write_until_closed(bytes).await;
    assert_eq!(closed, code, "{reason}");
    let listing = rendezvous.listing_with(1).await;
    assert!(listing["workers"]["bystander"].is_object());
    bystander.is_up().await;
}

#[tokio::test]
async fn a_message_of_exactly_64_kib_is_taken_in_one_frame_and_in_many() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    let message = echo_request(BYTES_MAX);
    worker.send_text(std::str::from_utf8(&message).unwrap()).await;
    assert_eq!(worker.receive().await["type"], "echo_response");
    let pieces: Vec<&[u8]> = message.chunks(20_000).collect();
    for (number, piece) in pieces.iter().enumerate() {
        worker.send_fragment(number == 0, number + 1 == pieces.len(), piece.to_vec()).await;
    }
    assert_eq!(worker.receive().await["type"], "echo_response");
    worker.is_up().await;
}

#[tokio::test]
async fn a_frame_of_more_than_64_kib_closes_with_1009() {
    is_closed_for(&frame(TEXT, &echo_request(BYTES_MAX + 1)), 1009).await;
}

#[tokio::test]
async fn a_frame_that_only_announces_too_much_closes_with_1009() {
    let header = &frame(TEXT, &vec![0; 4 * BYTES_MAX])[..14];
    is_closed_for(header, 1009).await;
}

#[tokio::test]
async fn a_fragmented_message_of_more_than_64_kib_closes_with_1009() {
    let message = echo_request(BYTES_MAX + 1);
    let (first, rest) = message.split_at(30_000);
    let (second, third) = rest.split_at(30_000);
    let bytes = [frame(TEXT_BEGINS, first), frame(CONTINUES, second), frame(ENDS, third)].concat();
    is_closed_for(&bytes, 1009).await;
}

#[tokio::test]
async fn a_text_that_is_not_utf_8_closes_with_1007() {
    is_closed_for(&frame(TEXT, b"{\"type\":\"\xff\"}"), 1007).await;
}

#[tokio::test]
async fn a_fragmented_text_that_is_not_utf_8_closes_with_1007() {
    let bytes = [frame(TEXT_BEGINS, b"{\"type\":\"\xc3"), frame(ENDS, b"\xff\"}")].concat();
    is_closed_for(&bytes, 1007).await;
}

#[tokio::test]
async fn a_frame_that_is_not_valid_closes_with_1002() {
    // A reserved bit without an extension, and a text that is not masked (RFC 6455 §5.2, §5.3).
    is_closed_for(&frame(TEXT | 0x40, b"{}"), 1002).await;
    is_closed_for(&[TEXT, 2, b'{', b'}'], 1002).await;
}

#[tokio::test]
async fn a_character_may_lie_across_two_fragments() {
    let rendezvous = Rendezvous::start();
    let mut client = RawClient::register(rendezvous.address(), "a").await;
    client.send_frame(TEXT_BEGINS, b"{\"type\":\"echo_request\",\"payload\":\"\xc3").await;
    client.send_frame(ENDS, b"\xbc\"}").await;
    let (kind, answer) = client.read_frame().await.unwrap();
    assert_eq!(kind, TEXT);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["original_payload"], "ü");
}

#[tokio::test]
async fn a_client_that_breaks_the_framing_loses_its_connection_alone() {
    let rendezvous = Rendezvous::start();
    let mut bystander = rendezvous.worker("bystander").await;
    let unmasked = b"\x81\x02{}".to_vec();
    let reserved_opcode = frame(0x83, b"x");
    let reserved_bit = frame(0xc1, b"{}");
    let fragmented_ping = frame(0x09, b"");
    let continues_nothing = frame(ENDS, b"x");
    for bytes in [unmasked, reserved_opcode, reserved_bit, fragmented_ping, continues_nothing] {
        let mut offender = RawClient::register(rendezvous.address(), "offender").await;
        offender.write(&bytes).await;
        offender.read_to_end().await;
        rendezvous.listing_with(1).await;
        bystander.is_up().await;
    }
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload_also_amid_a_fragmented_message() {
    let rendezvous = Rendezvous::start();
    let mut client = RawClient::register(rendezvous.address(), "a").await;
    client.send_frame(PING, b"one").await;
    assert_eq!(client.read_frame().await, Some((PONG, b"one".to_vec())));
    client.send_frame(TEXT_BEGINS, b"{\"type\":").await;
    client.send_frame(PING, b"two").await;
    assert_eq!(client.read_frame().await, Some((PONG, b"two".to_vec())));
    client.send_frame(ENDS, b"\"echo_request\"}").await;
    assert_eq!(client.read_frame().await.unwrap().0, TEXT);
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_the_worker_leaves() {
    let rendezvous = Rendezvous::start();
    let mut client = RawClient::register(rendezvous.address(), "a").await;
    rendezvous.listing_with(1).await;
    client.send_frame(CLOSE, &4001_u16.to_be_bytes()).await;
    assert_eq!(client.read_frame().await, Some((CLOSE, 4001_u16.to_be_bytes().to_vec())));
    assert_eq!(client.read_frame().await, None);
    rendezvous.listing_with(0).await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_and_one_that_answers_stays() {
    let rendezvous = Rendezvous::with(|config| {
        config.matchmaker.ping_interval = Duration::from_millis(100);
        config.matchmaker.ping_timeout = Duration::from_secs(2);
    });
    let mut answers = rendezvous.worker("answers").await;
    let mut mute = RawClient::register(rendezvous.address(), "mute").await;
    let all_frames = async {
        let mut frames = Vec::new();
        while let Some((kind, _)) = mute.read_frame().await {
            frames.push(kind);
        }
        frames
    };
    let frames = tokio::select! {
        frames = all_frames => frames,
        () = answers.idle() => panic!("the one that answers was closed"),
    };
    assert_eq!(frames, [PING, CLOSE]);
    let listing = rendezvous.listing_with(1).await;
    assert!(listing["workers"]["answers"].is_object(), "{listing}");
    answers.is_up().await;
}

#[tokio::test]
async fn a_client_whose_ping_is_overdue_is_not_offered_until_it_answers() {
    let rendezvous = Rendezvous::with(|config| {
        config.matchmaker.ping_interval = Duration::from_millis(100);
        config.matchmaker.ping_timeout = Duration::from_secs(600);
    });
    let mut late = RawClient::register(rendezvous.address(), "late").await;
    let report = common::worker::report("203.0.113.1:4000").to_string();
    late.send_frame(TEXT, report.as_bytes()).await;
    rendezvous.listing_when("a place", |listing| ready(listing) == ["late"]).await;
    let listing = rendezvous.listing_when("an empty queue", |listing| ready(listing).is_empty());
    assert_eq!(listing.await["connected_workers_count"], 1);
    let mut worker = rendezvous.worker("a").await;
    worker.report("203.0.113.2:4000").await;
    worker.is_up().await;
    assert_eq!(ready(&rendezvous.listing().await), ["a"]);
    // The answer gives its old place back: it has waited longer.
    late.send_frame(PONG, b"").await;
    assert_eq!(worker.offer().await.0, "late");
    let mut texts = Vec::new();
    while texts.len() < 2 {
        let (kind, payload) = late.read_frame().await.unwrap();
        if kind == TEXT {
            texts.push(serde_json::from_slice::<Value>(&payload).unwrap());
        }
    }
    assert_eq!(texts[0]["type"], "udp_endpoint_ack");
    assert_eq!(texts[1]["peer_worker_id"], "a");
}

#[tokio::test]
async fn many_messages_written_at_once_are_all_answered_in_their_order() {
    const MESSAGES: usize = 500;
    let rendezvous = Rendezvous::start();
    let mut client = RawClient::register(rendezvous.address(), "a").await;
    let report = common::worker::report("203.0.113.1:4000").to_string();
    let table = [
        (report.as_str(), "udp_endpoint_ack"),
        (r#"{"type":"get_my_details"}"#, "my_details_response"),
        (r#"{"type":"echo_request"}"#, "echo_response"),
    ];
    for (question, _) in table {
        client.write(&frame(TEXT, question.as_bytes()).repeat(MESSAGES)).await;
    }
    for (_, expected) in table {
        for number in 0..MESSAGES {
            let (kind, answer) = client.read_frame().await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert_eq!(kind, TEXT, "{expected} {number}: {answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["type"], expected, "{number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_stops_nobody_and_gets_its_answers_when_it_reads() {
    let rendezvous = Rendezvous::start();
    let mut greedy = RawClient::register(rendezvous.address(), "greedy").await;
    let request = frame(TEXT, &echo_request(50_000));
    let (requests, rest) = greedy.stuff(&request).await;
    let [mut a, mut b] = [rendezvous.worker("a").await, rendezvous.worker("b").await];
    a.report("203.0.113.1:4000").await;
    b.report("203.0.113.2:4000").await;
    assert_eq!(a.offer().await.0, "b");
    assert_eq!(b.offer().await.0, "a");
    for _ in 0..requests {
        let (kind, answer) = greedy.read_frame().await.unwrap();
        assert_eq!((kind, answer.len() > 50_000), (TEXT, true));
    }
    greedy.write(rest).await;
    assert_eq!(greedy.read_frame().await.unwrap().0, TEXT);
}

#[tokio::test]
async fn a_full_house_answers_503_and_whoever_is_in_may_connect_again() {
    let rendezvous = Rendezvous::with(|config| config.matchmaker.workers_max = 2);
    let mut a = rendezvous.worker("a").await;
    let b = rendezvous.worker("b").await;
    assert_eq!(RawClient::open(rendezvous.address(), "/ws/register/c").await.0, 503);
    let mut again = rendezvous.worker("a").await;
    assert_eq!(a.closed().await.0, 1000);
    again.is_up().await;
    assert_eq!(RawClient::open(rendezvous.address(), "/ws/register/c").await.0, 503);
    assert_eq!(common::http::get(rendezvous.address(), "/health").await.status, 200);
    b.close().await;
    rendezvous.listing_with(1).await;
    rendezvous.worker("c").await.is_up().await;
}

#[tokio::test]
async fn an_address_that_has_its_share_of_workers_is_told_so_by_429_and_others_get_in() {
    let rendezvous = Rendezvous::with(|config| {
        config.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
        config.matchmaker.workers_per_address_max = Some(2);
    });
    let _workers = [
        rendezvous.worker_from("198.51.100.1", "a").await,
        rendezvous.worker_from("198.51.100.1", "b").await,
    ];
    let refused = common::http::upgrade_request(
        "/ws/register/c",
        "Connection: close\r\nX-Forwarded-For: 198.51.100.1\r\n",
    );
    let answer = common::http::exchange(rendezvous.address(), &refused).await;
    assert_eq!(answer.status, 429);
    assert!(answer.body.contains("from this address as it takes, 2"), "{}", answer.body);
    let mut again = rendezvous.worker_from("198.51.100.1", "a").await;
    again.is_up().await;
    rendezvous.worker_from("198.51.100.2", "c").await.is_up().await;
    rendezvous.worker("this-machine").await.is_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_house_does_not_overfill_when_all_come_at_once() {
    const PLACES: usize = 3;
    let rendezvous = Rendezvous::with(|config| config.matchmaker.workers_max = PLACES);
    let address = rendezvous.address();
    let mut guests = JoinSet::new();
    for number in 0..60 {
        guests.spawn(async move {
            let (status, mut client) =
                RawClient::open(address, &format!("/ws/register/w{number}")).await;
            if status != 101 {
                assert_eq!(status, 503);
                return None;
            }
            client.send_frame(TEXT, br#"{"type":"echo_request"}"#).await;
            let (kind, _) = client.read_frame().await?;
            (kind == TEXT).then_some(client)
        });
    }
    let guests = guests.join_all().await;
    let admitted = guests.iter().flatten().count();
    assert_eq!(admitted, PLACES);
    assert_eq!(rendezvous.listing().await["connected_workers_count"], PLACES);
}
