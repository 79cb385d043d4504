//! `holepunch doctor` against servers that are as they should be, and against one of each that is not.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use common::program::Ended;
use common::rendezvous::Absent;
use common::stun::NOWHERE;
use common::{Program, Served, loopback};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// All checks, in the order of their lines; those of STUN and TCP may have several.
const ALL: [&str; 15] = [
    "settings",
    "dns",
    "tcp",
    "proxy",
    "tls",
    "http",
    "clock",
    "websocket",
    "stun",
    "nat",
    "ipv6",
    "port-mapping",
    "relay",
    "direct",
    "open-files",
];
/// What a certificate is for, and its authority: those of the tests of TLS.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/src/tls/authority.pem");
const GOOD: &[u8] = include_bytes!("../../worker/src/tls/good.pem");
const KEY: &[u8] = include_bytes!("../../worker/src/tls/key.pem");

/// What the doctor says of `url`, and the exit code. No router is asked: the tests are to leave none changed.
async fn examined(url: &str, variables: &[(&str, &str)]) -> (Option<i32>, Value) {
    let arguments = ["doctor", url, "--json", "--no-port-mapping"];
    let ended = Program::end_of(&arguments, variables).await;
    (ended.code, document(&ended))
}

/// The result, in which every check that is not as it should be names a fix.
fn document(ended: &Ended) -> Value {
    let document: Value =
        serde_json::from_str(&ended.out).unwrap_or_else(|why| panic!("{why}: {ended:?}"));
    for check in document["checks"].as_array().unwrap() {
        let is_wrong = matches!(check["status"].as_str(), Some("warning" | "fault"));
        assert_eq!(check["fix"].as_str().is_some_and(|fix| fix.len() > 10), is_wrong, "{check}");
        assert_eq!(check["code"].is_string(), is_wrong, "{check}");
    }
    document
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|it| it["check"] == name).unwrap_or_else(|| panic!("{name}: {document}"))
}

/// The status and the code of a check.
fn outcome<'a>(document: &'a Value, name: &str) -> (&'a str, Option<&'a str>) {
    let check = check(document, name);
    (check["status"].as_str().unwrap(), check["code"].as_str())
}

/// Every check of the way behind `name` says that it was not tried because of it.
fn nothing_is_tried_behind(document: &Value, name: &str) {
    let behind = ALL.iter().skip_while(|it| **it != name).skip(1);
    let behind = behind.take_while(|it| **it != "stun").chain(&["relay", "direct"]);
    for other in behind {
        let check = check(document, other);
        assert_eq!(check["status"], "not-tried", "{check}");
        assert_eq!(check["seen"], format!("because {name} failed"), "{check}");
    }
}

/// A server that says this on every connection, whatever it is asked.
async fn saying(text: String) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let text = text.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0
                {
                }
                stream.write_all(text.as_bytes()).await.unwrap();
            });
        }
    });
    address
}

/// A server that speaks TLS, and shows a certificate for `a.example` of an authority that nobody knows.
fn speaking_tls() -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(GOOD).unwrap()],
            PrivateKeyDer::from_pem_slice(KEY).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            // What is not TLS is answered with an alert.
            let _spoken = tls.complete_io(&mut stream);
            let _sent = tls.write_tls(&mut stream).and_then(|_| stream.flush());
            let _until_it_ends = stream.read(&mut [0; 1024]);
        }
    });
    address
}

