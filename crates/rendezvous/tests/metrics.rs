//! `GET /metrics`, and what names its metrics: the document, the dashboard and the alerts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use common::relay::{self, Linked};
use common::v1::Client;
use common::worker::Worker;
use common::{Rendezvous, config, http};
use holepunch_rendezvous::{
    AdminConfig, AdminToken, InstanceId, MatchmakerConfig, MemoryFabric, MemoryStore, Peers,
    RelayConfig, RelayLimits, RelayServer, Server,
};
use holepunch_wire::relay::RelayKey;
use holepunch_wire::session::SessionId;
use serde_json::{Value, json};

/// Each metric with the labels of its samples.
type Metrics = BTreeMap<String, BTreeSet<String>>;

fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The metrics of an answer, under the names that a query has for them.
fn metrics_of(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap();
        let labels =
            line[end..].strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
        let names = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        metrics.entry(line[..end].to_owned()).or_default().extend(names);
    }
    metrics
}

/// A server where everything has happened that a metric with labels of its own needs.
async fn busy() -> (Server, String) {
    let store = Arc::new(MemoryStore::new(MatchmakerConfig::default()));
    let own = InstanceId(7);
    let peers = Peers::new(own, store, MemoryFabric::default().end(own));
    let server = Server::bind_among(peers, config()).unwrap();
    let address = server.http_address();
    let mut wrong = Worker::connect(address, "w").await;
    wrong.send(json!({ "type": "update_udp_endpoint" })).await;
    wrong.receive().await;
    let mut first = Client::connect(address, "a?room=r").await;
    let mut second = Client::connect(address, "b?room=r").await;
    first.report(4001).await;
    second.report(4002).await;
    let offer = first.receive("p2p_connection_offer").await;
    second.receive("p2p_connection_offer").await;
    let session = &offer["session"];
    let easy = json!({ "udp": "open", "mapping": "endpoint_independent", "allocation": { "kind": "preserving" } });
    let block = json!({ "kind": "block", "lowest": 2050, "highest": 2070, "size": 64 });
    let hard =
        json!({ "udp": "open", "mapping": "address_and_port_dependent", "allocation": block });
    first.send(json!({ "type": "nat_profile", "profile": easy })).await;
    second.send(json!({ "type": "nat_profile", "profile": hard })).await;
    second.is_up().await;
    for (state, strategy) in [("failed", "plain"), ("direct", "sweep")] {
        let report = json!({ "type": "link_state", "session": session, "state": state, "strategy": strategy,
                             "number": 1, "elapsed_ms": 5 });
        first.send(report).await;
    }
    second.receive("plan").await;
    first.is_up().await;
    second.send(json!({ "type": "leave", "session": session })).await;
    first.receive("session_ended").await;
    let text = http::metrics(address).await;
    (server, text)
}

