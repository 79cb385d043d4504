//! The health server.

use holepunch_worker::Worker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::subject::config;
use crate::common::{Absent, Rendezvous, StunServer, Subject, loopback, web, within};

#[tokio::test]
async fn a_get_of_every_path_is_answered_with_ok_in_plain_text() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", rendezvous.address);
    let worker = Subject::start(config(&url, stun.address)).await;
    for path in ["/health", "/health?deep=1", "/", "/index.html", "/ws/register/x", "/%2e%2e/a"] {
        let answer = web::get(worker.health_address(), path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("\r\ncontent-type: text/plain"), "{path}: {}", answer.head);
        let is_health = path.starts_with("/health");
        assert!(if is_health { answer.body == "OK" } else { answer.body.starts_with("OK") });
    }
}

#[tokio::test]
async fn the_health_server_does_not_wait_for_the_rendezvous() {
    let rendezvous = Absent::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", rendezvous.address);
    let mut worker = Subject::start(config(&url, stun.address)).await;
    worker.until_disconnected().await;
    assert_eq!(web::get(worker.health_address(), "/health").await.body, "OK");
}

#[tokio::test]
async fn silent_connections_give_way_to_health_checks_and_do_not_add_up() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let url = format!("http://{}", rendezvous.address);
    let worker = Subject::start(config(&url, stun.address)).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(worker.health_address()).await.unwrap());
    }
    assert_eq!(web::get(worker.health_address(), "/health").await.body, "OK");
    for stream in &mut silent[..130] {
        let end = within("the end of the oldest", stream.read(&mut [0])).await;
        assert!(!end.is_ok_and(|bytes| bytes > 0), "an answer in place of an end");
    }
    let last = silent.last_mut().unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    within("an answer", last.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200", "the newest has its place");
}

#[tokio::test]
async fn a_health_port_that_is_taken_ends_the_start_with_an_error_that_names_it() {
    let taken = TcpListener::bind(loopback()).await.unwrap();
    let stun = StunServer::bind().await;
    let mut config = config("http://127.0.0.1:9", stun.address);
    let port = taken.local_addr().unwrap().port();
    config.health_port = Some(port);
    let error = Worker::start(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("TCP port {}", port)), "{error}");
}
