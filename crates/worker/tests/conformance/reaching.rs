//! What stands between a worker and its rendezvous: a proxy, a password, TLS on one side alone.

use std::net::SocketAddr;

use holepunch_worker::{Config, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::common::subject::{MAPPED, config};
use crate::common::{Rendezvous, StunServer, Subject, loopback, within};

/// Nobody but the proxy knows it.
const RENDEZVOUS: &str = "ws://user:pass%20word@rendezvous.example:8080/base";

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a request", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Settings with the proxy at `address`, as the environment names it.
fn behind(address: SocketAddr, stun: SocketAddr) -> Config {
    let mut config = config(RENDEZVOUS, stun);
    let named = |name: &str| (name == "HTTP_PROXY").then(|| format!("http://a:b@{address}"));
    config.proxy = Proxy::for_rendezvous(&config.rendezvous, named).unwrap();
    config
}

#[tokio::test]
async fn a_worker_registers_through_the_proxy_of_its_network_and_tells_it_no_other_password() {
    let (rendezvous, stun) = (Rendezvous::bind(), StunServer::bind().await);
    let proxy = TcpListener::bind(loopback()).await.unwrap();
    let worker = Subject::start(behind(proxy.local_addr().unwrap(), stun.address)).await;
    let (mut near, _) = within("the worker", proxy.accept()).await.unwrap();
    let asked = head(&mut near).await;
    let expected = "CONNECT rendezvous.example:8080 HTTP/1.1\r\nHost: rendezvous.example:8080\r\n\
                    Proxy-Authorization: Basic YTpi\r\n\r\n";
    assert_eq!(asked, expected);
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let mut far = TcpStream::connect(rendezvous.address).await.unwrap();
    tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
    let mut session = rendezvous.accept().await;
    assert_eq!(session.path, format!("/base/ws/register/{}", worker.id()));
    assert_eq!(session.authorization.as_deref(), Some("Basic dXNlcjpwYXNzIHdvcmQ="));
    stun.answer_next(MAPPED).await;
    assert_eq!(session.report().await, MAPPED);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_with_its_name_and_what_to_do() {
    let stun = StunServer::bind().await;
    let proxy = TcpListener::bind(loopback()).await.unwrap();
    let mut worker = Subject::start(behind(proxy.local_addr().unwrap(), stun.address)).await;
    let (mut near, _) = within("the worker", proxy.accept()).await.unwrap();
    head(&mut near).await;
    let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
    near.write_all(answer).await.unwrap();
    let (why, _) = worker.until_disconnected().await;
    let says = ["the proxy 127.0.0.1:", "407", "name and the password in HTTP_PROXY"];
    assert!(says.iter().all(|says| why.contains(says)), "{why}");
}

#[tokio::test]
async fn a_server_that_speaks_tls_is_named_as_such_where_the_url_has_none() {
    let (server, stun) = (TcpListener::bind(loopback()).await.unwrap(), StunServer::bind().await);
    let url = format!("http://{}", server.local_addr().unwrap());
    let mut worker = Subject::start(config(&url, stun.address)).await;
    for (answer, says) in [(&[21, 3, 1, 0, 2, 2, 22][..], "use https://"), (&[], "https://")] {
        let (mut near, _) = within("the worker", server.accept()).await.unwrap();
        head(&mut near).await;
        near.write_all(answer).await.unwrap();
        drop(near);
        let (why, _) = worker.until_disconnected().await;
        assert!(why.contains("TLS there") && why.contains(says), "{why}");
    }
}
