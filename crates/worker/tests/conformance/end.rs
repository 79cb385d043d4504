//! A worker that is told to end does so within a second, whatever it is doing.

use std::sync::mpsc;

use holepunch_worker::{Config, Notice, Signal};
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant, timeout};

use crate::common::rendezvous::Absent;
use crate::common::subject::config;
use crate::common::{Peer, Rendezvous, Scene, StunServer, Subject, within};

const A_SECOND: Duration = Duration::from_secs(1);

/// Ends the worker; how long it has waited for anything but the machine that runs this test: time passes when all that has
/// come is dealt with.
async fn time_to_end(worker: Subject) -> Duration {
    tokio::time::pause();
    let start = Instant::now();
    worker.shutdown().await;
    let took = start.elapsed();
    tokio::time::resume();
    took
}

#[tokio::test]
async fn the_websocket_is_closed_properly_and_the_ports_are_free_again() {
    let mut scene = Scene::ready().await;
    let health = scene.worker.health_address();
    let (took, said) = tokio::join!(time_to_end(scene.worker), scene.session.closed());
    assert!(took < A_SECOND, "{took:?}");
    assert_eq!(said, Some(1000));
    tokio::net::TcpListener::bind(health).await.unwrap();
    tokio::net::UdpSocket::bind(scene.udp).await.unwrap();
}

#[tokio::test]
async fn a_rendezvous_that_reads_nothing_does_not_hold_the_worker_up() {
    let scene = Scene::ready().await;
    let took = time_to_end(scene.worker).await;
    assert!(took < A_SECOND, "{took:?}");
}

#[tokio::test]
async fn a_connection_that_takes_no_data_does_not_hold_the_worker_up() {
    let rendezvous = Absent::bind().with_little_room().appear();
    let stun = StunServer::bind().await;
    let mut config = config(&format!("http://{}", rendezvous.address), stun.address);
    config.ping_interval = Duration::from_millis(50);
    // Nobody answers them, and that is not what ends this connection, however busy the machine is.
    config.ping_timeout = Duration::from_secs(3600);
    let worker = Subject::start(config).await;
    let mut stream = rendezvous.accept().await.into_stream();
    // Pings whose answers nobody reads, until the worker waits for room for its own.
    let ping = [&[0x89, 125][..], &[0; 125]].concat();
    let pings = ping.repeat(1000);
    within("the worker to read no further", async {
        while let Ok(written) = timeout(A_SECOND, stream.write_all(&pings)).await {
            written.unwrap();
        }
    })
    .await;
    let took = time_to_end(worker).await;
    assert!(took < A_SECOND, "{took:?}");
}

#[tokio::test]
async fn a_worker_without_a_connection_ends_at_once() {
    let absent = Absent::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", absent.address);
    let mut worker = Subject::start(config(&url, stun.address)).await;
    // By the third failure it waits up to two seconds for the next attempt.
    for _ in 0..3 {
        worker.until_disconnected().await;
    }
    let took = time_to_end(worker).await;
    assert!(took < A_SECOND, "{took:?}");
}

#[tokio::test]
async fn a_handshake_that_hangs_does_not_hold_the_worker_up() {
    for scheme in ["http", "https"] {
        let rendezvous = Rendezvous::bind();
        let stun = StunServer::bind().await;
        let url = format!("{scheme}://{}", rendezvous.address);
        let worker = Subject::start(config(&url, stun.address)).await;
        let hanging = rendezvous.accept_tcp().await;
        let took = time_to_end(worker).await;
        assert!(took < A_SECOND, "{scheme}: {took:?}");
        drop(hanging);
    }
}

#[tokio::test]
async fn a_punch_and_a_link_end_with_the_worker() {
    let peer = Peer::bind("peer").await;
    let mut punching = Scene::ready().await;
    punching.session.offer(&peer.id, peer.address).await;
    peer.ping(&punching.id).await;
    let (took, said) = tokio::join!(time_to_end(punching.worker), punching.session.closed());
    assert!(took < A_SECOND, "{took:?}");
    assert_eq!(said, Some(1000));
    let peer = Peer::bind("peer").await;
    let mut linked = Scene::linked(&peer).await;
    let (took, said) = tokio::join!(time_to_end(linked.worker), linked.session.closed());
    assert!(took < A_SECOND, "{took:?}");
    assert_eq!(said, Some(1000));
}

/// Starts a worker whose every look-up hangs, waits until it is connecting, and ends it.
async fn end_while_looking_up(config: Config) -> Duration {
    let mut worker = Subject::start(config).await;
    let connecting = |notice: &Notice| matches!(notice, Notice::Signal(Signal::Connecting(_)));
    worker.until_it("the first attempt", connecting).await;
    let bound = |notice: &Notice| matches!(notice, Notice::UdpBound(_));
    worker.until_it("the UDP port", bound).await;
    // The clock stands still while a thread of the runtime is blocked, so this one is not paused.
    let start = Instant::now();
    worker.shutdown().await;
    start.elapsed()
}

#[test]
fn name_look_ups_that_hang_do_not_hold_the_worker_up() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    // Look-ups run on the runtime's threads for what blocks. The only one is taken.
    let (release, released) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || released.recv());
    let mut config = config("http://rendezvous.invalid", "127.0.0.1:9".parse().unwrap());
    config.stun_servers = vec!["stun.invalid:3478".parse().unwrap()];
    config.ip_echo_url = Some("http://echo.invalid/".parse().unwrap());
    let took = runtime.block_on(end_while_looking_up(config));
    assert!(took < A_SECOND, "{took:?}");
    drop(release);
}

#[tokio::test]
async fn a_worker_that_is_dropped_ends_too() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", rendezvous.address);
    let mut worker = Subject::start(config(&url, stun.address)).await;
    let mut session = rendezvous.accept().await;
    let registered = |notice: &Notice| *notice == Notice::Signal(Signal::Connected);
    worker.until_it("the registration", registered).await;
    let health = worker.health_address();
    drop(worker);
    assert_eq!(session.closed().await, Some(1000));
    within("the port to be free", async {
        while tokio::net::TcpListener::bind(health).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
