//! TCP connections through a link, with real sockets on loopback.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/line.rs"]
mod line;
#[path = "common/tcp.rs"]
mod tcp;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holepunch_link::{CloseCode, Link, testing};
use holepunch_programs::forward::frames::Frame;
use holepunch_programs::forward::{
    Answer, Asker, Ended, Failure, Forward, ForwardError, Listener, NotMade, REQUEST_BYTES_MAX,
    Request, Times, Told, forward,
};
use holepunch_programs::{Greeting, agree, read_message, write_message};
use holepunch_sim::link::{LinkConfig, Loss};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use tcp::{echo, listener, within};

/// Times of a test in which something does not answer.
const SHORT: Duration = Duration::from_millis(300);

type Running = JoinHandle<Result<Ended, ForwardError>>;

/// Two sides: the first listens, the second allows.
struct Scene<Way = testing::Sockets> {
    links: [Link; 2],
    near: Running,
    far: Running,
    entry: SocketAddr,
    socks: SocketAddr,
    _way: Way,
}

async fn scene(target: SocketAddr, allow: &[&str], times: Times) -> Scene {
    scene_on(testing::pair().await, target, allow, times).await
}

async fn scene_on<Way>(
    (a, b, way): (Link, Link, Way),
    target: SocketAddr,
    allow: &[&str],
    times: Times,
) -> Scene<Way> {
    let ((to_target, entry), (socks, socks_address)) = (listener().await, listener().await);
    let mut near = Forward {
        listeners: vec![(to_target, target.to_string().parse().unwrap())],
        socks: vec![socks],
        times,
        ..Forward::default()
    };
    let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
    let mut far = Forward { allow, times, ..Forward::default() };
    let links = [a.clone(), b.clone()];
    let near = tokio::spawn(async move { forward(&a, &mut near).await });
    let far = tokio::spawn(async move { forward(&b, &mut far).await });
    Scene { links, near, far, entry, socks: socks_address, _way: way }
}

impl<Way> Scene<Way> {
    /// Ends it; what each side has counted.
    async fn end(self) -> [Ended; 2] {
        self.links[0].close(CloseCode::Done);
        [within(self.near).await.unwrap().unwrap(), within(self.far).await.unwrap().unwrap()]
    }
}

/// What has no short pattern, another for each number.
fn content(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let length = (number * 7919) % 100_000;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn round(tcp: TcpStream, content: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = tcp.into_split();
    let mut back = Vec::new();
    let writing = async {
        to.write_all(content).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), read) = within(async { tokio::join!(writing, from.read_to_end(&mut back)) }).await;
    read.unwrap();
    back
}

