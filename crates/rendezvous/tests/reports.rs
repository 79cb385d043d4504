//! `update_udp_endpoint`: which endpoints are taken, and how the others are refused.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Rendezvous;
use common::worker::{Worker, report};
use serde_json::{Value, json};

/// A client address that is not local.
const PUBLIC: &str = "198.51.100.7";

/// Addresses that mean something only inside a host, a link or a site.
const LOCAL_ADDRESSES: [&str; 9] = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.1.1",
    "127.0.0.1",
    "::1",
    "fd00::1",
    "fe80::1",
    "::ffff:10.0.0.1",
];

/// Sends a report that must be refused: the detail.
async fn refused(worker: &mut Worker, message: Value) -> String {
    let shown = message.to_string();
    worker.send(message).await;
    let ack = worker.receive().await;
    let detail = ack["detail"].as_str().unwrap_or_else(|| panic!("{shown}: {ack}")).to_owned();
    let expected = json!({ "type": "udp_endpoint_ack", "status": "error", "detail": detail });
    assert_eq!(ack, expected, "{shown}");
    assert!(!detail.is_empty(), "{shown}");
    detail
}

#[tokio::test]
async fn a_port_may_be_a_number_or_a_text_of_digits() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    for port in [json!(1), json!("1"), json!(65535), json!("65535"), json!("04000")] {
        let report =
            json!({ "type": "update_udp_endpoint", "udp_ip": "203.0.113.5", "udp_port": port });
        worker.send(report).await;
        let ack = json!({ "type": "udp_endpoint_ack", "status": "success" });
        assert_eq!(worker.receive().await, ack, "{port}");
        let expected: u16 = port.to_string().trim_matches('"').parse().unwrap();
        assert_eq!(worker.details().await["udp_port"], expected);
    }
}

#[tokio::test]
async fn a_report_without_address_or_port_is_refused_as_missing() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    for message in [
        json!({ "type": "update_udp_endpoint" }),
        json!({ "type": "update_udp_endpoint", "udp_ip": "203.0.113.5" }),
        json!({ "type": "update_udp_endpoint", "udp_port": 4000 }),
        json!({ "type": "update_udp_endpoint", "udp_ip": null, "udp_port": 4000 }),
        json!({ "type": "update_udp_endpoint", "udp_ip": "203.0.113.5", "udp_port": null }),
        json!({ "type": "update_udp_endpoint", "udp_ip": "", "udp_port": 4000 }),
    ] {
        assert_eq!(refused(&mut worker, message).await, "Missing UDP IP/Port");
    }
    worker.is_up().await;
}

#[tokio::test]
async fn a_bad_address_or_port_is_refused_with_what_came() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    for ip in [json!("host"), json!("1.2.3"), json!("203.0.113.5:4000"), json!(7), json!(["x"])] {
        let report = json!({ "type": "update_udp_endpoint", "udp_ip": ip, "udp_port": 4000 });
        let detail = refused(&mut worker, report).await;
        assert!(detail.contains(&ip.to_string()), "{detail}");
    }
    for port in [
        json!(0),
        json!(65536),
        json!(-1),
        json!(4000.5),
        json!(4000.0),
        json!(true),
        json!(false),
        json!("0"),
        json!("65536"),
        json!("-1"),
        json!("+1"),
        json!("port"),
        json!([4000]),
        json!({ "port": 4000 }),
    ] {
        let report =
            json!({ "type": "update_udp_endpoint", "udp_ip": "203.0.113.5", "udp_port": port });
        let detail = refused(&mut worker, report).await;
        assert!(detail.contains(&port.to_string()), "{detail}");
    }
    assert_eq!(worker.details().await["udp_ip"], Value::Null);
}

#[tokio::test]
async fn an_address_at_which_no_single_host_answers_is_refused() {
    let rendezvous = Rendezvous::behind_a_proxy();
    let mut near = rendezvous.worker("near").await;
    let mut far = rendezvous.worker_from(PUBLIC, "far").await;
    for worker in [&mut near, &mut far] {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "239.1.2.3",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
            "::ffff:224.0.0.1",
        ] {
            let report = json!({ "type": "update_udp_endpoint", "udp_ip": ip, "udp_port": 4000 });
            refused(worker, report).await;
        }
        assert_eq!(worker.details().await["udp_ip"], Value::Null);
    }
}

#[tokio::test]
async fn a_local_address_from_a_client_elsewhere_is_refused() {
    let rendezvous = Rendezvous::behind_a_proxy();
    let mut worker = rendezvous.worker_from(PUBLIC, "a").await;
    assert_eq!(worker.details().await["registered_ip"], PUBLIC);
    for ip in LOCAL_ADDRESSES {
        let report = json!({ "type": "update_udp_endpoint", "udp_ip": ip, "udp_port": 4000 });
        let detail = refused(&mut worker, report).await;
        assert!(detail.contains(PUBLIC), "{detail}");
    }
    assert_eq!(worker.details().await["udp_ip"], Value::Null);
}

#[tokio::test]
async fn a_local_address_from_a_local_client_is_accepted() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    for ip in LOCAL_ADDRESSES {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        worker.report(&std::net::SocketAddr::new(ip, 4000).to_string()).await;
        assert_eq!(worker.details().await["udp_ip"], ip.to_canonical().to_string());
    }
}

#[tokio::test]
async fn a_local_address_is_accepted_from_everybody_where_that_is_allowed() {
    let rendezvous = Rendezvous::with(|config| {
        config.trusted_proxies.push("127.0.0.0/8".parse().unwrap());
        config.matchmaker.allow_private = true;
    });
    let mut worker = rendezvous.worker_from(PUBLIC, "a").await;
    worker.report("10.0.0.1:4000").await;
    assert_eq!(worker.details().await["udp_ip"], "10.0.0.1");
}

#[tokio::test]
async fn documentation_benchmark_and_carrier_addresses_are_accepted_from_everybody() {
    let rendezvous = Rendezvous::behind_a_proxy();
    let mut worker = rendezvous.worker_from(PUBLIC, "a").await;
    for endpoint in [
        "192.0.2.1:4000",
        "198.51.100.1:4000",
        "203.0.113.1:4000",
        "198.18.0.1:4000",
        "100.64.0.1:4000",
        "8.8.8.8:4000",
        "[2001:db8::1]:4000",
    ] {
        worker.report(endpoint).await;
    }
}

#[tokio::test]
async fn a_refused_report_leaves_the_accepted_one_and_its_place_alone() {
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("a").await;
    worker.report("203.0.113.5:4000").await;
    refused(&mut worker, json!({ "type": "update_udp_endpoint", "udp_ip": "x" })).await;
    let mut bad = report("203.0.113.6:4000");
    bad["udp_port"] = json!(0);
    refused(&mut worker, bad).await;
    assert_eq!(worker.details().await["udp_ip"], "203.0.113.5");
    assert_eq!(common::ready(&rendezvous.listing().await), ["a"]);
}
