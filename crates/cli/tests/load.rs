//! `holepunch load` against `holepunch rendezvous`, both as processes.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Program;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

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
async fn stun_is_asked_and_datagrams_go_through_the_relay_by_udp() {
    let words = ["rendezvous", "--listen", "127.0.0.1:0", "--stun-listen", "127.0.0.1:0"];
    let mut rendezvous = Program::run(&words, &[]);
    let running = rendezvous.log.entry("rendezvous is running").await;
    let url = format!("http://{}", running["http"].as_str().unwrap());
    let stun = running["stun"].as_str().unwrap().trim_matches(['[', ']']).to_owned();
    let stun = ["load", "stun", "--sockets", "4", "--seconds", "0.2", "--json", "--server", &stun];
    let relay = ["load", "relay", "--udp", "--seconds", "0.2", "--json", "--url", &url];
    for words in [&stun[..], &relay] {
        let ended = Program::end_of(words, &[]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let summary: Value = serde_json::from_str(&ended.out).unwrap();
        assert!(summary["done"].as_u64().unwrap() > 0, "{summary}");
        assert!(summary["times"][0]["count"].as_u64().unwrap() > 0, "{summary}");
    }
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

#[tokio::test]
async fn a_password_in_a_url_that_is_none_is_not_repeated() {
    const URL: &str = "https://u:secret@a b";
    let by_flag = Program::end_of(&["load", "idle", "--url", URL], &[]).await;
    let variables = [("RENDEZVOUS_SERVICE_URL", URL)];
    let by_variable = Program::end_of(&["load", "idle"], &variables).await;
    for ended in [by_flag, by_variable] {
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let said = format!("{}{}", ended.out, ended.err);
        assert!(said.contains("is not a URL") && said.contains("--url"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

/// The head of a request.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn the_proxy_and_the_password_of_the_url_are_used() {
    let mut rendezvous = Program::run(&RENDEZVOUS, &[]);
    let running = rendezvous.log.entry("rendezvous is running").await;
    let server = running["http"].as_str().unwrap().to_owned();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let named = format!("http://{}", proxy.local_addr().unwrap());
    let url = "http://Aladdin:open%20sesame@rendezvous.example:81";
    let idle = ["load", "idle", "--workers", "1", "--hold-sec", "0.1", "--url", url];
    let load = Program::run(&idle, &[("HTTP_PROXY", &named)]);
    let (mut near, _) = common::within("the proxy is asked", proxy.accept()).await.unwrap();
    let asked = head(&mut near).await;
    assert!(asked.starts_with("CONNECT rendezvous.example:81 HTTP/1.1\r\n"), "{asked}");
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let request = head(&mut near).await;
    let basic = "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    assert!(request.contains(basic), "{request}");
    let carried = tokio::spawn(async move {
        let mut far = TcpStream::connect(server).await.unwrap();
        far.write_all(request.as_bytes()).await.unwrap();
        let _however_it_ends = copy_bidirectional(&mut near, &mut far).await;
    });
    let ended = load.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    carried.await.unwrap();
}
