//! Where a worker registers, and as whom.

use holepunch_worker::WorkerId;
use tokio::io::AsyncReadExt;

use crate::common::subject::config;
use crate::common::{Rendezvous, StunServer, Subject, within};

#[tokio::test]
async fn each_worker_registers_at_the_baselines_path_with_a_uuid_of_its_own() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let config = config(&format!("http://{}", rendezvous.address), stun.address);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let worker = Subject::start(config.clone()).await;
        let session = rendezvous.accept().await;
        assert_eq!(session.path, format!("/ws/register/{}", worker.id()));
        let id: uuid::Uuid = worker.id().parse().unwrap();
        assert_eq!(id.get_version_num(), 8, "made from its key");
        assert_eq!(id.to_string(), worker.id(), "the usual form");
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn an_id_that_is_given_is_one_path_segment_whatever_it_holds() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    for (id, path) in [
        ("worker-7", "/ws/register/worker-7"),
        ("a/b?c d", "/ws/register/a%2Fb%3Fc%20d"),
        ("%41", "/ws/register/%2541"),
    ] {
        let mut config = config(&format!("http://{}", rendezvous.address), stun.address);
        config.worker_id = Some(WorkerId::new(id).unwrap());
        let worker = Subject::start(config).await;
        assert_eq!(worker.id(), id);
        assert_eq!(rendezvous.accept().await.path, path);
    }
}

#[tokio::test]
async fn every_form_of_the_url_leads_to_the_path_of_registration() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    let host = rendezvous.address;
    for (url, base) in [
        (format!("http://{host}"), ""),
        (format!("http://{host}/"), ""),
        (format!("ws://{host}"), ""),
        (format!("ws://{host}//"), ""),
        (format!("HTTP://{host}"), ""),
        (format!("{host}"), ""),
        (format!("{host}/"), ""),
        (format!("http://localhost:{}", host.port()), ""),
        (format!("http://{host}/base/path"), "/base/path"),
        (format!("ws://{host}/base/"), "/base"),
        (format!("{host}/base"), "/base"),
    ] {
        let worker = Subject::start(config(&url, stun.address)).await;
        let session = rendezvous.accept().await;
        assert_eq!(session.path, format!("{base}/ws/register/{}", worker.id()), "{url}");
    }
}

#[tokio::test]
async fn https_and_wss_are_spoken_over_tls() {
    let rendezvous = Rendezvous::bind();
    let stun = StunServer::bind().await;
    for scheme in ["https", "wss"] {
        let url = format!("{scheme}://{}", rendezvous.address);
        let _worker = Subject::start(config(&url, stun.address)).await;
        let mut stream = rendezvous.accept_tcp().await;
        let mut start = [0; 6];
        within("the first bytes", stream.read_exact(&mut start)).await.unwrap();
        // A handshake record (22) of TLS (3.x) with a ClientHello (1): RFC 8446 §5.1 and §4.
        assert_eq!((start[0], start[1], start[5]), (22, 3, 1), "{scheme}: {start:?}");
    }
}
