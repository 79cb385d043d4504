//! UDP through a link, with real sockets on loopback.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holepunch_link::{CloseCode, Link, RecvStream, SendStream, testing};
use holepunch_programs::forward::udp::table::FLOWS_MAX;
use holepunch_programs::forward::{
    Answer, FlowRequest, Forward, Forwarder, Listener, Refusal, Request, Told, bind_udp,
};
use holepunch_programs::{Agreed, Greeting, agree, read_message, write_message};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

/// It only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(40);
/// After so long a datagram is sent again: UDP may lose it.
const AGAIN: Duration = Duration::from_millis(500);

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("nothing came")
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Sends back what comes.
async fn echo() -> SocketAddr {
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    address
}

fn content(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + number * 7 + length) as u8).collect()
}

/// Sends a datagram until it comes back.
async fn comes_back(socket: &UdpSocket, to: SocketAddr, sent: &[u8]) {
    let mut buffer = vec![0; 65_536];
    within(async {
        loop {
            socket.send_to(sent, to).await.unwrap();
            while let Ok(Ok((length, from))) = timeout(AGAIN, socket.recv_from(&mut buffer)).await {
                assert_eq!(from, to);
                if buffer[..length] == *sent {
                    return;
                }
            }
        }
    })
    .await;
}

fn told(what: &mut Forward) -> UnboundedReceiver<Told> {
    let (sender, told) = unbounded_channel();
    what.listener = Listener::new(move |it| drop(sender.send(it)));
    told
}

/// A side that takes UDP: where, and what it is told.
fn near(target: SocketAddr) -> (Arc<Forwarder>, SocketAddr, UnboundedReceiver<Told>) {
    let socket = bind_udp(loopback()).unwrap();
    let entry = socket.local_addr().unwrap();
    let udp = vec![(socket, target.to_string().parse().unwrap())];
    let mut what = Forward { udp, ..Forward::default() };
    let told = told(&mut what);
    (Arc::new(Forwarder::new(what)), entry, told)
}

fn far(rule: &str) -> Arc<Forwarder> {
    let allow = [rule.parse().unwrap()].into_iter().collect();
    Arc::new(Forwarder::new(Forward { allow, ..Forward::default() }))
}

