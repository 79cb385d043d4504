//! The examples do what they show.

use std::net::Ipv4Addr;

use holepunch_worker::Worker;

use crate::{Rendezvous, within};

#[expect(dead_code, reason = "its `main` reads arguments")]
#[path = "../../examples/axum.rs"]
mod axum_service;
#[expect(dead_code, reason = "its `main` reads arguments")]
#[path = "../../examples/echo.rs"]
mod echo;
#[expect(dead_code, reason = "its `main` reads arguments")]
#[path = "../../examples/file.rs"]
mod file;
#[expect(dead_code, reason = "its `main` reads arguments")]
#[path = "../../examples/tunnel.rs"]
mod tunnel;

/// Two workers, of which the second is known to the rendezvous.
async fn two(rendezvous: &Rendezvous, protocol: &str) -> [Worker; 2] {
    let start = || rendezvous.worker().protocols([protocol]).start();
    let workers = [start().await.unwrap(), start().await.unwrap()];
    let nobody = holepunch_worker::WorkerId::new("nobody").unwrap();
    let unknown = within("the registration", workers[1].connect(&nobody)).await;
    assert_eq!(unknown.unwrap_err().code(), holepunch_worker::FailureCode::NotRegistered);
    workers
}

#[tokio::test]
async fn an_echo_comes_back() {
    let rendezvous = Rendezvous::start();
    let [caller, called] = two(&rendezvous, "echo/1").await;
    let peer = called.id().clone();
    let serving =
        tokio::spawn(async move { echo::serve(called).await.map_err(|it| it.to_string()) });
    let said = within("the echo", echo::ask(&caller, &peer, "hello")).await.unwrap();
    assert_eq!(said, "hello");
    serving.abort();
}

#[tokio::test]
async fn a_web_service_answers_over_a_link_and_knows_who_asks() {
    let rendezvous = Rendezvous::start();
    let [caller, called] = two(&rendezvous, "http/1.1").await;
    let peer = called.id().clone();
    let serving =
        tokio::spawn(async move { axum_service::serve(called).await.map_err(|it| it.to_string()) });
    let answer = within("the answer", axum_service::request(&caller, &peer, "/")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with(&format!("hello, {}\n", caller.id())), "{answer}");
    serving.abort();
}

#[tokio::test]
async fn a_file_arrives_under_its_name_and_no_name_leads_elsewhere() {
    let rendezvous = Rendezvous::start();
    let [caller, called] = two(&rendezvous, "file/1").await;
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("a.bin");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &content).unwrap();
    let both = async { tokio::join!(caller.connect(called.id()), called.accept()) };
    let (near, far) = within("a link", both).await;
    let (near, far) = (near.unwrap(), far.unwrap());
    let sending = async { file::send(near.open_stream().await.unwrap(), &path).await };
    let receiving = async { file::receive(far.accept_stream().await.unwrap(), to.path()).await };
    let (sent, received) = within("the file", async { tokio::join!(sending, receiving) }).await;
    sent.unwrap();
    assert!(std::fs::read(received.unwrap()).unwrap() == content);
    let forging = async {
        use tokio::io::AsyncWriteExt;
        let mut stream = near.open_stream().await.unwrap();
        stream.write_all(b"\x04../x").await.unwrap();
        stream
    };
    let receiving = async { file::receive(far.accept_stream().await.unwrap(), to.path()).await };
    let (_stream, received) = within("a refusal", async { tokio::join!(forging, receiving) }).await;
    assert!(received.unwrap_err().to_string().contains("no plain name"));
}

#[tokio::test]
async fn a_tcp_connection_goes_through_the_tunnel() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    let rendezvous = Rendezvous::start();
    let [caller, called] = two(&rendezvous, "tunnel/1").await;
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = service.local_addr().unwrap().to_string();
    let both = async { tokio::join!(caller.connect(called.id()), called.accept()) };
    let (near, far) = within("a link", both).await;
    let far = tokio::spawn(tunnel::far(far.unwrap(), to));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let near = near.unwrap();
    let near =
        tokio::spawn(
            async move { tunnel::near(&near, listener).await.map_err(|it| it.to_string()) },
        );
    let through = async {
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, _) = service.accept().await.unwrap();
        let mut said = String::new();
        server.read_to_string(&mut said).await.unwrap();
        server.write_all(b"good bye").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        (said, answer)
    };
    let (said, answer) = within("the tunnel", through).await;
    assert_eq!((said.as_str(), answer.as_str()), ("hello", "good bye"));
    near.abort();
    far.abort();
}
