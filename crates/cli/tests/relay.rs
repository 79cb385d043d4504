//! A relay in a process of its own.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Program, loopback};

const KEY: (&str, &str) = ("RELAY_KEY", "0123456789abcdef0123456789abcdef");

/// Where the server listens for HTTP.
async fn running(program: &mut Program, message: &str) -> String {
    let running = program.log.entry(message).await;
    format!("http://{}", running["http"].as_str().unwrap())
}

#[tokio::test]
async fn two_link_by_a_relay_of_which_their_rendezvous_knows_the_url_and_the_key_alone() {
    let mut relay = Program::run(&["relay", "--listen", "127.0.0.1:0"], &[KEY]);
    let relay_url = running(&mut relay, "relay is running").await;
    let arguments = ["rendezvous", "--listen", "127.0.0.1:0", "--stun-listen", "none"];
    let arguments = [&arguments[..], &["--no-relay", "--relay-url", &relay_url]].concat();
    let mut rendezvous = Program::run(&arguments, &[KEY]);
    let url = running(&mut rendezvous, "rendezvous is running").await;
    // No STUN server answers, and no address is told: there is no direct path.
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let stun = silent.local_addr().unwrap().to_string();
    let variables = [
        ("RENDEZVOUS_SERVICE_URL", url.as_str()),
        ("STUN_SERVERS", &stun),
        ("NO_PORT_MAPPING", "true"),
        ("NO_HOST_CANDIDATES", "true"),
        ("ROOM", "r"),
    ];
    let first = Program::run_with_input(&["pipe"], &variables, "by the relay");
    let second = Program::run_with_input(&["pipe"], &variables, "and back");
    let (first, second) = tokio::join!(first.end(), second.end());
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{first:?} {second:?}");
    assert_eq!((first.out.as_str(), second.out.as_str()), ("and back", "by the relay"));
    let left = relay.log.entry("relay left").await;
    assert!(left["bytes"].as_u64().unwrap() > 0, "{left}");
    relay.signal("TERM").await;
    assert_eq!(relay.end().await.code, Some(0));
}

#[tokio::test]
async fn without_a_key_a_relay_is_a_usage_error() {
    let ended = Program::end_of(&["relay"], &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("RELAY_KEY"), "{}", ended.err);
}
