//! Traces of sessions, as a collector of OpenTelemetry has them.

#![cfg(feature = "otel")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use common::v1::Client;
use common::{Rendezvous, config, http, loopback, within};
use holepunch_rendezvous::{OtlpEndpoint, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// A collector that takes everything: its URL, and what it has taken.
async fn collector() -> (String, UnboundedReceiver<Value>) {
    async fn take(State(taken): State<UnboundedSender<Value>>, head: HeaderMap, body: Bytes) {
        assert_eq!(head["content-type"], "application/json");
        // The test may have seen enough.
        let _is_read = taken.send(serde_json::from_slice(&body).unwrap());
    }
    let (taken, received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/traces", post(take)).with_state(taken);
    tokio::spawn(async { axum::serve(listener, routes).await });
    (url, received)
}

fn exporting_to(url: &str) -> Rendezvous {
    let endpoint: OtlpEndpoint = url.parse().unwrap();
    Rendezvous::with(|config| config.admin.otlp_endpoint = Some(endpoint))
}

/// A session of two that is linked directly and ends: its number.
async fn session(rendezvous: &Rendezvous) -> String {
    let mut first = Client::connect(rendezvous.address(), "a?room=r").await;
    let mut second = Client::connect(rendezvous.address(), "b?room=r").await;
    first.report(4001).await;
    second.report(4002).await;
    let offer = first.receive("p2p_connection_offer").await;
    let session = &offer["session"];
    let report = json!({ "type": "link_state", "session": session, "state": "direct", "strategy": "plain",
                         "number": 1, "elapsed_ms": 5 });
    first.send(report).await;
    first.is_up().await;
    second.send(json!({ "type": "leave", "session": session })).await;
    first.receive("session_ended").await;
    session.as_str().unwrap().to_owned()
}

/// An attribute of a span or of a resource.
fn attribute<'a>(of: &'a Value, key: &str) -> &'a str {
    let all = of["attributes"].as_array().unwrap();
    let found = all.iter().find(|it| it["key"] == key);
    found.unwrap_or_else(|| panic!("no {key}: {of}"))["value"]["stringValue"].as_str().unwrap()
}

fn time(span: &Value, which: &str) -> u64 {
    span[which].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_collector_has_the_spans_of_a_session_in_the_trace_of_its_number() {
    let (url, mut received) = collector().await;
    let rendezvous = exporting_to(&url);
    let session = session(&rendezvous).await;
    // What waits goes out with the end.
    rendezvous.server.shutdown().await;
    let mut spans = Vec::new();
    while spans.len() < 4 {
        let request = within("spans", received.recv()).await.unwrap();
        let of_resource = &request["resourceSpans"][0];
        let resource = &of_resource["resource"];
        assert_eq!(attribute(resource, "service.name"), "holepunch-rendezvous");
        assert_eq!(attribute(resource, "service.instance.id").len(), 8);
        spans.extend(of_resource["scopeSpans"][0]["spans"].as_array().unwrap().clone());
    }
    let named =
        |name: &str| spans.iter().filter(|it| it["name"] == name).cloned().collect::<Vec<Value>>();
    let roots = named("session");
    let [root] = &roots[..] else { panic!("{spans:?}") };
    for span in &spans {
        assert_eq!(span["traceId"], format!("{session}{session}"));
        let parent = if span["name"] == "session" { "" } else { session.as_str() };
        assert_eq!(span["parentSpanId"], parent);
        assert!(time(span, "startTimeUnixNano") <= time(span, "endTimeUnixNano"));
    }
    assert_eq!(root["spanId"], session);
    assert_eq!(attribute(root, "holepunch.session"), session);
    assert_eq!(attribute(root, "holepunch.room"), "r");
    assert_eq!(attribute(root, "holepunch.path"), "direct");
    assert_eq!(attribute(root, "holepunch.reason"), "peer_left");
    let wishes = named("pairing");
    let workers: Vec<_> = wishes.iter().map(|it| attribute(it, "holepunch.worker")).collect();
    assert_eq!(workers, ["a", "b"]);
    let offered = time(root, "startTimeUnixNano");
    assert!(wishes.iter().all(|it| time(it, "endTimeUnixNano") == offered));
    let links = named("link");
    let [link] = &links[..] else { panic!("{spans:?}") };
    assert_eq!(time(link, "startTimeUnixNano"), offered);
    assert_eq!(attribute(link, "holepunch.path"), "direct");
    assert_eq!(attribute(link, "holepunch.strategy"), "plain");
}

#[tokio::test]
async fn a_session_that_comes_to_nothing_is_an_error() {
    let (url, mut received) = collector().await;
    let rendezvous = exporting_to(&url);
    let mut first = Client::connect(rendezvous.address(), "a?room=r").await;
    let mut second = Client::connect(rendezvous.address(), "b?room=r").await;
    first.report(4001).await;
    second.report(4002).await;
    let offer = first.receive("p2p_connection_offer").await;
    first.send(json!({ "type": "leave", "session": &offer["session"] })).await;
    second.receive("session_ended").await;
    rendezvous.server.shutdown().await;
    let link = loop {
        let request = within("spans", received.recv()).await.unwrap();
        let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        if let Some(link) = spans.iter().find(|it| it["name"] == "link") {
            break link.clone();
        }
    };
    assert_eq!(attribute(&link, "holepunch.path"), "none");
    assert_eq!(link["status"]["code"], 2);
    assert_eq!(link["status"]["message"], "peer_left");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let nobody = TcpListener::bind(loopback()).await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let rendezvous = exporting_to(&url);
    session(&rendezvous).await;
    let counted = "\nholepunch_spans_total{outcome=\"not_taken\"} 4\n";
    rendezvous.metrics_when("spans to be counted", |metrics| metrics.contains(counted)).await;
    session(&rendezvous).await;
    within("the end", rendezvous.server.shutdown()).await;
}

#[tokio::test]
async fn without_a_collector_there_are_no_spans() {
    let server = Server::bind(config()).unwrap();
    assert!(!http::metrics(server.http_address()).await.contains("holepunch_spans"));
}
