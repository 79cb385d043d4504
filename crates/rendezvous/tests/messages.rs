//! What a worker may say, reports of its UDP endpoint aside, and what it is answered.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Rendezvous;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn register_public_ip_is_stored_without_an_answer() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    worker.send(json!({ "type": "register_public_ip", "ip": "203.0.113.5" })).await;
    worker.is_up().await;
    assert_eq!(worker.details().await["registered_ip"], "203.0.113.5");
    worker.send(json!({ "type": "register_public_ip", "ip": "::ffff:203.0.113.6" })).await;
    assert_eq!(worker.details().await["registered_ip"], "203.0.113.6");
}

#[tokio::test]
async fn register_public_ip_without_an_address_changes_nothing() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    worker.send(json!({ "type": "register_public_ip" })).await;
    assert_eq!(worker.details().await["registered_ip"], "127.0.0.1");
    worker.send(json!({ "type": "register_public_ip", "ip": "203.0.113.5" })).await;
    for ip in [Value::Null, json!(""), json!("host"), json!(7), json!(["203.0.113.6"])] {
        worker.send(json!({ "type": "register_public_ip", "ip": ip })).await;
        worker.is_up().await;
    }
    assert_eq!(worker.details().await["registered_ip"], "203.0.113.5");
}

#[tokio::test]
async fn my_details_are_unknown_before_the_reports_and_known_after() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    let before = worker.details().await;
    let sentence = before["message"].as_str().unwrap();
    assert!(sentence.contains(' '), "{sentence}");
    let expected = json!({
        "type": "my_details_response", "worker_id": "a", "registered_ip": "127.0.0.1",
        "registered_port": worker.local.port(), "udp_ip": null, "udp_port": null,
        "message": sentence,
    });
    assert_eq!(before, expected);
    worker.send(json!({ "type": "register_public_ip", "ip": "203.0.113.5" })).await;
    worker.report("203.0.113.6:4001").await;
    let expected = json!({
        "type": "my_details_response", "worker_id": "a", "registered_ip": "203.0.113.5",
        "registered_port": worker.local.port(), "udp_ip": "203.0.113.6", "udp_port": 4001,
        "message": sentence,
    });
    assert_eq!(worker.details().await, expected);
}

#[tokio::test]
async fn an_echo_returns_every_kind_of_payload() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("worker-7").await;
    for payload in [
        "null",
        "true",
        "false",
        "0",
        "-1.50",
        "1e400",
        "123456789012345678901234567890",
        r#""""#,
        r#""ü\n\"\\ \u0000 😀""#,
        r#""\ud800""#,
        "[]",
        r#"[1,[2,{"a":null}]]"#,
        "{}",
        r#"{"type":"echo_request","payload":{"a":1,"a":2}}"#,
    ] {
        worker.send_text(&format!(r#"{{"type":"echo_request","payload":{payload}}}"#)).await;
        let answer = worker.receive_text().await;
        let start = format!(
            r#"{{"type":"echo_response","original_payload":{payload},"processed_by_rendezvous":""#
        );
        let text = answer.strip_prefix(&start).unwrap_or_else(|| panic!("{answer}"));
        let text = text.strip_suffix(r#""}"#).unwrap_or_else(|| panic!("{answer}"));
        assert!(text.contains("worker-7"), "{text}");
    }
    worker.send(json!({ "type": "echo_request" })).await;
    let answer = worker.receive().await;
    assert_eq!(answer["original_payload"], "");
    assert_eq!(answer.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_not_a_known_message_is_ignored_and_the_connection_stays_up() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    let deep = format!(r#"{{"type":"x","payload":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    let deep_unclosed = format!(r#"{{"type":{}"#, "{\"a\":".repeat(10_000));
    for text in [
        "",
        " ",
        "nonsense",
        "{",
        "{\"type\":\"echo_request\"",
        "{\"type\":\"echo_request\"} x",
        "null",
        "true",
        "12",
        "\"echo_request\"",
        "[]",
        "[\"echo_request\"]",
        "{}",
        "{\"payload\":1}",
        "{\"type\":null}",
        "{\"type\":5}",
        "{\"type\":[\"echo_request\"]}",
        "{\"type\":\"\"}",
        "{\"type\":\"ECHO_REQUEST\"}",
        "{\"type\":\"later\",\"x\":1}",
        "{\"type\":\"echo_request\",\"type\":\"echo_request\"}",
        "\u{feff}{\"type\":\"echo_request\"}",
        "\0",
        &deep,
        &deep_unclosed,
    ] {
        worker.send_text(text).await;
        worker.is_up().await;
    }
}

#[tokio::test]
async fn binary_frames_are_ignored_and_the_connection_stays_up() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    for bytes in [b"".as_slice(), b"\xff\x00", br#"{"type":"echo_request","payload":1}"#] {
        worker.send_message(Message::binary(bytes.to_vec())).await;
        worker.is_up().await;
    }
}

#[tokio::test]
async fn unknown_fields_and_any_order_of_fields_are_fine() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    worker
        .send_text(
            "\n{ \"udp_port\" : 4000, \"later\": [1], \"later\": 2, \"udp_ip\":\"203.0.113.5\" , \
             \"\\u0074ype\": \"update_udp_endpoin\\u0074\" }\t",
        )
        .await;
    assert_eq!(worker.receive().await["status"], "success");
    assert_eq!(worker.details().await["udp_port"], 4000);
}
