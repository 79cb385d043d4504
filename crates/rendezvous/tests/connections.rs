//! Connections that are no WebSockets: who has a place, and for how long.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::raw::RawClient;
use common::{Rendezvous, http, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n";

/// A connection from this address of the loopback.
async fn connect_from(source: &str, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    within("a connection", socket.connect(server)).await.unwrap()
}

/// So much time passes for the server, and none for what waits for a socket.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// Room for 100 connections that are no WebSockets, and 300 that are.
fn small() -> Rendezvous {
    Rendezvous::with(|config| config.open_files_max = Some(464))
}

#[tokio::test]
async fn silent_and_dribbling_connections_of_one_source_keep_nobody_else_out() {
    let rendezvous = small();
    let mut hostile = Vec::new();
    for number in 0..300 {
        let mut stream = connect_from("127.0.0.2", rendezvous.address()).await;
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        }
        hostile.push(stream);
    }
    let mut workers = Vec::new();
    for number in 0..13 {
        let mut worker = rendezvous.worker(&format!("w{number}")).await;
        worker.is_up().await;
        workers.push(worker);
    }
    assert_eq!(rendezvous.listing().await["connected_workers_count"], 13);
    // The oldest have gone for the newer ones, and nobody else.
    for stream in &mut hostile[..200] {
        let end = within("an end", stream.read(&mut [0; 1])).await;
        assert!(!end.is_ok_and(|bytes| bytes > 0), "an answer in place of an end");
    }
    hostile[299].write_all(b"x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    within("an answer", hostile[299].read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[tokio::test]
async fn a_worker_that_would_take_the_last_descriptors_is_told_503_and_health_checks_are_answered()
{
    // Three WebSockets, and one other connection at a time.
    let rendezvous = Rendezvous::with(|config| config.open_files_max = Some(64 + 4));
    let mut workers = Vec::new();
    for number in 0..3 {
        workers.push(rendezvous.worker(&format!("w{number}")).await);
    }
    assert_eq!(RawClient::open(rendezvous.address(), "/ws/register/w3").await.0, 503);
    let _silent = connect_from("127.0.0.2", rendezvous.address()).await;
    assert_eq!(http::get(rendezvous.address(), "/healthz").await.status, 200);
    workers.pop().unwrap().close().await;
    rendezvous.listing_with(2).await;
    rendezvous.worker("w3").await.is_up().await;
}

/// Asks on a connection that stays, and reads the answer.
async fn ask(client: &mut RawClient) -> String {
    client.write(HEALTH).await;
    let head = client.read_head().await;
    let mut body = [0; 2];
    within("a body", client.stream.read_exact(&mut body)).await.unwrap();
    assert_eq!(&body, b"OK");
    head.to_lowercase()
}

#[tokio::test]
async fn a_kept_connection_lives_as_long_as_it_is_used_and_ends_without_a_reset() {
    let rendezvous = Rendezvous::start();
    let mut client = RawClient::connect(rendezvous.address()).await;
    for _ in 0..4 {
        let head = ask(&mut client).await;
        assert!(!head.contains("connection: close"), "{head}");
        pass(60).await;
    }
    ask(&mut client).await;
    pass(76).await;
    assert_eq!(within("an end", client.stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_head_that_does_not_end_and_one_that_never_begins_are_cut_off() {
    let rendezvous = Rendezvous::start();
    let mut silent = RawClient::connect(rendezvous.address()).await;
    let mut dribbling = RawClient::connect(rendezvous.address()).await;
    ask(&mut dribbling).await;
    for byte in b"GET / HTT" {
        dribbling.write(&[*byte]).await;
        // A whole exchange of somebody else: the byte has been read.
        assert_eq!(http::get(rendezvous.address(), "/health").await.status, 200);
        pass(1).await;
    }
    pass(2).await;
    for client in [&mut silent, &mut dribbling] {
        assert_eq!(within("an end", client.stream.read(&mut [0; 1])).await.unwrap(), 0);
    }
}

/// Workers whose listing is long: some 76 KB, more than one piece.
async fn with_long_ids(rendezvous: &Rendezvous) -> Vec<common::worker::Worker> {
    let mut workers = Vec::new();
    for number in 0..80 {
        workers.push(rendezvous.worker(&format!("{number:0256}")).await);
    }
    workers
}

/// A client for which the kernel takes little that it does not read: what a sender's side may keep at most is a fraction of what
/// it asks for.
async fn unreading(server: SocketAddr) -> RawClient {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = within("a connection", socket.connect(server)).await.unwrap();
    RawClient { stream }
}

#[tokio::test]
async fn clients_that_do_not_read_their_listings_stop_nobody_and_are_cut_off_soon() {
    const LISTING: &[u8] = b"GET /debug/list_workers HTTP/1.1\r\nHost: t\r\n\r\n";
    let rendezvous = Rendezvous::start();
    let _workers = with_long_ids(&rendezvous).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = unreading(rendezvous.address()).await;
        client.write(&LISTING.repeat(400)).await;
        clients.push(client);
    }
    // As many answers as the kernel takes are written meanwhile, since each of the others has one of its own between two of
    // these; and all of these exchanges succeed.
    for _ in 0..100 {
        rendezvous.listing_with(80).await;
    }
    pass(6).await;
    rendezvous.listing_with(80).await;
    for client in &mut clients {
        // The rest was thrown away, so this is no regular end.
        let mut answers = Vec::new();
        let ended = within("an end", client.stream.read_to_end(&mut answers)).await;
        assert!(ended.is_err(), "{} bytes, then a regular end", answers.len());
    }
}

#[tokio::test]
async fn the_last_answer_is_written_when_the_service_ends() {
    let rendezvous = Rendezvous::start();
    let mut client = RawClient::connect(rendezvous.address()).await;
    ask(&mut client).await;
    client.write(HEALTH).await;
    let mut rest = Vec::new();
    let reading = within("the end of the connection", client.stream.read_to_end(&mut rest));
    let (read, ()) = tokio::join!(reading, rendezvous.server.shutdown());
    read.unwrap();
    let rest = String::from_utf8(rest).unwrap().to_lowercase();
    assert!(rest.contains("connection: close") && rest.ends_with("ok"), "{rest}");
}
