//! `holepunch load` against `holepunch rendezvous`, both as processes.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Program;
use serde_json::Value;

const RENDEZVOUS: [&str; 5] = ["rendezvous", "--listen", "127.0.0.1:0", "--stun-listen", "none"];

#[tokio::test]
async fn datagrams_go_through_the_relay() {
    let mut rendezvous = Program::run(&RENDEZVOUS, &[]);
    let running = rendezvous.log.entry("rendezvous is running").await;
    let url = format!("http://{}", running["http"].as_str().unwrap());
    let relay = ["load", "relay", "--pairs", "2", "--seconds", "0.2", "--json", "--url", &url];
    let ended = Program::end_of(&relay, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&summary["workers"], &summary["failures"]), (&4.into(), &0.into()));
    assert!(summary["mbit_per_second"].as_f64().unwrap() > 0.0, "{summary}");
    assert_eq!(summary["times"][1]["count"], 5000);
}

#[tokio::test]
async fn a_rendezvous_without_a_relay_is_named_as_the_reason() {
    let arguments = [&RENDEZVOUS[..], &["--no-relay"]].concat();
    let mut rendezvous = Program::run(&arguments, &[]);
    let running = rendezvous.log.entry("rendezvous is running").await;
    let url = format!("http://{}", running["http"].as_str().unwrap());
    let ended = Program::end_of(&["load", "relay", "--url", &url], &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("this rendezvous offers no relay"), "{}", ended.err);
}