/// The names and labels in a query of Prometheus: of each metric, those of its own braces.
fn named(query: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find("holepunch_") {
        rest = &rest[at..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let braces = behind.strip_prefix('{').map_or("", |inner| inner.split_once('}').unwrap().0);
        let labels = braces.split(',').filter(|it| !it.is_empty());
        let label = |it: &str| it.split(['=', '!']).next().unwrap().to_owned();
        found.push((name.to_owned(), labels.map(label).collect()));
        rest = behind;
    }
    found
}

/// The labels by which a query groups.
fn grouped(query: &str) -> Vec<String> {
    let groups = query.split("by (").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    groups.flat_map(|group| group.split(',')).map(|label| label.trim().to_owned()).collect()
}

/// What is wrong with the queries: names and labels that no answer has. `instance` is Prometheus' own.
fn faults(place: &str, queries: &[String], metrics: &Metrics) -> Vec<String> {
    let mut faults = Vec::new();
    for query in queries {
        let named = named(query);
        let mut known = BTreeSet::from(["instance".to_owned()]);
        for (name, labels) in &named {
            let Some(has) = metrics.get(name) else {
                faults.push(format!("{place}: there is no {name}"));
                continue;
            };
            known.extend(has.iter().cloned());
            let unknown = labels.iter().filter(|it| *it != "instance" && !has.contains(*it));
            faults.extend(unknown.map(|it| format!("{place}: {name} has no label {it}")));
        }
        let unknown = grouped(query).into_iter().filter(|it| !known.contains(it));
        faults.extend(unknown.map(|it| format!("{place}: {query} has no label {it}")));
    }
    faults
}

/// The queries of the dashboard.
fn dashboard() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&repository("deploy/grafana/holepunch.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut queries: Vec<String> =
        targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    queries.extend(variables.filter_map(|it| it["query"].as_str()).map(str::to_owned));
    queries
}

/// The queries of the alerts.
fn alerts() -> Vec<String> {
    let text = repository("deploy/prometheus/alerts.yml");
    let rules =
        text.split("expr:").skip(1).map(|rest| rest.split("\n        ").collect::<Vec<_>>());
    let is_key =
        |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(": ");
    rules
        .map(|lines| {
            let query = lines.iter().enumerate().take_while(|(at, line)| *at == 0 || !is_key(line));
            query
                .map(|(_, line)| line.trim_start_matches([' ', '>', '-']))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

#[tokio::test]
async fn the_document_the_dashboard_and_the_alerts_name_what_there_is() {
    let (_server, text) = busy().await;
    let metrics = metrics_of(&text);
    let mut wrong = faults("the dashboard", &dashboard(), &metrics);
    assert!(alerts().len() > 5 && alerts().iter().all(|it| it.contains("holepunch_")));
    wrong.extend(faults("the alerts", &alerts(), &metrics));
    // A histogram is told by three names.
    let family = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        let found = parts.iter().find_map(|part| name.strip_suffix(part));
        found.filter(|it| metrics.contains_key(&format!("{it}_bucket"))).unwrap_or(name).to_owned()
    };
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, labels) in &metrics {
        let labels = labels.iter().filter(|it| *it != "le").cloned();
        real.entry(family(name)).or_default().extend(labels);
    }
    let document = repository("docs/metrics.md");
    let mut documented = BTreeSet::new();
    for row in document.lines().filter(|line| line.starts_with("| `holepunch_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = &cells[..] else { panic!("{row}") };
        let name = name.trim_matches('`');
        assert!(!meaning.is_empty(), "{row}");
        documented.insert(name.to_owned());
        let labels: BTreeSet<String> = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        match real.get(name) {
            None => wrong.push(format!("the document has {name}, which no answer has")),
            Some(has) if *has != labels => wrong.push(format!("{name} has the labels {has:?}")),
            Some(_) => {}
        }
        let base = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
        if !text.contains(&format!("# TYPE {base} {kind}\n")) {
            wrong.push(format!("{name} is no {kind}"));
        }
    }
    let missing = real.keys().filter(|name| !documented.contains(*name));
    wrong.extend(missing.map(|name| format!("the document has no {name}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_happens_is_counted_and_what_is_there_is_shown() {
    let (server, text) = busy().await;
    for line in [
        "registrations_total 3",
        "workers 3",
        r#"pairings_total{protocol="v1"} 1"#,
        r#"offers_total{protocol="v1"} 2"#,
        r#"sessions_started_total{nats="unknown/unknown",strategy="plain"} 1"#,
        r#"link_reports_total{state="direct"} 1"#,
        r#"time_to_link_seconds_count{nats="easy/hard",path="direct",strategy="sweep"} 1"#,
        r#"time_to_link_seconds_bucket{le="0.05",nats="easy/hard",path="direct",strategy="sweep"} 1"#,
        r#"sessions_replanned_total{strategy="relay"} 1"#,
        r#"session_outcomes_total{nats="easy/hard",path="direct"} 1"#,
        r#"sessions_ended_total{reason="peer_left"} 1"#,
        r#"workers_waiting{room="pair"} 1"#,
        r#"rooms{room="default"} 1"#,
        r#"room_workers{room="pair"} 2"#,
        r#"sessions{path="direct"} 0"#,
        r#"connections{kind="websocket"} 3"#,
        "rooms_owned 2",
        "ready 1",
        "store_unanswered_total 0",
        r#"build_info{version="0.1.0"} 1"#,
    ] {
        assert!(text.contains(&format!("\nholepunch_{line}\n")), "{line}: {text}");
    }
    let head = http::get_with(server.http_address(), "/metrics", "").await.head;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_stun_answer_and_what_is_relayed_are_counted() {
    let rendezvous = Rendezvous::with(|config| config.stun_listen = vec![common::loopback()]);
    let stun = rendezvous.server.stun_addresses()[0];
    let client = tokio::net::UdpSocket::bind(common::loopback()).await.unwrap();
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    client.send_to(&request, stun).await.unwrap();
    let mut answer = [0; 256];
    common::within("an answer", client.recv_from(&mut answer)).await.unwrap();
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [mut from, mut to] = linked.open_both().await;
    for _ in 0..2 {
        // The first one is paid for before the second is read.
        relay::send(&mut from, "0123456789").await;
        relay::receive(&mut to).await;
    }
    let text = http::metrics(rendezvous.address()).await;
    let bytes = text.split("\nholepunch_relay_bytes_total ").nth(1).unwrap();
    let bytes: u64 = bytes.lines().next().unwrap().parse().unwrap();
    // A head of two bytes, and the key of the mask.
    assert!([16, 32].contains(&bytes), "{bytes}");
    assert!(text.contains("\nholepunch_relay_ends 2\n"), "{text}");
    assert!(text.contains(r#"holepunch_stun_answers_total{answer="whole"} 1"#), "{text}");
}

#[tokio::test]
async fn a_relay_alone_shows_what_it_has_in_common_with_a_rendezvous_and_guards_it_so() {
    let token = "0123456789abcdef";
    let key = RelayKey::new([1; 32]);
    let start = |admin| {
        RelayServer::bind(RelayConfig {
            listen: common::loopback(),
            tls: None,
            udp_listen: vec![common::loopback()],
            udp_is_optional: false,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            admin,
            open_files_max: None,
            limits: RelayLimits::default(),
            key: key.clone(),
        })
        .unwrap()
    };
    let relay = start(AdminConfig::default());
    let address = relay.http_address();
    let tokens = [0, 1].map(|end| key.token(SessionId(7), end, u64::from(u32::MAX)).reveal());
    let [mut from, mut to] = [
        relay::open(address, "0000000000000007", &tokens[0], None).await.unwrap(),
        relay::open(address, "0000000000000007", &tokens[1], None).await.unwrap(),
    ];
    relay::send(&mut from, "0123456789").await;
    relay::receive(&mut to).await;
    let text = http::metrics(address).await;
    for line in [
        "relay_ends 2",
        r#"connections{kind="websocket"} 2"#,
        r#"stun_answers_total{answer="whole"} 0"#,
    ] {
        assert!(text.contains(&format!("\nholepunch_{line}\n")), "{line}: {text}");
    }
    let (_server, of_rendezvous) = busy().await;
    let of_rendezvous = metrics_of(&of_rendezvous);
    for (name, labels) in metrics_of(&text) {
        assert_eq!(of_rendezvous.get(&name), Some(&labels), "{name} is not in the document");
    }
    assert!(!text.contains("holepunch_workers"), "{text}");

    let listen = Some(common::loopback());
    let mut admin = AdminConfig::default();
    (admin.token, admin.listen) = (Some(AdminToken::new(token).unwrap()), listen);
    let relay = start(admin);
    let admin = relay.admin_address().unwrap();
    assert_eq!(http::get_with(relay.http_address(), "/metrics", "").await.status, 404);
    assert_eq!(http::get_with(admin, "/metrics", "").await.status, 401);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(http::get_with(admin, "/metrics", &bearer).await.status, 200);
    relay.shutdown().await;
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
}

#[test]
fn a_name_or_a_label_that_no_answer_has_is_found() {
    let text = "holepunch_a_total{reason=\"x\"} 1\nholepunch_b 2\n";
    let found = |query: &str| faults("x", &[query.to_owned()], &metrics_of(text)).len();
    assert_eq!(
        found(r#"sum by (reason) (rate(holepunch_a_total{reason!="y",instance=~"z"}[5m]))"#),
        0
    );
    assert_eq!(found("holepunch_c"), 1);
    assert_eq!(found(r#"holepunch_b{reason="x"}"#), 1);
    assert_eq!(found("sum by (room) (holepunch_a_total)"), 1);
}
