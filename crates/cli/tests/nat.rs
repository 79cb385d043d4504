//! `holepunch nat` against two scripted STUN servers.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::program::Ended;
use common::stun::NOWHERE;
use common::{MAPPED, Program, Served, StunServer, stun};
use serde_json::Value;

const ELSEWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), 9999);

/// Two servers at two IP addresses.
async fn servers() -> [StunServer; 2] {
    [StunServer::bind().await, StunServer::bind_on(Ipv4Addr::new(127, 0, 0, 2)).await]
}

/// Starts the command with these servers and further arguments.
fn asks(servers: &[StunServer; 2], more: &[&str]) -> Program {
    let list = format!("{},{}", servers[0].address, servers[1].address);
    let arguments = [&["nat", "--stun-servers", &list], more].concat();
    Program::run(&arguments, &[])
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|why| panic!("{why}: {ended:?}"))
}

/// The result in JSON when the two servers see the socket at these addresses.
async fn result(seen: [SocketAddr; 2]) -> (Option<i32>, Value) {
    let servers = servers().await;
    let program = asks(&servers, &["--json"]);
    let from = servers[0].answer_next(seen[0]).await;
    assert_eq!(servers[1].answer_next(seen[1]).await, from, "one socket asks both");
    let ended = program.end().await;
    let report = json(&ended);
    assert_eq!(report["local_port"], from.port());
    let rows = report["servers"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for ((row, server), seen) in rows.iter().zip(&servers).zip(seen) {
        assert_eq!(row["address"], server.address.to_string());
        assert_eq!(row["mapped"], seen.to_string());
    }
    (ended.code, report)
}

#[tokio::test]
async fn the_same_mapping_for_two_servers_is_endpoint_independent() {
    let (code, report) = result([MAPPED, MAPPED]).await;
    assert_eq!(code, Some(0));
    assert_eq!(report["mapping"], "endpoint-independent");
    assert_eq!(report["depends_on_destination"], false);
}

#[tokio::test]
async fn another_mapping_for_each_server_is_endpoint_dependent() {
    let (code, report) = result([MAPPED, ELSEWHERE]).await;
    assert_eq!(code, Some(0));
    assert_eq!(report["mapping"], "endpoint-dependent");
    assert_eq!(report["depends_on_destination"], true);
    assert!(report["meaning"].as_str().unwrap().contains("symmetric"), "{report}");
}

#[tokio::test]
async fn the_own_address_seen_from_outside_is_no_translation() {
    let servers = servers().await;
    let program = asks(&servers, &["--json"]);
    for server in &servers {
        let request = server.request().await;
        server.answer(request, request.from).await;
    }
    let ended = program.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // From two loopback addresses the socket is seen at 127.0.0.1 both times.
    let report = json(&ended);
    assert_eq!(report["servers"][0]["local"], report["servers"][0]["mapped"]);
    assert_eq!(report["mapping"], "none", "{report}");
}

#[tokio::test]
async fn one_answer_of_two_does_not_tell_the_mapping() {
    let servers = servers().await;
    let program = asks(&servers, &["--json", "--timeout-sec", "1"]);
    servers[1].answer_next(MAPPED).await;
    let ended = program.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = json(&ended);
    assert_eq!(report["mapping"], "unknown");
    assert_eq!(report["depends_on_destination"], Value::Null);
    assert_eq!(report["servers"][0]["mapped"], Value::Null);
    assert_eq!(report["servers"][1]["mapped"], MAPPED.to_string());
}

#[tokio::test]
async fn no_answer_at_all_is_a_failure() {
    let servers = servers().await;
    let ended = asks(&servers, &["--json", "--timeout-sec", "0.6"]).end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = json(&ended);
    assert_eq!(report["mapping"], "unknown");
    assert_eq!(report["servers"].as_array().unwrap().len(), 2, "both were asked");
    let first = servers[0].request().await;
    assert_eq!(servers[0].request().await, first, "a lost request is sent again");
}

#[tokio::test]
async fn refusals_alone_and_names_that_do_not_resolve_are_failures() {
    let servers = servers().await;
    let program = asks(&servers, &["--json"]);
    for server in &servers {
        let request = server.request().await;
        server.send(&stun::error(request.id), request.from).await;
    }
    let ended = program.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(json(&ended)["servers"][0]["refused"], true);

    let server = format!("{NOWHERE}:3478");
    let arguments = ["nat", "--stun-servers", &server, "--json"];
    let ended = Program::end_of(&arguments, &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(json(&ended)["error"].as_str().unwrap().contains(NOWHERE));
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_is_told_and_udp_is_not_called_blocked() {
    let server = format!("{NOWHERE}:3478");
    let ended = Program::end_of(&["nat", "--stun-servers", &server, "--json"], &[]).await;
    let report = json(&ended);
    assert_ne!(report["profile"]["udp"], "blocked", "{report}");
    assert!(report["fix"].is_null(), "{report}");
    let error = report["error"].as_str().unwrap();
    assert!(error.contains(&format!("the name {NOWHERE} cannot be looked up")), "{error}");
    let ended = Program::end_of(&["nat", "--stun-servers", &server], &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.out.contains("cannot be looked up") && !ended.out.contains("blocked"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn without_json_a_table_and_a_sentence_are_printed() {
    let servers = servers().await;
    let program = asks(&servers, &[]);
    servers[0].answer_next(MAPPED).await;
    servers[1].answer_next(MAPPED).await;
    let ended = program.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("STUN server "), "{}", ended.out);
    let rows = ended.out.lines().filter(|line| line.ends_with(&MAPPED.to_string()));
    assert_eq!(rows.count(), 2, "{}", ended.out);
    assert!(ended.out.contains("mapping: endpoint-independent; depends on the destination: no"));
    assert_eq!(ended.err, "", "results are not drowned in logs");
}

#[tokio::test]
async fn the_server_of_the_rendezvous_that_is_remembered_is_asked_beside_those_that_are_named() {
    let (served, named) = (Served::start().await, StunServer::bind().await);
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/holepunch");
    std::fs::create_dir_all(&folder).unwrap();
    let (http, stun) = served.addresses();
    let settings =
        format!("rendezvous = \"http://{http}\"\nstun_servers = [\"{}\"]\n", named.address);
    std::fs::write(folder.join("config.toml"), settings).unwrap();
    let program = Program::run(&["nat", "--json"], &[("HOME", home.path().to_str().unwrap())]);
    let request = named.request().await;
    named.answer(request, request.from).await;
    let ended = program.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = json(&ended);
    let asked: Vec<_> =
        report["servers"].as_array().unwrap().iter().map(|it| &it["address"]).collect();
    assert_eq!(asked, [&Value::from(named.address.to_string()), &Value::from(stun)], "{report}");
    for row in report["servers"].as_array().unwrap() {
        assert_eq!(row["mapped"], row["local"], "{report}");
    }
}

#[tokio::test]
async fn the_servers_may_come_from_the_workers_variables() {
    let server = StunServer::bind().await;
    let port = server.address.port().to_string();
    let variables = [("STUN_HOST_ENV", "127.0.0.1"), ("STUN_PORT_ENV", port.as_str())];
    let program = Program::run(&["nat", "--json"], &variables);
    server.answer_next(MAPPED).await;
    let ended = program.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(json(&ended)["mapping"], "unknown", "one server cannot tell");
}
