//! The health server.

use holepunch_worker::Worker;
use tokio::net::TcpListener;

use crate::common::subject::config;
use crate::common::{Absent, Rendezvous, StunServer, Subject, loopback, web};

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
async fn a_health_port_that_is_taken_ends_the_start_with_an_error_that_names_the_setting() {
    let taken = TcpListener::bind(loopback()).await.unwrap();
    let stun = StunServer::bind().await;
    let mut config = config("http://127.0.0.1:9", stun.address);
    let port = taken.local_addr().unwrap().port();
    config.health_port = Some(port);
    let error = Worker::start(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("TCP port {}", port)), "{error}");
    assert!(error.contains("PORT (--port)"), "{error}");
}
