//! Forwarding that outlives links, listeners on the peer's side, and many peers at once; real sockets on loopback.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/tcp.rs"]
mod tcp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holepunch_link::{CloseCode, Link, RecvStream, SendStream, testing};
use holepunch_programs::forward::{
    Answer, Ended, Entrance, Forward, ForwardError, Forwarder, LISTENERS_FOR_PEER_MAX, Listener,
    Missing, Refusal, Remote, Request, Times, Told,
};
use holepunch_programs::{Agreed, Greeting, agree, read_message, write_message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use tcp::{echo, listener, within};

const SHORT: Duration = Duration::from_millis(100);

/// An address at which nothing listens.
async fn free() -> SocketAddr {
    listener().await.1
}

/// What comes back of a word; `None` where the connection is reset.
async fn word(entry: SocketAddr) -> Option<Vec<u8>> {
    let mut tcp = TcpStream::connect(entry).await.unwrap();
    let mut back = Vec::new();
    within(async {
        tcp.write_all(b"word").await.ok()?;
        tcp.shutdown().await.ok()?;
        tcp.read_to_end(&mut back).await.ok()?;
        Some(back)
    })
    .await
}

type Running = JoinHandle<Result<Ended, ForwardError>>;

fn through(forwarder: &Arc<Forwarder>, link: &Link) -> Running {
    let (forwarder, link) = (Arc::clone(forwarder), link.clone());
    tokio::spawn(async move { forwarder.through(&link).await })
}

fn allowing(target: SocketAddr) -> Forward {
    let allow = [target.to_string().parse().unwrap()].into_iter().collect();
    Forward { allow, peers_max: 64, ..Forward::default() }
}

fn serving(target: SocketAddr) -> Arc<Forwarder> {
    Arc::new(Forwarder::new(allowing(target)))
}

/// What is told.
fn told(what: &mut Forward) -> UnboundedReceiver<Told> {
    let (sender, told) = unbounded_channel();
    what.listener = Listener::new(move |it| drop(sender.send(it)));
    told
}

#[tokio::test]
async fn listeners_stay_open_from_one_link_to_the_next_and_connections_wait_for_it() {
    let target = echo().await;
    let (entrance, entry) = listener().await;
    let listeners = vec![(entrance, target.to_string().parse().unwrap())];
    let near = Arc::new(Forwarder::new(Forward { listeners, ..Forward::default() }));
    let far = serving(target);
    for round in 1..=3 {
        // It comes while there is no link.
        let waiting = tokio::spawn(word(entry));
        let (a, b, _sockets) = testing::pair().await;
        let (near_side, far_side) = (through(&near, &a), through(&far, &b));
        assert_eq!(within(waiting).await.unwrap().as_deref(), Some(&b"word"[..]), "round {round}");
        assert_eq!(word(entry).await.as_deref(), Some(&b"word"[..]), "round {round}");
        b.close("started again");
        let ended = within(near_side).await.unwrap().unwrap();
        assert!(ended.why.to_string().contains("started again"), "{}", ended.why);
        within(far_side).await.unwrap().unwrap();
        assert_eq!(near.summary().opened, 2 * round);
    }
    assert_eq!(near.summary().broken, 0);
}

#[tokio::test]
async fn without_a_link_a_connection_is_refused_after_a_while_with_what_is_missing() {
    let (entrance, entry) = listener().await;
    let target = "127.0.0.1:9".parse().unwrap();
    let times = Times { link: SHORT, ..Times::default() };
    let listeners = vec![(entrance, target)];
    let mut what = Forward { listeners, times, ..Forward::default() };
    let mut told = told(&mut what);
    let near = Forwarder::new(what);
    near.is_missing(Missing { code: "no_peer", text: "no peer has come".to_owned() });
    assert_eq!(word(entry).await, None);
    let Some(Told::NotMade(not_made)) = within(told.recv()).await else { panic!() };
    assert_eq!(not_made.code, Some("no_peer"));
    assert_eq!(not_made.reason, "there is no link: no peer has come");
    assert_eq!(near.summary().without_link, 1);
}

#[tokio::test]
async fn the_peer_listens_where_it_allows_that_and_what_comes_reaches_this_side() {
    let (target, listen) = (echo().await, free().await);
    let to = target.to_string().parse().unwrap();
    let mut near = Forward { remotes: vec![Remote { listen, to }], ..Forward::default() };
    let mut told = told(&mut near);
    let near = Arc::new(Forwarder::new(near));
    let allow_listen = [listen.port().to_string().parse().unwrap()].into_iter().collect();
    let far = Arc::new(Forwarder::new(Forward { allow_listen, ..Forward::default() }));
    for _link in 0..2 {
        let (a, b, _sockets) = testing::pair().await;
        let (near_side, far_side) = (through(&near, &a), through(&far, &b));
        let Some(Told::Listening(there)) = within(told.recv()).await else { panic!() };
        assert_eq!((there.listen, there.address), (listen, listen));
        for _connection in 0..3 {
            assert_eq!(word(listen).await.as_deref(), Some(&b"word"[..]));
        }
        a.close(CloseCode::Done);
        within(near_side).await.unwrap().unwrap();
        within(far_side).await.unwrap().unwrap();
        assert!(TcpStream::connect(listen).await.is_err(), "it listens for nobody");
    }
    assert_eq!((near.summary().served, far.summary().opened), (6, 6));
}

#[tokio::test]
async fn a_listener_that_the_peer_does_not_allow_is_refused_with_a_code() {
    let listen = free().await;
    let to = "127.0.0.1:9".parse().unwrap();
    let mut near = Forward { remotes: vec![Remote { listen, to }], ..Forward::default() };
    let mut told = told(&mut near);
    let mut far = allowing("127.0.0.1:9".parse().unwrap());
    let mut told_there = self::told(&mut far);
    let (near, far) = (Arc::new(Forwarder::new(near)), Arc::new(Forwarder::new(far)));
    let (a, b, _sockets) = testing::pair().await;
    let _both = (through(&near, &a), through(&far, &b));
    let Some(Told::NotListening(why)) = within(told.recv()).await else { panic!() };
    assert_eq!((why.listen, why.code), (listen, "not_allowed"));
    let rule = format!("--allow-listen {} ", listen.port());
    assert!(why.reason.contains(&rule), "{}", why.reason);
    let Some(Told::ListenRefused(there)) = within(told_there.recv()).await else { panic!() };
    assert_eq!((there.address, there.code, there.reason), (listen, "not_allowed", why.reason));
    assert!(TcpStream::connect(listen).await.is_err());
}

/// A peer that is not ours, after its greeting.
async fn peer(forwarder: &Arc<Forwarder>, greeting: Greeting) -> (Link, Agreed, testing::Sockets) {
    let (a, b, sockets) = testing::pair().await;
    through(forwarder, &b);
    let greeted = within(agree(&a, &greeting)).await.unwrap();
    (a, greeted, sockets)
}

fn older() -> Greeting {
    Greeting::new("forward", "", 2)
}

async fn asks(link: &Link, request: &Request) -> (Option<Answer>, (SendStream, RecvStream)) {
    let (mut send, mut recv) = link.open_bi().await.unwrap();
    write_message(&mut send, request).await.unwrap();
    let answer = within(read_message(&mut recv)).await.unwrap();
    (answer, (send, recv))
}

#[tokio::test]
async fn an_older_peer_is_not_asked_to_listen_and_that_is_told() {
    let listen = free().await;
    let to = "127.0.0.1:9".parse().unwrap();
    let mut near = Forward { remotes: vec![Remote { listen, to }], ..Forward::default() };
    let mut told = told(&mut near);
    let near = Arc::new(Forwarder::new(near));
    let (_link, _greeted, _sockets) = peer(&near, older()).await;
    let Some(Told::NotListening(why)) = within(told.recv()).await else { panic!() };
    assert_eq!(why.code, "peer_too_old");
}

#[tokio::test]
async fn a_hostile_peer_listens_nowhere_but_where_it_may_and_that_not_without_end() {
    let allowed = free().await;
    let port = allowed.port();
    let rules = (1..=LISTENERS_FOR_PEER_MAX + 1).map(|last| format!("127.0.0.{last}:{port}"));
    let allow_listen = rules.map(|rule| rule.parse().unwrap()).collect();
    let remotes = vec![Remote { listen: allowed, to: echo().await.to_string().parse().unwrap() }];
    let far = Forward { allow_listen, remotes, ..Forward::default() };
    let far = Arc::new(Forwarder::new(far));
    let (link, _greeted, _sockets) = peer(&far, older()).await;
    let at = |address: &str, number| Request::Listen {
        listen: Entrance { address: address.parse().unwrap(), number },
    };
    for address in [
        "127.0.0.1:0",
        "0.0.0.0:0",
        "127.0.0.1:22",
        &format!("[::1]:{port}"),
        &format!("0.0.0.0:{port}"),
        &format!("[::]:{port}"),
        &format!("192.0.2.1:{port}"),
    ] {
        let (answer, _stream) = asks(&link, &at(address, 0)).await;
        let Some(Answer::Refused { code: Some(Refusal::NotAllowed), .. }) = answer else {
            panic!("{address}: {answer:?}")
        };
    }
    let mut held = Vec::new();
    for number in 0..LISTENERS_FOR_PEER_MAX + 1 {
        let (answer, stream) =
            asks(&link, &at(&format!("127.0.0.{}:{port}", number + 1), number)).await;
        held.push(stream);
        if number < LISTENERS_FOR_PEER_MAX {
            assert!(matches!(answer, Some(Answer::Listening { .. })), "{number}: {answer:?}");
        } else {
            let is_full =
                matches!(answer, Some(Answer::Refused { code: Some(Refusal::TooMany), .. }));
            assert!(is_full, "{answer:?}");
        }
    }
    // This side has a listener of its own at the peer in mind, and the peer was never asked for it.
    let (answer, _stream) = asks(&link, &Request::Accepted { accepted: 0 }).await;
    assert!(
        matches!(answer, Some(Answer::Refused { code: Some(Refusal::Malformed), .. })),
        "{answer:?}"
    );
    link.close(CloseCode::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_floods_or_fails_touches_no_other() {
    let target = echo().await;
    let far = serving(target);
    let (hostile, _greeted, _sockets) = peer(&far, older()).await;
    let mut held = Vec::new();
    for _ in 0..1000 {
        let (mut send, recv) = within(hostile.open_bi()).await.unwrap();
        let _unless_turned_away = send.write_all(&[0]).await;
        held.push((send, recv));
    }
    let (other_program, other_side, _more_sockets) = testing::pair().await;
    let failed = through(&far, &other_side);
    within(agree(&other_program, &Greeting::new("chat", "", 2))).await.unwrap_err();
    within(failed).await.unwrap().unwrap_err();
    for _ in 0..2 {
        let (entrance, entry) = listener().await;
        let listeners = vec![(entrance, target.to_string().parse().unwrap())];
        let near = Arc::new(Forwarder::new(Forward { listeners, ..Forward::default() }));
        let (a, b, _sockets) = testing::pair().await;
        let _both = (through(&near, &a), through(&far, &b));
        for _ in 0..10 {
            assert_eq!(word(entry).await.as_deref(), Some(&b"word"[..]));
        }
    }
}

#[tokio::test]
async fn of_several_peers_one_leaves_places_to_the_others() {
    let target = echo().await;
    let far = Forward { open_files_max: Some(8), ..allowing(target) };
    let far = Arc::new(Forwarder::new(far));
    let (greedy, _greeted, _sockets) = peer(&far, older()).await;
    let request = Request::Connect { target: target.to_string().parse().unwrap() };
    let mut held = Vec::new();
    for number in 0..8 {
        let (mut send, mut recv) = greedy.open_bi().await.unwrap();
        let written = write_message(&mut send, &request).await;
        let answer = within(read_message::<Answer>(&mut recv)).await;
        let is_made = written.is_ok() && matches!(answer, Ok(Some(Answer::Connected)));
        assert_eq!(is_made, number < 4, "{number}: {answer:?}");
        held.push((send, recv));
    }
    let (modest, _greeted, _sockets) = peer(&far, older()).await;
    let (answer, _stream) = asks(&modest, &request).await;
    assert_eq!(answer, Some(Answer::Connected));
}

#[tokio::test]
async fn of_several_peers_the_first_that_lets_anything_be_reached_is_used() {
    let target = echo().await;
    let (entrance, entry) = listener().await;
    let listeners = vec![(entrance, target.to_string().parse().unwrap())];
    let near = Arc::new(Forwarder::new(Forward { listeners, ..Forward::default() }));
    let idle = Arc::new(Forwarder::new(Forward::default()));
    let far = serving(target);
    let (a, b, _first) = testing::pair().await;
    let idle_side = (through(&near, &a), through(&idle, &b));
    // It has begun with the first.
    within(async { while word(entry).await.is_some() {} }).await;
    let (c, d, _second) = testing::pair().await;
    let _serving_side = (through(&near, &c), through(&far, &d));
    within(async { while word(entry).await.is_none() {} }).await;
    a.close(CloseCode::Done);
    within(idle_side.0).await.unwrap().unwrap();
    assert_eq!(word(entry).await.as_deref(), Some(&b"word"[..]));
}
