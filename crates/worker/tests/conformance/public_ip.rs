//! The public IP, as a scripted HTTP echo service tells it.

use holepunch_worker::{Config, Notice};
use serde_json::json;

use crate::common::stun::NOWHERE;
use crate::common::subject::{MAPPED, config};
use crate::common::web::IpEcho;
use crate::common::{Rendezvous, Session, StunServer, Subject};

/// A worker that is about to look its public IP up.
struct Curious {
    rendezvous: Rendezvous,
    stun: StunServer,
    echo: IpEcho,
    config: Config,
}

impl Curious {
    async fn new() -> Self {
        let rendezvous = Rendezvous::bind();
        let stun = StunServer::bind().await;
        let echo = IpEcho::bind().await;
        let mut config = config(&format!("http://{}", rendezvous.address), stun.address);
        config.ip_echo_url = Some(echo.url().parse().unwrap());
        Self { rendezvous, stun, echo, config }
    }

    /// Starts the worker, and lets it report while its question for the IP waits for an answer.
    async fn reported(&self) -> (Subject, Session) {
        let worker = Subject::start(self.config.clone()).await;
        let mut session = self.rendezvous.accept().await;
        self.stun.answer_next(MAPPED).await;
        assert_eq!(session.report().await, MAPPED);
        (worker, session)
    }
}

/// Why the public IP is not known.
async fn failure(worker: &mut Subject) -> String {
    let pick = |notice: &Notice| {
        let Notice::PublicIpUnknown(why) = notice else { return None };
        Some(why.clone())
    };
    worker.until("a failed look-up", pick).await
}

#[tokio::test]
async fn the_public_ip_goes_to_the_rendezvous_and_again_after_a_reconnect() {
    for (said, ip) in [("198.51.100.23\n", "198.51.100.23"), ("2001:db8::5", "2001:db8::5")] {
        let scene = Curious::new().await;
        let (_worker, mut session) = scene.reported().await;
        scene.echo.question().await.answer("200 OK", said).await;
        let expected = json!({ "type": "register_public_ip", "ip": ip });
        assert_eq!(session.receive().await, expected);
        drop(session);
        let mut session = scene.rendezvous.accept().await;
        assert_eq!(session.receive().await, expected, "known before the session begins");
        assert_eq!(session.report().await, MAPPED);
    }
}

#[tokio::test]
async fn a_slow_echo_service_delays_neither_registration_nor_report() {
    let scene = Curious::new().await;
    let (_worker, mut session) = scene.reported().await;
    session.is_told_nothing_yet().await;
    scene.echo.question().await.answer("200 OK", "198.51.100.23").await;
    assert_eq!(session.receive().await["ip"], "198.51.100.23");
}

#[tokio::test]
async fn an_echo_service_that_fails_or_lies_is_no_more_than_a_line_in_the_log() {
    let long = "1".repeat(100_000);
    for (status, body, reason) in [
        ("500 Internal Server Error", "198.51.100.23", "500"),
        ("404 Not Found", "", "404"),
        ("200 OK", "<html>198.51.100.23</html>", "expected an IP address"),
        ("200 OK", "", "expected an IP address"),
        ("200 OK", long.as_str(), "over 256 bytes"),
        ("200 OK", "224.0.0.1", "multicast"),
        ("200 OK", "0.0.0.0", "unspecified"),
    ] {
        let scene = Curious::new().await;
        let (mut worker, mut session) = scene.reported().await;
        scene.echo.question().await.answer(status, body).await;
        let why = failure(&mut worker).await;
        assert!(why.contains(reason), "{status} {body:.30}: {why}");
        worker.catches_up_with(&mut session).await;
        session.is_told_nothing_yet().await;
    }
}

#[tokio::test]
async fn an_echo_service_that_hangs_up_or_is_not_there_is_no_more_than_a_line_in_the_log() {
    let scene = Curious::new().await;
    let (mut worker, mut session) = scene.reported().await;
    drop(scene.echo.question().await);
    failure(&mut worker).await;
    worker.catches_up_with(&mut session).await;
    session.is_told_nothing_yet().await;

    let mut scene = Curious::new().await;
    scene.config.ip_echo_url = Some(format!("http://{NOWHERE}/").parse().unwrap());
    let (mut worker, mut session) = scene.reported().await;
    failure(&mut worker).await;
    worker.catches_up_with(&mut session).await;
    session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn a_look_up_that_failed_is_tried_again_with_the_next_session() {
    let scene = Curious::new().await;
    let (mut worker, session) = scene.reported().await;
    scene.echo.question().await.answer("503 Service Unavailable", "").await;
    failure(&mut worker).await;
    drop(session);
    let mut session = scene.rendezvous.accept().await;
    assert_eq!(session.report().await, MAPPED);
    scene.echo.question().await.answer("200 OK", "198.51.100.23").await;
    assert_eq!(session.receive().await["ip"], "198.51.100.23");
}
