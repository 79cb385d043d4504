//! SIGTERM and SIGINT end a worker with exit code 0 within a second, whatever it is doing.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::peer::Peer;
use common::rendezvous::Absent;
use common::{Program, Scene};
use tokio::time::{Duration, Instant};

const BOTH: [&str; 2] = ["TERM", "INT"];

/// Sends the signal, and shows that the worker ends as it should.
async fn ends(mut worker: Program, signal: &str) {
    // The handlers are there before the worker says that it starts.
    if !worker.log.seen.iter().any(|line| line.contains("worker starts")) {
        worker.log.line("worker starts").await;
    }
    let start = Instant::now();
    worker.signal(signal).await;
    let ended = worker.end().await;
    let took = start.elapsed();
    assert_eq!(ended.code, Some(0), "SIG{signal}: {}", ended.err);
    assert!(took < Duration::from_secs(1), "SIG{signal}: {took:?}: {}", ended.err);
    assert!(ended.err.contains(&format!("SIG{signal}")), "{}", ended.err);
    assert!(ended.err.lines().last().unwrap().contains("worker has ended"), "{}", ended.err);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
}

/// A worker alone, whose rendezvous is at `url`.
fn worker_of(url: &str, more: &[(&str, &str)]) -> Program {
    let mut variables = vec![
        ("RENDEZVOUS_SERVICE_URL", url),
        ("STUN_SERVERS", "127.0.0.1:9"),
        ("PORT", "0"),
        ("INTERNAL_UDP_PORT_ENV", "0"),
        ("IP_ECHO_URL", "none"),
    ];
    variables.extend_from_slice(more);
    Program::run(&["worker"], &variables)
}

#[tokio::test]
async fn a_worker_that_is_connected_closes_its_websocket() {
    for signal in BOTH {
        let scene = Scene::start(&[]).await;
        let (mut session, _) = scene.report().await;
        let ((), said) = tokio::join!(ends(scene.worker, signal), session.closed());
        assert_eq!(said, Some(1000), "SIG{signal}");
    }
}

#[tokio::test]
async fn a_worker_whose_rendezvous_reads_nothing_does_not_wait_for_it() {
    for signal in BOTH {
        let scene = Scene::start(&[]).await;
        let (session, _) = scene.report().await;
        ends(scene.worker, signal).await;
        drop(session);
    }
}

#[tokio::test]
async fn a_worker_that_is_refused_does_not_wait_for_its_next_attempt() {
    for signal in BOTH {
        let absent = Absent::bind();
        let mut worker = worker_of(&format!("http://{}", absent.address), &[]);
        for _ in 0..3 {
            worker.log.line("no connection to the rendezvous").await;
        }
        ends(worker, signal).await;
    }
}

#[tokio::test]
async fn a_worker_whose_handshake_hangs_does_not_wait_for_it() {
    for signal in BOTH {
        for scheme in ["http", "https"] {
            let rendezvous = common::Rendezvous::bind();
            let worker = worker_of(&format!("{scheme}://{}", rendezvous.address), &[]);
            let hanging = rendezvous.accept_tcp().await;
            ends(worker, signal).await;
            drop(hanging);
        }
    }
}

#[tokio::test]
async fn a_worker_that_punches_stops_and_closes_its_websocket() {
    for signal in BOTH {
        let peer = Peer::bind("peer").await;
        let scene = Scene::start(&[]).await;
        let (mut session, _) = scene.report().await;
        session.offer(&peer.id, peer.address).await;
        peer.receive().await;
        let ((), said) = tokio::join!(ends(scene.worker, signal), session.closed());
        assert_eq!(said, Some(1000), "SIG{signal}");
    }
}

#[tokio::test]
async fn a_worker_that_looks_its_public_ip_up_does_not_wait_for_the_answer() {
    let echo = common::web::IpEcho::bind().await;
    let scene = Scene::start(&[("IP_ECHO_URL", &echo.url())]).await;
    let question = echo.question().await;
    ends(scene.worker, "TERM").await;
    drop(question);
}

/// A `getaddrinfo` that says so and never returns, to be loaded before the system's.
const HANGING: &str = r#"
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const void *hints, void **found) {
    (void)node; (void)service; (void)hints; (void)found;
    if (write(2, "a look-up hangs\n", 16) != 16) return -1;
    for (;;) pause();
}
"#;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[tokio::test]
async fn a_worker_whose_name_look_ups_hang_does_not_wait_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("hanging.c"), folder.path().join("hanging.so"));
    std::fs::write(&source, HANGING).unwrap();
    let mut compiler = tokio::process::Command::new("cc");
    let compiled = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.await.unwrap().success());
    for signal in BOTH {
        let more = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("STUN_SERVERS", "stun.example:3478"),
            ("IP_ECHO_URL", "http://echo.example/"),
            ("LOG_FORMAT", "text"),
        ];
        let mut worker = worker_of("http://rendezvous.example", &more);
        // Of the rendezvous, the STUN server and the echo service.
        for _ in 0..3 {
            worker.log.line("a look-up hangs").await;
        }
        ends(worker, signal).await;
    }
}
