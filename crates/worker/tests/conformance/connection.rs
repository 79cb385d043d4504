//! The WebSocket comes and goes; the UDP port does not care.

use holepunch_worker::{Event, Notice, Signal};
use tokio::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

use crate::common::rendezvous::Absent;
use crate::common::subject::{MAPPED, config};
use crate::common::{Peer, Rendezvous, Scene, Session, StunServer, Subject, within};

/// Long enough for a report that should not be made to arrive all the same.
const QUIET: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_worker_that_is_free_registers_and_reports_again_when_the_connection_is_lost() {
    let mut scene = Scene::ready().await;
    for _ in 0..2 {
        drop(scene.session);
        let (_, retry_in) = scene.worker.until_disconnected().await;
        assert!(retry_in <= Duration::from_secs(1), "{retry_in:?}");
        scene.session = scene.rendezvous.accept().await;
        assert_eq!(scene.session.worker_id(), scene.id, "the same worker");
        assert_eq!(scene.session.report().await, MAPPED);
    }
    let asked = |event: &&Event| matches!(event, Event::StunAsked(_));
    assert_eq!(scene.worker.udp_events().filter(asked).count(), 1, "the endpoint is known");
}

#[tokio::test]
async fn a_close_by_the_rendezvous_is_answered_and_followed_by_another_registration() {
    let scene = Scene::ready().await;
    let mut worker = scene.worker;
    let said = scene.session.close(1000, "New connection from same worker ID").await;
    assert_eq!(said, Some(1000), "the close frame is answered (RFC 6455 §5.5.1)");
    let (why, _) = worker.until_disconnected().await;
    assert!(why.contains("1000 New connection from same worker ID"), "{why}");
    assert_eq!(scene.rendezvous.accept().await.worker_id(), scene.id);
}

#[tokio::test]
async fn a_punch_goes_on_without_the_rendezvous_and_a_linked_worker_reports_nothing() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    scene.session.offer(&peer.id, peer.address).await;
    peer.ping(&scene.id).await;
    drop(scene.session);
    scene.worker.until_disconnected().await;
    // Nobody answers the worker's handshakes while the link is made.
    peer.link_with(&scene.id).await;
    assert_eq!(scene.worker.until_linked().await.address, peer.address);
    let mut session = scene.rendezvous.accept().await;
    assert_eq!(session.worker_id(), scene.id);
    let registered = |notice: &Notice| *notice == Notice::Signal(Signal::Connected);
    scene.worker.until_it("the registration", registered).await;
    scene.worker.catches_up_with(&mut session).await;
    session.is_told_nothing_for(QUIET).await;
    // The link is still there, at the same port.
    peer.send_ping(2, scene.udp).await;
    assert_eq!(peer.answer_of(&scene.id, 2).await, scene.udp);
    let over = |event: &Event| matches!(event, Event::PeerLost(..) | Event::LinkFailed { .. });
    assert!(!scene.worker.udp_events().any(over));
}

#[tokio::test]
async fn a_rendezvous_that_is_not_there_yet_is_tried_with_backoff_until_it_comes() {
    let absent = Absent::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", absent.address);
    let mut worker = Subject::start(config(&url, stun.address)).await;
    stun.answer_next(MAPPED).await;
    for ceiling_ms in [500, 1000, 2000] {
        let (why, retry_in) = worker.until_disconnected().await;
        assert!(retry_in <= Duration::from_millis(ceiling_ms), "{retry_in:?}");
        assert!(why.contains("refused"), "{why}");
    }
    let rendezvous = absent.appear();
    assert_eq!(rendezvous.accept().await.report().await, MAPPED);
}

#[tokio::test]
async fn a_handshake_that_is_refused_is_tried_again() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", rendezvous.address);
    let mut worker = Subject::start(config(&url, stun.address)).await;
    for status in ["404 Not Found", "503 Service Unavailable", "200 OK"] {
        rendezvous.refuse(status).await;
        let (why, _) = worker.until_disconnected().await;
        assert!(why.contains(&status[..3]), "{why}");
    }
    stun.answer_next(MAPPED).await;
    assert_eq!(rendezvous.accept().await.report().await, MAPPED);
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing_is_given_up_and_tried_again() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", rendezvous.address);
    let mut worker = Subject::start(config(&url, stun.address)).await;
    stun.answer_next(MAPPED).await;
    let silent = rendezvous.accept_tcp().await;
    let (why, _) = worker.until_disconnected().await;
    let told = format!("{} has not answered within 10s: it takes", rendezvous.address);
    assert!(why.starts_with(&told), "{why}");
    assert_eq!(rendezvous.accept().await.report().await, MAPPED);
    drop(silent);
}

/// A session with a worker that pings at this interval, and the time before it began.
async fn pinging(interval: Duration, timeout: Duration) -> (Subject, Session, Instant) {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let mut config = config(&format!("http://{}", rendezvous.address), stun.address);
    config.ping_interval = interval;
    config.ping_timeout = timeout;
    let worker = Subject::start(config).await;
    let before = Instant::now();
    (worker, rendezvous.accept().await, before)
}

#[tokio::test]
async fn the_websocket_is_pinged_at_the_interval_that_is_set() {
    let interval = Duration::from_millis(120);
    let (_worker, mut session, start) = pinging(interval, Duration::from_secs(30)).await;
    for number in 1..=4 {
        let frame = within("a ping of the worker", session.frame()).await;
        assert!(matches!(frame, Some(Message::Ping(_))), "{frame:?}");
        assert!(start.elapsed() >= interval * number, "ping {number}: {:?}", start.elapsed());
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_rendezvous_that_answers_no_ping_is_given_up_after_the_timeout_that_is_set() {
    let interval = Duration::from_millis(100);
    let timeout = Duration::from_millis(300);
    let (mut worker, session, start) = pinging(interval, timeout).await;
    // Nobody reads the session, so nobody answers.
    let (why, _) = worker.until_disconnected().await;
    assert!(why.contains("ping was not answered within 300ms"), "{why}");
    let elapsed = start.elapsed();
    assert!(elapsed >= interval + timeout && elapsed < Duration::from_secs(10), "{elapsed:?}");
    drop(session);
}

#[tokio::test]
async fn a_ping_of_the_rendezvous_is_answered_with_its_payload() {
    let mut scene = Scene::ready().await;
    within("three answers", async {
        for _ in 0..3 {
            scene.session.is_up().await;
        }
    })
    .await;
}
