//! More connections than the usual soft limit of open files allows.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Program;
use serde_json::Value;

const WORKERS: usize = 1100;
const RENDEZVOUS: &str = "rendezvous --listen 127.0.0.1:0 --stun-listen none";

#[tokio::test]
async fn more_workers_than_the_soft_limit_register_and_every_one_is_told_the_end() {
    let mut rendezvous = Program::run_under("-Sn 1024", RENDEZVOUS);
    let running = rendezvous.log.entry("rendezvous is running").await;
    let url = format!("http://{}", running["http"].as_str().unwrap());
    let idle = format!("load idle --workers {WORKERS} --hold-sec 600 --json --url {url}");
    let mut load = Program::run_under("-Sn 1024", &idle);
    load.log.line(&format!("{WORKERS} of {WORKERS} workers are connected")).await;
    load.log.line("holding them").await;
    rendezvous.signal("TERM").await;
    let (ended, load) = (rendezvous.end().await, load.end().await);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let summary: Value = serde_json::from_str(&load.out).unwrap();
    assert_eq!(summary["failures"], WORKERS, "{summary}");
    let reasons = summary["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].as_str().unwrap().contains("server is shutting down"), "{reasons:?}");
}

#[tokio::test]
async fn where_the_hard_limit_is_low_it_is_told_at_once_and_the_rest_is_refused() {
    let mut rendezvous = Program::run_under("-n 128", RENDEZVOUS);
    let told = rendezvous.log.entry("the limit of open files is too low").await;
    assert_eq!((&told["limit"], &told["connections"]), (&128.into(), &48.into()), "{told}");
    assert!(told["message"].as_str().unwrap().contains("LimitNOFILE"), "{told}");
    let running = rendezvous.log.entry("rendezvous is running").await;
    let url = format!("http://{}", running["http"].as_str().unwrap());
    let mut workers = Vec::new();
    let refused = loop {
        let worker = format!("{url}/ws/register/{}", workers.len());
        match tokio_tungstenite::connect_async(worker.replace("http", "ws")).await {
            Ok((worker, _)) => workers.push(worker),
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!((workers.len(), refused.contains("503")), (48, true), "{refused}");
    let last = rendezvous.log.entry("the limit of open files is reached").await;
    assert_eq!(last["severity"], "WARNING");
}