/// Two sides that are linked, until the value is dropped.
async fn linked(near: &Arc<Forwarder>, far: &Arc<Forwarder>) -> ([Link; 2], testing::Sockets) {
    let (a, b, sockets) = testing::pair().await;
    for (forwarder, link) in [(near, a.clone()), (far, b.clone())] {
        let forwarder = Arc::clone(forwarder);
        tokio::spawn(async move { forwarder.through(&link).await });
    }
    ([a, b], sockets)
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_every_length_come_back_to_whoever_has_sent_them() {
    let target = echo().await;
    let ((near, entry, _told), far) = (near(target), far(&format!("{target}/udp")));
    let (links, _sockets) = linked(&near, &far).await;
    let mut clients = Vec::new();
    for number in 0..8 {
        clients.push(tokio::spawn(async move {
            let socket = UdpSocket::bind(loopback()).await.unwrap();
            for length in
                (number + 1..=1400).step_by(8).chain([1, 0, 1400, 1420, 1452, 1472, 9000, 30_000])
            {
                comes_back(&socket, entry, &content(number, length)).await;
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    links[0].close(CloseCode::Done);
    let (near, far) = (near.summary(), far.summary());
    assert_eq!((near.udp_opened, far.udp_served), (8, 8));
    assert!(near.udp_sent >= 8 * 175 && near.udp_received >= 8 * 175, "{near:?}");
}

#[tokio::test]
async fn a_flow_that_is_not_allowed_is_refused_and_a_rule_for_tcp_allows_none() {
    let target = echo().await;
    let ((near, entry, mut told), far) = (near(target), far(&target.to_string()));
    let (_links, _sockets) = linked(&near, &far).await;
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    let mut sent = 0;
    let not_made = within(async {
        loop {
            socket.send_to(b"x", entry).await.unwrap();
            sent += 1;
            if let Ok(Some(Told::NotMade(not_made))) = timeout(AGAIN, told.recv()).await
                && not_made.code.is_none()
            {
                break not_made;
            }
        }
    })
    .await;
    assert!(
        not_made.reason.contains(&format!("{target}/udp is not allowed by --allow")),
        "{not_made:?}"
    );
    assert!(near.summary().refused_by_peer >= 1 && far.summary().forbidden >= 1);
    // Each has gone nowhere, be it that there was no link yet, or that it has waited for the answer.
    let sent = sent as u64;
    within(async {
        while near.summary().udp_dropped < sent {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!((near.summary().udp_dropped, near.summary().udp_sent), (sent, 0));
}

#[tokio::test]
async fn without_a_link_datagrams_are_dropped_told_and_counted_and_go_on_with_the_next_one() {
    let target = echo().await;
    let ((near, entry, mut told), far) = (near(target), far(&format!("{target}/udp")));
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    socket.send_to(b"lost", entry).await.unwrap();
    let Some(Told::NotMade(not_made)) = within(told.recv()).await else { panic!() };
    assert_eq!(not_made.code, Some("no_link"));
    assert_eq!(near.summary().udp_dropped, 1);
    for round in 0..3 {
        let (links, _sockets) = linked(&near, &far).await;
        comes_back(&socket, entry, &content(round, 100)).await;
        links[1].close("started again");
        within(links[0].closed()).await;
    }
    assert!(near.summary().udp_opened >= 3);
}

/// A peer that is not ours, after its greeting.
async fn peer(forwarder: &Arc<Forwarder>, greeting: Greeting) -> (Link, Agreed, testing::Sockets) {
    let (a, b, sockets) = testing::pair().await;
    let honest = Arc::clone(forwarder);
    tokio::spawn(async move { honest.through(&b).await });
    let greeted = within(agree(&a, &greeting)).await.unwrap();
    (a, greeted, sockets)
}

#[tokio::test]
async fn an_older_peer_is_told_to_be_too_old_for_udp() {
    let (near, entry, mut told) = near("127.0.0.1:9".parse().unwrap());
    let (_link, _greeted, _sockets) = peer(&near, Greeting::new("forward", "", 2)).await;
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    within(async {
        loop {
            socket.send_to(b"x", entry).await.unwrap();
            if let Ok(Some(Told::NotMade(not_made))) = timeout(AGAIN, told.recv()).await
                && not_made.code == Some("peer_too_old")
            {
                break;
            }
        }
    })
    .await;
}

async fn asks(
    link: &Link,
    id: u32,
    target: SocketAddr,
) -> (Option<Answer>, (SendStream, RecvStream)) {
    let (mut send, mut recv) = link.open_bi().await.unwrap();
    let target = target.to_string().parse().unwrap();
    write_message(&mut send, &Request::Flow { flow: FlowRequest { id, target } }).await.unwrap();
    let answer = within(read_message(&mut recv)).await.unwrap();
    (answer, (send, recv))
}

fn refused(answer: &Option<Answer>, expected: Refusal) -> bool {
    matches!(answer, Some(Answer::Refused { code: Some(code), .. }) if *code == expected)
}

fn datagram(flow: u32, payload: &[u8]) -> Bytes {
    [&flow.to_be_bytes()[..], &[0, 0, 0, 1], payload].concat().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_peer_opens_no_flows_without_end_and_reaches_none_that_is_not() {
    let target = echo().await;
    let far = far(&format!("{target}/udp"));
    let (link, _greeted, _sockets) = peer(&far, Greeting::new("forward", "", 2)).await;
    let (answer, _stream) = asks(&link, 1, target).await;
    assert!(refused(&answer, Refusal::Malformed), "a number of the other side's: {answer:?}");
    let mut held = Vec::new();
    for number in 0..FLOWS_MAX as u32 {
        let (answer, stream) = asks(&link, 2 * number, target).await;
        assert_eq!(answer, Some(Answer::Connected), "{number}");
        held.push(stream);
    }
    let (answer, _stream) = asks(&link, 0, target).await;
    assert!(refused(&answer, Refusal::Malformed), "a number that is taken: {answer:?}");
    let (answer, _stream) = asks(&link, 2 * FLOWS_MAX as u32, target).await;
    assert!(refused(&answer, Refusal::TooMany), "{answer:?}");
    // To flows that are not, to none, and beginnings without an end.
    for number in 0..1000_u32 {
        link.send_datagram(datagram(1_000_000 + number, b"x")).unwrap();
        link.send_datagram(Bytes::from_static(b"short")).unwrap();
        link.send_datagram(
            [&0_u32.to_be_bytes()[..], &number.to_be_bytes()[2..], &[0, 2, 1]].concat().into(),
        )
        .unwrap();
    }
    within(async {
        loop {
            link.send_datagram(datagram(4, b"still there")).unwrap();
            if let Ok(back) = timeout(AGAIN, link.read_datagram()).await {
                assert_eq!(back.unwrap()[8..], *b"still there");
                break;
            }
        }
    })
    .await;
    within(async {
        while far.summary().udp_dropped < 2000 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // The end of its stream is that of a flow, and makes room.
    let (mut send, _recv) = held.swap_remove(2);
    send.finish().unwrap();
    within(async {
        while asks(&link, 2 * FLOWS_MAX as u32, target).await.0 != Some(Answer::Connected) {}
    })
    .await;
}
