//! `holepunch demo`: a rendezvous and two workers in one process.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use common::{Program, web};
use serde_json::Value;

#[tokio::test]
async fn the_demo_shows_that_the_plain_way_fails_and_that_the_search_links() {
    let ended = Program::end_of(&["demo"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = |start: &str| {
        let found = ended.out.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("{start}: {ended:?}"))
    };
    assert!(line("NAT A").contains("block of 64"), "{}", ended.out);
    assert!(line("NAT B").contains("only answers get in"), "{}", ended.out);
    assert!(line("the plain way").ends_with("none got in"), "{}", ended.out);
    assert!(line("the search").contains("found at 127.80."), "{}", ended.out);
    assert!(line("the link").contains("encrypted, direct to 127.80."), "{}", ended.out);
    assert!(line("a file").ends_with("the same at both ends"), "{}", ended.out);
    let next = ended.out.lines().skip_while(|line| *line != "next:").skip(1);
    let next: Vec<&str> = next.map(str::trim).collect();
    let called = env!("CARGO_BIN_EXE_holepunch");
    let commands = ["rendezvous", "login http://127.0.0.1:8080", "send FILE"];
    assert_eq!(next, commands.map(|command| format!("{called} {command}")));
    assert_eq!(ended.err, "", "no warnings");
}

#[tokio::test]
async fn the_demo_in_json_tells_the_same_with_the_seed_that_repeats_it() {
    let ended = Program::end_of(&["demo", "--json", "--seed", "7"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&result["linked"], &result["seed"]), (&Value::Bool(true), &7.into()));
    assert_eq!(result["nats"][0]["kind"], "hard-apdf-block64");
    assert_eq!(result["nats"][1]["kind"], "eim-apdf-random");
    assert_eq!(
        (&result["plain"]["linked"], &result["plain"]["let_in"]),
        (&Value::Bool(false), &0.into())
    );
    assert!(result["plain"]["checks"].as_u64().unwrap() > 0, "{result}");
    assert!(result["search"]["packets"].as_u64().unwrap() > 0, "{result}");
    for found in result["search"]["found"].as_array().unwrap() {
        let found: SocketAddr = found.as_str().unwrap().parse().unwrap();
        assert!(found.ip().to_string().starts_with("127.80."), "{result}");
    }
    assert_eq!(result["link"]["encrypted"], true);
    assert_eq!(result["file"]["same"], true);
    assert_eq!(result["file"]["bytes"], 8 << 20);
    assert_eq!(result["next"].as_array().unwrap().len(), 3);
    assert!(ended.err.contains("the plain way"), "the steps: {}", ended.err);
}

#[tokio::test]
async fn the_plain_demo_links_both_workers_and_shows_them_in_a_table() {
    let ended = Program::end_of(&["demo", "--plain"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (steps, table) = ended.out.split_once("\nworker ").unwrap();
    for step in ["is registered", "is seen by STUN as", "reports", "is offered", "has a link with"]
    {
        for worker in ["worker A", "worker B"] {
            let is_it = |line: &&str| line.contains(worker) && line.contains(step);
            assert!(steps.lines().any(|line| is_it(&line)), "{worker} {step}: {steps}");
        }
    }
    let mut rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    let row = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (first, second) = (row(rows.next().unwrap()), row(rows.next().unwrap()));
    assert_eq!(rows.next(), None, "{table}");
    assert_eq!((&first[0], &first[1]), (&second[1], &second[0]), "linked with each other");
    for row in [first, second] {
        assert_eq!((row[0].len(), row[4].as_str()), (36, "ms"), "{row:?}");
        assert!(row[2].parse::<SocketAddr>().is_ok(), "{row:?}");
        // The demo itself gives up after 10 s.
        assert!(row[3].parse::<f64>().unwrap() < 10_000.0, "{row:?}");
    }
    assert!(ended.out.lines().last().unwrap().starts_with("Both linked "), "{}", ended.out);
    assert_eq!(ended.err, "", "no warnings");
}

#[tokio::test]
async fn the_plain_result_in_json_says_linked_and_stands_alone_on_standard_output() {
    let ended = Program::end_of(&["demo", "--plain", "--json"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(result["linked"], true);
    assert_eq!(result["missing"], Value::Array(Vec::new()));
    let links = result["links"].as_array().unwrap();
    let workers: BTreeSet<&str> =
        links.iter().map(|link| link["worker"].as_str().unwrap()).collect();
    let peers: BTreeSet<&str> = links.iter().map(|link| link["peer"].as_str().unwrap()).collect();
    assert_eq!((links.len(), workers.len()), (2, 2));
    assert_eq!(workers, peers);
    for link in links {
        assert!(link["address"].as_str().unwrap().parse::<SocketAddr>().is_ok(), "{link}");
        assert!(link["ms_since_offer"].as_f64().unwrap() < 10_000.0, "{link}");
        assert!(link["rtt_ms"].as_f64().unwrap() >= 0.0, "{link}");
        assert!(link["probes"].as_u64().unwrap() >= 1, "{link}");
    }
    assert!(ended.err.contains("has a link with"), "the steps: {}", ended.err);
}

/// The address and the path in a line like `workers     http://127.0.0.1:1234/debug`.
fn url(line: &str) -> (SocketAddr, String) {
    let (_, rest) = line.split_once("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    (address.parse().unwrap(), format!("/{path}"))
}

#[tokio::test]
async fn a_demo_that_is_kept_prints_urls_that_answer_until_it_is_interrupted() {
    for signal in ["INT", "TERM"] {
        let mut demo = Program::run(&["demo", "--keep"], &[]);
        demo.out.line("Both linked").await;
        demo.out.line("Ctrl-C ends the demo").await;
        let urls: Vec<(SocketAddr, String)> = (demo.out.seen.iter())
            .filter(|line| line.contains("http://") && !line.contains(" ms  "))
            .map(|line| url(line))
            .collect();
        assert_eq!(urls.len(), 4, "{:#?}", demo.out.seen);
        for (address, path) in &urls {
            let answer = web::get(*address, path).await;
            assert_eq!(answer.status, 200, "{path}");
            if path == "/debug/list_workers" {
                let listing: Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!(listing["connected_workers_count"], 2);
            } else if path == "/health" {
                assert_eq!(answer.body, "OK");
            }
        }
        demo.signal(signal).await;
        let ended = demo.end().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}