#[tokio::test]
async fn against_a_rendezvous_that_is_as_it_should_be_everything_is_tried_and_nothing_is_a_fault() {
    let served = Served::start().await;
    let url = format!("http://{}", served.addresses().0);
    let (code, document) = examined(&url, &[]).await;
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!((&document["ok"], &document["faults"]), (&Value::Bool(true), &0.into()));
    assert_eq!(document["rendezvous"], url);
    let checks = document["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|it| it["check"].as_str().unwrap()).collect();
    assert_eq!(names, ALL, "{document:#}");
    for name in
        ["dns", "tcp", "proxy", "tls", "http", "clock", "websocket", "stun", "relay", "direct"]
    {
        assert_eq!(outcome(&document, name), ("ok", None), "{document:#}");
    }
    for check in checks {
        let mut keys: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let all = ["check", "code", "details", "fix", "meaning", "seen", "status", "took_ms"];
        assert_eq!(keys, all, "the shape in docs/doctor.md");
    }
    let details = |name| &check(&document, name)["details"];
    assert!(details("http")["software"].as_str().unwrap().starts_with("holepunch"));
    assert!(details("websocket")["welcome_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(details("stun")["server"], served.addresses().1);
    assert!(details("relay")["bytes_each_way"].as_u64().unwrap() > 100_000);
    assert!(details("relay")["rtt_ms"].as_f64().unwrap() > 0.0);
    assert!(details("direct")["path"].as_str().unwrap().starts_with("direct to "));
    assert_eq!(outcome(&document, "port-mapping").0, "not-tried", "it was turned off");
}

#[tokio::test]
async fn people_read_a_line_for_each_check_and_programs_are_not_needed() {
    let served = Served::start().await;
    let url = format!("http://{}", served.addresses().0);
    let variables = [("RENDEZVOUS_SERVICE_URL", url.as_str()), ("NO_PORT_MAPPING", "true")];
    let ended = Program::end_of(&["doctor"], &variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), ALL.len() + 1, "{}", ended.out);
    for (line, name) in lines.iter().zip(ALL) {
        assert_eq!(line[11..].split(' ').next(), Some(name), "{line}");
    }
    assert!(lines[0].contains("(RENDEZVOUS_SERVICE_URL)"), "where it comes from: {}", lines[0]);
    assert!(lines[ALL.len()].starts_with("0 faults, "), "{}", ended.out);
}

#[tokio::test]
async fn at_a_port_where_nothing_listens_tcp_is_the_fault() {
    let absent = Absent::bind();
    let (code, document) = examined(&format!("http://{}", absent.address), &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(outcome(&document, "tcp"), ("fault", Some("refused")), "{document:#}");
    assert!(check(&document, "tcp")["fix"].as_str().unwrap().contains("port"));
    nothing_is_tried_behind(&document, "tcp");
}

#[tokio::test]
async fn a_port_that_takes_connections_and_says_nothing_is_told_as_silent() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let arguments = ["doctor", url.as_str(), "--json", "--no-port-mapping"];
    let mut program = Program::run(&arguments, &[]);
    program.log.line("http: under way").await;
    let ended = program.end().await;
    assert_eq!(ended.code, Some(1));
    let document = document(&ended);
    assert_eq!(outcome(&document, "tcp").0, "ok", "{document:#}");
    assert_eq!(outcome(&document, "http"), ("fault", Some("silent")), "{document:#}");
    nothing_is_tried_behind(&document, "http");
}

#[tokio::test]
async fn a_server_without_tls_where_the_url_wants_it_is_told_at_tls() {
    let served = Served::start().await;
    let (code, document) = examined(&format!("https://{}", served.addresses().0), &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(outcome(&document, "tls"), ("fault", Some("failed")), "{document:#}");
    assert!(check(&document, "tls")["seen"].as_str().unwrap().contains("http://"));
    nothing_is_tried_behind(&document, "tls");
}

#[tokio::test]
async fn a_server_with_tls_is_told_by_its_certificate_or_that_it_was_asked_without() {
    let address = speaking_tls();
    let (code, document) = examined(&format!("https://{address}"), &[]).await;
    assert_eq!((code, outcome(&document, "tls")), (Some(1), ("fault", Some("failed"))));
    let seen = |document: &Value, name| check(document, name)["seen"].as_str().unwrap().to_owned();
    assert!(seen(&document, "tls").contains("SSL_CERT_FILE"), "{document:#}");
    let trusting = [("SSL_CERT_FILE", AUTHORITY)];
    let (_, document) = examined(&format!("https://{address}"), &trusting).await;
    assert!(seen(&document, "tls").contains("but for a.example, b.example"), "{document:#}");
    let (_, document) = examined(&format!("http://{address}"), &[]).await;
    assert_eq!(outcome(&document, "http"), ("fault", Some("failed")), "{document:#}");
    assert!(seen(&document, "http").contains("https://"), "{document:#}");
}

#[tokio::test]
async fn a_web_server_that_is_no_rendezvous_is_told_as_such_and_so_is_its_clock() {
    let page = "HTTP/1.1 404 Not Found\r\nServer: pages/1.0\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                Content-Length: 4\r\nConnection: close\r\n\r\nnone";
    let address = saying(page.to_owned()).await;
    let (code, document) = examined(&format!("http://{address}"), &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(outcome(&document, "http"), ("warning", Some("not_known")), "{document:#}");
    assert_eq!(check(&document, "http")["details"]["server"], "pages/1.0");
    assert_eq!(outcome(&document, "clock"), ("warning", Some("clock_off")));
    assert!(check(&document, "clock")["details"]["ahead_s"].as_i64().unwrap() > 900_000_000);
    assert_eq!(outcome(&document, "websocket"), ("fault", Some("failed")));
    assert!(check(&document, "websocket")["seen"].as_str().unwrap().contains("no rendezvous"));
    assert!(check(&document, "websocket")["fix"].as_str().unwrap().contains("path of the URL"));
    nothing_is_tried_behind(&document, "websocket");
}

#[tokio::test]
async fn silent_stun_servers_are_a_fault_and_the_relay_is_tried_all_the_same() {
    let silent = UdpSocket::bind(loopback()).await.unwrap();
    let stun = silent.local_addr().unwrap().to_string();
    let arguments = [
        "rendezvous",
        "--listen",
        "127.0.0.1:0",
        "--stun-listen",
        "none",
        "--stun-advertise",
        &stun,
    ];
    let mut rendezvous = Program::run(&arguments, &[]);
    let running = rendezvous.log.entry("rendezvous is running").await;
    let url = format!("http://{}", running["http"].as_str().unwrap());
    let (code, document) = examined(&url, &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(outcome(&document, "stun"), ("fault", Some("silent")), "{document:#}");
    assert_eq!(check(&document, "stun")["details"]["server"], stun);
    for name in ["nat", "ipv6", "direct"] {
        assert_eq!(check(&document, name)["seen"], "because stun failed", "{document:#}");
    }
    assert_eq!(outcome(&document, "relay"), ("ok", None), "{document:#}");
}

#[tokio::test]
async fn a_proxy_that_wants_a_password_is_told_with_the_variable_that_names_it() {
    let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\
                   Content-Length: 0\r\n\r\n";
    let proxy = format!("http://{}", saying(refusal.to_owned()).await);
    let variables = [("HTTP_PROXY", proxy.as_str())];
    let (code, document) = examined("http://rendezvous.example", &variables).await;
    assert_eq!(code, Some(1));
    assert_eq!(outcome(&document, "tcp").0, "ok", "to the proxy: {document:#}");
    assert_eq!(outcome(&document, "proxy"), ("fault", Some("refused")), "{document:#}");
    let seen = check(&document, "proxy")["seen"].as_str().unwrap();
    assert!(seen.contains("407") && seen.contains("HTTP_PROXY"), "{seen}");
    nothing_is_tried_behind(&document, "proxy");
}

#[tokio::test]
async fn a_name_that_is_not_known_is_told_at_once() {
    let (code, document) = examined(&format!("http://{NOWHERE}"), &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(outcome(&document, "dns"), ("fault", Some("name_unknown")), "{document:#}");
    nothing_is_tried_behind(&document, "dns");
}

#[tokio::test]
async fn without_a_rendezvous_the_rest_is_looked_at() {
    let ended = Program::end_of(&["doctor", "--json", "--no-port-mapping"], &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let document = document(&ended);
    assert_eq!(outcome(&document, "settings"), ("fault", Some("wrong")), "{document:#}");
    assert_eq!(document["rendezvous"], Value::Null);
    nothing_is_tried_behind(&document, "settings");
    assert_eq!(outcome(&document, "stun"), ("fault", Some("no_server")));
    assert_eq!(outcome(&document, "open-files").1, None);
}
