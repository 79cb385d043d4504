//! What is wrong before there is any link, by code and by blame.

use holepunch_worker::{Blame, FailureCode, Worker, WorkerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{Rendezvous, within};

async fn start(url: &str) -> Worker {
    Worker::builder(url).port_mapping(false).start().await.unwrap()
}

#[tokio::test]
async fn what_keeps_the_first_connection_from_coming_about_is_told_to_who_waits() {
    let nobody = WorkerId::new("nobody").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let worker = start(&format!("http://{closed}")).await;
    let error = within("an error", worker.accept()).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), (FailureCode::ConnectionRefused, Blame::Network));
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
    let error = within("the next attempt", worker.connect(&nobody)).await.unwrap_err();
    assert_eq!(error.code().as_str(), "connection_refused");

    let worker = start("http://nowhere.invalid").await;
    let error = within("an error", worker.connect(&nobody)).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), (FailureCode::NameUnknown, Blame::Network));
    assert!(error.to_string().contains("nowhere.invalid"), "{error}");
}

#[tokio::test]
async fn what_is_no_rendezvous_is_the_caller_s_mistake() {
    for (status, code) in [
        ("404 Not Found", FailureCode::NotARendezvous),
        ("401 Unauthorized", FailureCode::LoginWanted),
        ("503 Service Unavailable", FailureCode::Unavailable),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = start(&format!("http://{}", listener.local_addr().unwrap())).await;
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
        };
        let both = async { tokio::join!(worker.accept(), answering) };
        let (error, ()) = within("an error", both).await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let worker = start(&format!("https://{}", plain.local_addr().unwrap())).await;
    let answering = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    };
    let both = async { tokio::join!(worker.accept(), answering) };
    let (error, ()) = within("an error", both).await;
    assert_eq!(error.unwrap_err().code(), FailureCode::Tls);
}

#[tokio::test]
async fn whom_the_rendezvous_does_not_take_hears_so() {
    let rendezvous = Rendezvous::start();
    let first = rendezvous.worker().worker_id("chosen").start().await.unwrap();
    let other = WorkerId::new("other").unwrap();
    let error = within("the registration", first.connect(&other)).await.unwrap_err();
    assert_eq!(error.code(), FailureCode::NotRegistered);
    // The id belongs to another key by now.
    let second = rendezvous.worker().worker_id("chosen").start().await.unwrap();
    let error = within("a refusal", second.accept()).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), (FailureCode::NotAdmitted, Blame::Caller), "{error}");
    assert!(!error.to_string().contains("WORKER_ID"), "{error}");
}

#[tokio::test]
async fn a_setting_that_is_wrong_is_told_at_the_start_and_names_no_flag() {
    let errors = [
        Worker::builder("ftp://a.example").start().await,
        Worker::builder("http://a.example").room("a\nb").start().await,
        Worker::builder("http://a.example").stun_servers(["a b"]).start().await,
        Worker::builder("http://a.example").protocols([""]).start().await,
        Worker::builder("http://a.example").worker_id("").start().await,
        Worker::builder("http://a.example").worker_id(&"x".repeat(200)).start().await,
    ];
    for error in errors {
        let text = error.unwrap_err().to_string();
        assert!(!text.contains("--") && !text.contains("_"), "{text}");
    }
}
