//! Clients that ask without a pause keep nobody waiting: whoever asks once is answered within a few turns of the server, in
//! each of which they get an answer or a few, and not all that they ask for.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Read;

use common::raw::{RawClient, TEXT, frame};
use common::{Rendezvous, http};

/// Clients that ask without a pause.
const GREEDY: usize = 30;
/// How often each of them has asked before anybody is answered.
const ASKED: usize = 800;
/// Turns of the server in which somebody else's connection is taken, read, answered and ended, with some to spare.
const TURNS_MAX: usize = 12;
/// Messages of a WebSocket that are answered in one turn.
const MESSAGES_OF_TURN: usize = 17;

/// How many answers greedy clients get while one other client has its health check answered; the server has no thread of its
/// own, so that this is a number of its turns.
async fn answers_meanwhile(mut greedy: Vec<RawClient>, request: &[u8], answer: &[u8]) -> usize {
    let rendezvous = greedy[0].stream.peer_addr().unwrap();
    for client in &greedy {
        let requests = request.repeat(ASKED);
        assert_eq!(client.stream.try_write(&requests).unwrap(), requests.len());
    }
    assert_eq!(http::get(rendezvous, "/healthz").await.status, 200);
    let answers = greedy.iter_mut().map(|client| {
        let read = unread(client);
        read.windows(answer.len()).filter(|bytes| *bytes == answer).count()
    });
    answers.sum()
}

/// What a client has been sent and has not read; the server gets no turn meanwhile.
fn unread(client: &RawClient) -> Vec<u8> {
    let socket = socket2::SockRef::from(&client.stream);
    let mut read = Vec::new();
    let ended = (&*socket).read_to_end(&mut read);
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    read
}

/// As many clients that ask for this path.
async fn asking_for(rendezvous: &Rendezvous, path: &str) -> usize {
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    let mut greedy = Vec::new();
    for _ in 0..GREEDY {
        let mut client = RawClient::connect(rendezvous.address()).await;
        // The server knows the connection, and waits for its first request.
        client.write(request.as_bytes()).await;
        client.read_head().await;
        greedy.push(client);
    }
    answers_meanwhile(greedy, request.as_bytes(), b"HTTP/1.1 ").await
}

#[tokio::test]
async fn requests_that_follow_each_other_without_a_pause_are_answered_one_in_a_turn() {
    let rendezvous = Rendezvous::start();
    for path in ["/healthz", "/nowhere", "/ws/register/a"] {
        let answers = asking_for(&rendezvous, path).await;
        assert!(answers <= GREEDY * TURNS_MAX, "{path}: {answers}");
    }
}

#[tokio::test]
async fn one_listing_is_made_in_a_turn_for_all_that_ask_for_one() {
    let rendezvous = Rendezvous::start();
    let answers = asking_for(&rendezvous, "/debug/list_workers").await;
    assert!(answers <= TURNS_MAX, "{answers}");
}

#[tokio::test]
async fn messages_that_follow_each_other_without_a_pause_are_answered_a_few_in_a_turn() {
    let rendezvous = Rendezvous::start();
    let mut greedy = Vec::new();
    for number in 0..GREEDY {
        greedy.push(RawClient::register(rendezvous.address(), &format!("w{number}")).await);
    }
    rendezvous.listing_with(GREEDY).await;
    let request = frame(TEXT, br#"{"type":"echo_request"}"#);
    let answers = answers_meanwhile(greedy, &request, b"echo_response").await;
    assert!(answers <= GREEDY * TURNS_MAX * MESSAGES_OF_TURN, "{answers}");
}