async fn is_reset(tcp: &mut TcpStream) -> bool {
    let read = within(tcp.read(&mut [0; 16])).await;
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// So many connections, each with content of its own, that come back whole.
async fn all_at_once<Way>(scene: &Scene<Way>, connections: usize) {
    let mut all = JoinSet::new();
    for number in 0..connections {
        let entry = scene.entry;
        all.spawn(async move {
            let content = content(number);
            let tcp = TcpStream::connect(entry).await.unwrap();
            assert!(round(tcp, &content).await == content, "connection {number}");
        });
    }
    while let Some(done) = within(all.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_connections_at_once_keep_their_bytes_apart() {
    let target = echo().await;
    let scene = scene(target, &["127.0.0.1:*"], Times::default()).await;
    all_at_once(&scene, 250).await;
    let bytes: u64 = (0..250).map(|number| content(number).len() as u64).sum();
    let [near, far] = scene.end().await;
    assert_eq!((near.summary.opened, far.summary.served), (250, 250));
    assert_eq!((near.summary.sent_bytes, near.summary.received_bytes), (bytes, bytes));
    assert_eq!((near.summary.broken, far.summary.broken), (0, 0));
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (server, target) = listener().await;
    let scene = scene(target, &[&target.to_string()], Times::default()).await;
    let mut client = TcpStream::connect(scene.entry).await.unwrap();
    client.write_all(b"question").await.unwrap();
    let (mut served, _) = within(server.accept()).await.unwrap();
    // The server ends first, and still reads.
    served.shutdown().await.unwrap();
    assert_eq!(within(client.read(&mut [0; 8])).await.unwrap(), 0);
    client.write_all(b" and more").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    within(served.read_to_string(&mut question)).await.unwrap();
    assert_eq!(question, "question and more");
}

#[tokio::test]
async fn a_reset_is_passed_on_from_either_side() {
    let (server, target) = listener().await;
    let scene = scene(target, &[&target.to_string()], Times::default()).await;
    for client_resets in [true, false] {
        let mut client = TcpStream::connect(scene.entry).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let (mut served, _) = within(server.accept()).await.unwrap();
        within(served.read_exact(&mut [0; 1])).await.unwrap();
        let (resets, mut other) = if client_resets { (client, served) } else { (served, client) };
        resets.set_zero_linger().unwrap();
        drop(resets);
        assert!(is_reset(&mut other).await, "client resets: {client_resets}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_counted_and_harms_nobody() {
    let target = echo().await;
    let (_other, forbidden) = listener().await;
    let scene = scene(forbidden, &[&target.to_string()], Times::default()).await;
    let mut client = TcpStream::connect(scene.entry).await.unwrap();
    client.write_all(b"for nobody").await.unwrap();
    assert!(is_reset(&mut client).await);
    let tcp = socks_connect(scene.socks, &name("127.0.0.1", target.port())).await.unwrap();
    assert_eq!(round(tcp, b"still there").await, b"still there");
    let [near, far] = scene.end().await;
    assert_eq!((near.summary.refused_by_peer, far.summary.forbidden), (1, 1));
    let bytes = b"still there".len() as u64;
    assert_eq!((near.summary.sent_bytes, far.summary.received_bytes), (bytes, bytes));
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_given_up() {
    // The system completes a few handshakes for a listener that takes none, and then no more.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let silent = silent.listen(0).unwrap();
    let target = silent.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(tcp)) = timeout(SHORT, TcpStream::connect(target)).await {
        filling.push(tcp);
    }
    let times = Times { connect: SHORT, ..Times::default() };
    let scene = scene(target, &[&target.to_string()], times).await;
    let refused = socks_connect(scene.socks, &name("127.0.0.1", target.port())).await;
    assert_eq!(refused.unwrap_err(), 4);
    assert_eq!(scene.end().await[1].summary.failed, 1);
}

/// A SOCKS request for a name, or an address written as one.
fn name(host: &str, port: u16) -> Vec<u8> {
    let length = u8::try_from(host.len()).unwrap();
    [&[5, 1, 0, 3, length], host.as_bytes(), &port.to_be_bytes()].concat()
}

/// Connects by SOCKS; the code of the reply where that fails.
async fn socks_connect(socks: SocketAddr, request: &[u8]) -> Result<TcpStream, u8> {
    let mut tcp = TcpStream::connect(socks).await.unwrap();
    tcp.write_all(&[5, 1, 0]).await.unwrap();
    let mut welcome = [0; 2];
    within(tcp.read_exact(&mut welcome)).await.unwrap();
    assert_eq!(welcome, [5, 0]);
    tcp.write_all(request).await.unwrap();
    let mut reply = [0; 10];
    within(tcp.read_exact(&mut reply)).await.unwrap();
    if reply[1] == 0 { Ok(tcp) } else { Err(reply[1]) }
}

#[tokio::test]
async fn socks_reaches_names_and_addresses() {
    let target = echo().await;
    let port = target.port();
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await;
    let allow = [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]:*".to_owned()];
    let allow: Vec<&str> = allow.iter().map(String::as_str).collect();
    let scene = scene(target, &allow, Times::default()).await;
    let v4_request = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    for request in [v4_request, name("127.0.0.1", port), name("LOCALHOST.", port)] {
        let tcp = socks_connect(scene.socks, &request).await.unwrap();
        assert_eq!(round(tcp, b"by socks").await, b"by socks");
    }
    // A machine may have no IPv6.
    if let Ok(v6) = v6 {
        let port = v6.local_addr().unwrap().port();
        let address = Ipv6Addr::LOCALHOST.octets();
        let request = [&[5, 1, 0, 4][..], &address, &port.to_be_bytes()].concat();
        let mut tcp = socks_connect(scene.socks, &request).await.unwrap();
        let (mut served, _) = within(v6.accept()).await.unwrap();
        served.write_all(b"six").await.unwrap();
        within(tcp.read_exact(&mut [0; 3])).await.unwrap();
    }
}

#[tokio::test]
async fn socks_says_what_is_wrong() {
    let (closed, target) = listener().await;
    drop(closed);
    let port = target.port();
    let rule = format!("127.0.0.1:{port}");
    let scene = scene(target, &[&rule, "no.such.name.invalid:1"], Times::default()).await;
    for (request, code) in [
        (name("127.0.0.1", port), 5),
        (name("127.0.0.2", port), 2),
        (name("no.such.name.invalid", 1), 4),
        (name("127.1", port), 1),
        (vec![5, 2, 0, 1, 1, 2, 3, 4, 0, 80], 7),
        (vec![5, 1, 0, 9, 1, 2, 3, 4, 0, 80], 8),
    ] {
        assert_eq!(socks_connect(scene.socks, &request).await.unwrap_err(), code, "{request:?}");
    }
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80, 1, 2, 3, 4, 0], &[5, 1, 2]] {
        let mut tcp = TcpStream::connect(scene.socks).await.unwrap();
        tcp.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let _ended = within(tcp.read_to_end(&mut answer)).await;
        assert!(answer.is_empty() || answer == [5, 0xff], "{answer:?}");
    }
}

#[tokio::test]
async fn bytes_that_follow_a_socks_request_at_once_are_kept() {
    let target = echo().await;
    let scene = scene(target, &[&target.to_string()], Times::default()).await;
    let mut tcp = TcpStream::connect(scene.socks).await.unwrap();
    let request = name("127.0.0.1", target.port());
    tcp.write_all(&[&[5, 1, 0], &request[..], b"early"].concat()).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(tcp.read_to_end(&mut all)).await.unwrap();
    assert_eq!(&all[12..], b"early");
}

/// A peer that is not ours, after its greeting; and the honest side that it meets.
async fn hostile(allow: &[&str]) -> (Link, Running, holepunch_programs::Agreed, testing::Sockets) {
    let (a, b, sockets) = testing::pair().await;
    let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
    let times = Times { request: SHORT, ..Times::default() };
    let mut honest = Forward { allow, times, ..Forward::default() };
    let running = tokio::spawn(async move { forward(&b, &mut honest).await });
    let own = Greeting::new("forward", "", 2);
    let greeted = within(agree(&a, &own)).await.unwrap();
    (a, running, greeted, sockets)
}

/// The end of the link may overtake that of a stream, where a packet is lost.
#[tokio::test]
async fn a_connection_that_has_ended_both_ways_is_whole_though_its_stream_has_no_end() {
    let target = echo().await;
    let (link, running, _greeted, _sockets) = hostile(&[&target.to_string()]).await;
    let (mut send, mut recv) = link.open_bi().await.unwrap();
    let request = Request::Connect { target: target.to_string().parse().unwrap() };
    write_message(&mut send, &request).await.unwrap();
    let answer: Option<Answer> = within(read_message(&mut recv)).await.unwrap();
    assert!(matches!(answer, Some(Answer::Connected)), "{answer:?}");
    let all = [&Frame::Data(5).head()[..], b"bytes", &Frame::End.head()].concat();
    send.write_all(&all).await.unwrap();
    let mut back = Vec::new();
    within(recv.read_to_end(&mut back)).await.unwrap();
    assert_eq!(back, all);
    link.close(CloseCode::Done);
    let summary = within(running).await.unwrap().unwrap().summary;
    assert_eq!((summary.served, summary.broken), (1, 0));
    drop(send);
}

/// An honest request on a link of a hostile peer.
async fn still_serves(link: &Link, target: SocketAddr) {
    within(async {
        loop {
            let (mut send, mut recv) = link.open_bi().await.unwrap();
            let request = Request::Connect { target: target.to_string().parse().unwrap() };
            let written = write_message(&mut send, &request).await;
            // While its streams fill the limit, a newcomer is turned away.
            let answer = read_message::<Answer>(&mut recv).await;
            if written.is_ok() && matches!(answer, Ok(Some(Answer::Connected))) {
                let all = [&Frame::Data(5).head()[..], b"bytes", &Frame::End.head()].concat();
                send.write_all(&all).await.unwrap();
                send.finish().unwrap();
                let mut back = Vec::new();
                recv.read_to_end(&mut back).await.unwrap();
                return assert_eq!(back, all);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_streams_is_turned_away_and_the_link_goes_on() {
    let target = echo().await;
    let (link, running, _greeted, _sockets) = hostile(&[&target.to_string()]).await;
    let mut held = Vec::new();
    for number in 0..10_000 {
        let (mut send, recv) = within(link.open_bi()).await.unwrap();
        // Never a whole request, nor a look at what comes; the first thousand not even an end.
        let _unless_turned_away = send.write_all(&[0]).await;
        std::mem::forget(recv);
        held.extend((number < 1000).then_some(send));
    }
    still_serves(&link, target).await;
    link.close(CloseCode::Done);
    let summary = within(running).await.unwrap().unwrap().summary;
    assert_eq!(summary.served, 1);
    assert!(summary.malformed + summary.busy + summary.broken >= 10_000, "{summary:?}");
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let target = echo().await;
    let (link, running, _greeted, _sockets) = hostile(&[&target.to_string()]).await;
    let long = u32::try_from(REQUEST_BYTES_MAX + 1).unwrap().to_be_bytes();
    for bad in [&long[..], &[0, 0, 0, 2, b'{', b'}'], &[0, 0, 0, 0], &[0xff; 64]] {
        let (mut send, mut recv) = link.open_bi().await.unwrap();
        send.write_all(bad).await.unwrap();
        let answer = within(read_message::<Answer>(&mut recv)).await.unwrap();
        assert!(matches!(answer, Some(Answer::Refused { .. })), "{answer:?}");
    }
    let (mut send, mut recv) = link.open_bi().await.unwrap();
    let request = Request::Connect { target: "127.0.0.1:1".parse().unwrap() };
    write_message(&mut send, &request).await.unwrap();
    let answer: Option<Answer> = within(read_message(&mut recv)).await.unwrap();
    let Some(Answer::Refused { reason, .. }) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("127.0.0.1:1") && reason.contains("--allow"), "{reason}");
    still_serves(&link, target).await;
    link.close(CloseCode::Done);
    let summary = within(running).await.unwrap().unwrap().summary;
    assert_eq!((summary.malformed, summary.forbidden, summary.served), (4, 1, 1));
}

#[tokio::test]
async fn a_connection_that_nobody_listens_for_says_so() {
    let (closed, target) = listener().await;
    drop(closed);
    let (link, _running, _greeted, _sockets) = hostile(&[&target.to_string()]).await;
    let (mut send, mut recv) = link.open_bi().await.unwrap();
    let request = Request::Connect { target: target.to_string().parse().unwrap() };
    write_message(&mut send, &request).await.unwrap();
    let answer: Option<Answer> = within(read_message(&mut recv)).await.unwrap();
    assert!(matches!(answer, Some(Answer::Failed { failure: Failure::Refused, .. })), "{answer:?}");
}

#[tokio::test]
async fn a_peer_that_leaves_resets_what_is_open_and_closes_the_listeners() {
    let (server, target) = listener().await;
    let scene = scene(target, &[&target.to_string()], Times::default()).await;
    let mut client = TcpStream::connect(scene.entry).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let (mut served, _) = within(server.accept()).await.unwrap();
    within(served.read_exact(&mut [0; 1])).await.unwrap();
    let entry = scene.entry;
    scene.links[1].close("going home");
    assert!(is_reset(&mut client).await && is_reset(&mut served).await);
    let near = within(scene.near).await.unwrap().unwrap();
    assert!(near.why.to_string().contains("going home"), "{}", near.why);
    assert_eq!(near.summary.broken, 1);
    assert!(TcpStream::connect(entry).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_is_lost_where_one_packet_in_a_hundred_is() {
    let direction = LinkConfig::with_delay(Duration::from_millis(5)).with_loss(Loss::Random(0.01));
    let ends = line::pair(direction, 7).await;
    let target = echo().await;
    let scene = scene_on(ends, target, &["127.0.0.1:*"], Times::default()).await;
    all_at_once(&scene, 100).await;
    assert!(scene.links[0].traffic().lost_packets > 0, "the line lost nothing");
    let [near, far] = scene.end().await;
    assert_eq!((near.summary.broken, far.summary.broken), (0, 0));
}

/// Writes into a connection until nothing more is taken: the sockets, the program and the link hold all
/// that they hold of it.
async fn fill(tcp: &mut TcpStream) -> usize {
    let (piece, mut written) = ([7; 64 * 1024], 0);
    while let Ok(more) = timeout(SHORT, tcp.write(&piece)).await {
        written += more.unwrap();
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_nobody_reads_from_stall_no_other() {
    let (silent, target) = listener().await;
    let echo = echo().await;
    let scene = scene(target, &["127.0.0.1:*"], Times::default()).await;
    let mut filling = JoinSet::new();
    for _ in 0..64 {
        let mut client = TcpStream::connect(scene.entry).await.unwrap();
        let (served, _) = within(silent.accept()).await.unwrap();
        filling.spawn(async move { (fill(&mut client).await, client, served) });
    }
    // Each has filled what there is for it, and is kept as it is.
    let mut stalled: Vec<_> = within(filling.join_all()).await;
    // More than any window on the way, there and back.
    let all: Vec<u8> = (1..400).flat_map(content).collect();
    assert!(all.len() > 16_000_000);
    for _ in 0..2 {
        let tcp = socks_connect(scene.socks, &name("127.0.0.1", echo.port())).await.unwrap();
        assert!(round(tcp, &all).await == all);
    }
    // What was held up goes on as soon as somebody reads, and is all there.
    let (written, mut client, mut served) = stalled.remove(0);
    let finishing = async {
        client.write_all(b"the end").await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let both = async { tokio::join!(finishing, served.read_to_end(&mut read)) };
    within(both).await.1.unwrap();
    assert!(read.ends_with(b"the end") && read.len() == written + b"the end".len());
}

fn not_made(told: Told) -> NotMade {
    let Told::NotMade(not_made) = told else { panic!("{told:?}") };
    not_made
}

/// What each side is told of connections that do not come about.
#[tokio::test]
async fn both_sides_are_told_which_connection_was_not_made_and_why() {
    let (a, b, _sockets) = testing::pair().await;
    let (closed, gone) = listener().await;
    drop(closed);
    let mut entries = Vec::new();
    let mut near = Forward::default();
    for target in [gone, "192.0.2.1:9".parse().unwrap()] {
        let (entry, address) = listener().await;
        near.listeners.push((entry, target.to_string().parse().unwrap()));
        entries.push(address);
    }
    let allow = [gone.to_string().parse().unwrap()].into_iter().collect();
    let mut far = Forward { allow, ..Forward::default() };
    let told = [&mut near, &mut far].map(|side| {
        let (sender, told) = unbounded_channel();
        side.listener = Listener::new(move |told| sender.send(not_made(told)).unwrap());
        told
    });
    let counts = [&near, &far].map(|side| Arc::clone(&side.counts));
    let running = tokio::spawn(async move { forward(&a, &mut near).await });
    let other = tokio::spawn(async move { forward(&b, &mut far).await });
    let [mut near, mut far] = told;
    let others = "192.0.2.1:9".parse().unwrap();
    for (entry, target, why) in [(entries[0], gone, "refused"), (entries[1], others, "not allowed")]
    {
        let mut tcp = TcpStream::connect(entry).await.unwrap();
        let _reset = within(tcp.read(&mut [0])).await;
        for (told, asked_by) in [(&mut near, Asker::ThisSide), (&mut far, Asker::Peer)] {
            let told = within(told.recv()).await.unwrap();
            assert_eq!(told.target, Some(target.to_string().parse().unwrap()));
            assert!(told.asked_by == asked_by && told.reason.contains(why), "{told:?}");
        }
    }
    let [near, far] = counts.map(|counts| counts.summary());
    assert_eq!((near.refused_by_peer, far.failed, far.forbidden), (2, 1, 1));
    running.abort();
    other.abort();
}

#[tokio::test]
async fn a_connection_too_many_is_reset_told_and_counted_and_there_is_room_again_when_one_ends() {
    let target = echo().await;
    let (a, b, _sockets) = testing::pair().await;
    let (to_target, entry) = listener().await;
    let (sender, mut told) = unbounded_channel();
    let mut near = Forward {
        listeners: vec![(to_target, target.to_string().parse().unwrap())],
        open_files_max: Some(2),
        listener: Listener::new(move |told| sender.send(not_made(told)).unwrap()),
        ..Forward::default()
    };
    let allow = [target.to_string().parse().unwrap()].into_iter().collect();
    let mut far = Forward { allow, ..Forward::default() };
    let counts = Arc::clone(&near.counts);
    let running = tokio::spawn(async move { forward(&a, &mut near).await });
    let other = tokio::spawn(async move { forward(&b, &mut far).await });
    let mut carried = Vec::new();
    for _ in 0..2 {
        let mut tcp = TcpStream::connect(entry).await.unwrap();
        tcp.write_all(b"x").await.unwrap();
        within(tcp.read_exact(&mut [0])).await.unwrap();
        carried.push(tcp);
    }
    let mut beyond = TcpStream::connect(entry).await.unwrap();
    assert!(is_reset(&mut beyond).await);
    let not_made = within(told.recv()).await.unwrap();
    assert_eq!(not_made.target, Some(target.to_string().parse().unwrap()));
    assert!(not_made.asked_by == Asker::ThisSide && not_made.reason.contains("ulimit -n"));
    assert_eq!((counts.summary().turned_away, counts.summary().opened), (1, 2));
    // The place is free once both sides have ended it, which nobody here is told.
    assert_eq!(round(carried.pop().unwrap(), b"last").await, b"last");
    within(async {
        loop {
            let mut tcp = TcpStream::connect(entry).await.unwrap();
            let _reset = tcp.write_all(b"x").await;
            if tcp.read_exact(&mut [0]).await.is_ok() {
                break;
            }
        }
    })
    .await;
    running.abort();
    other.abort();
}
