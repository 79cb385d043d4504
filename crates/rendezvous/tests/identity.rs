//! Keys and their proofs over real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Rendezvous;
use common::http::{status, upgrade_request};
use common::raw::{RawClient, TEXT};
use common::v1::Client;
use holepunch_wire::WorkerId;
use holepunch_wire::identity::{PublicKey, Registration, Signature};
use holepunch_wire::reason::NOT_PROVED;
use holepunch_wire::session::RoomName;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// The host in the URL of every client.
const HOST: &str = "127.0.0.1";

/// A worker's key.
struct Key(Ed25519KeyPair);

impl Key {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.public_key().as_ref().try_into().unwrap())
    }

    fn id(&self) -> String {
        self.public().worker_id().as_str().to_owned()
    }

    fn sign(&self, host: &str, challenge: &str, id: &str, room: &str) -> Signature {
        let worker = &WorkerId::new(id).unwrap();
        let room =
            &if room.is_empty() { RoomName::default() } else { RoomName::new(room).unwrap() };
        let signed = Registration { host, challenge, worker, room }.to_signed_bytes();
        Signature::from_bytes(self.0.sign(&signed).as_ref().try_into().unwrap())
    }
}

fn hello(key: PublicKey, signature: Signature) -> Value {
    json!({ "type": "hello", "key": key, "signature": signature })
}

/// Opens `path`: the client and its challenge.
async fn open(rendezvous: &Rendezvous, path: &str) -> (Client, String) {
    let mut client = Client::connect(rendezvous.address(), path).await;
    let welcome = client.receive("welcome").await;
    let challenge = welcome["challenge"].as_str().unwrap().to_owned();
    (client, challenge)
}

/// A worker under this id that has proved its key.
async fn enter(rendezvous: &Rendezvous, id: &str, key: &Key) -> Client {
    let (mut client, challenge) = open(rendezvous, id).await;
    client.send(hello(key.public(), key.sign(HOST, &challenge, id, ""))).await;
    client.is_up().await;
    client
}

#[track_caller]
fn is_refused((code, said): (u16, String), reason: &str) {
    assert!(code == 1008 && said.starts_with(reason), "{code} {said}");
}

#[tokio::test]
async fn a_signature_over_the_registration_proves_the_key_to_peers() {
    let (rendezvous, key) = (Rendezvous::start(), Key::new(1));
    let id = key.id();
    let (mut first, challenge) = open(&rendezvous, &id).await;
    rendezvous.listing_with(0).await;
    first.send(hello(key.public(), key.sign(HOST, &challenge, &id, ""))).await;
    first.report(4001).await;
    let listing = rendezvous.listing_with(1).await;
    assert!(listing["workers"][&id].is_object());
    let mut second = Client::connect(rendezvous.address(), "second").await;
    second.report(4002).await;
    let offer = second.receive("p2p_connection_offer").await;
    assert_eq!(offer["peer_key"], json!(key.public()));
    assert_eq!(first.receive("p2p_connection_offer").await.get("peer_key"), None);
}

#[tokio::test]
async fn the_room_that_is_signed_is_that_of_the_hello_or_else_of_the_url() {
    let (rendezvous, key) = (Rendezvous::start(), Key::new(1));
    let id = key.id();
    for (path, named, signed) in
        [("", Some("red"), "red"), ("?room=blue", None, "blue"), ("?room=blue", Some("red"), "red")]
    {
        let (mut client, challenge) = open(&rendezvous, &format!("{id}{path}")).await;
        let mut hello = hello(key.public(), key.sign(HOST, &challenge, &id, signed));
        if let Some(room) = named {
            hello["room"] = json!(room);
        }
        client.send(hello).await;
        client.is_up().await;
    }
}

#[tokio::test]
async fn a_signature_over_anything_else_is_refused() {
    let (rendezvous, key) = (Rendezvous::start(), Key::new(1));
    for id in [key.id(), "alice".to_owned()] {
        for (host, challenge, of, room) in [
            ("other.example", None, id.as_str(), ""),
            (HOST, Some("00ff"), &id, ""),
            (HOST, None, "bob", ""),
            (HOST, None, &id, "red"),
        ] {
            let (mut client, own) = open(&rendezvous, &id).await;
            let signature = key.sign(host, challenge.unwrap_or(&own), of, room);
            client.send(hello(key.public(), signature)).await;
            assert_eq!(client.receive("closing").await["code"], "not_proved");
            is_refused(client.closed().await, NOT_PROVED);
        }
    }
    rendezvous.listing_with(0).await;
}

#[tokio::test]
async fn a_signature_of_another_connection_is_refused_and_the_live_one_stays() {
    let (rendezvous, key) = (Rendezvous::start(), Key::new(1));
    let id = key.id();
    let (mut first, challenge) = open(&rendezvous, &id).await;
    let signed = hello(key.public(), key.sign(HOST, &challenge, &id, ""));
    first.send(signed.clone()).await;
    first.is_up().await;
    let (mut thief, _) = open(&rendezvous, &id).await;
    thief.send(signed.clone()).await;
    is_refused(thief.closed().await, NOT_PROVED);
    first.send(signed).await;
    first.is_up().await;
}

#[tokio::test]
async fn a_swapped_key_is_refused() {
    let (rendezvous, key, other) = (Rendezvous::start(), Key::new(1), Key::new(2));
    let id = key.id();
    let (mut client, challenge) = open(&rendezvous, &id).await;
    client.send(hello(other.public(), key.sign(HOST, &challenge, &id, ""))).await;
    is_refused(client.closed().await, NOT_PROVED);
    let (mut client, challenge) = open(&rendezvous, &id).await;
    client.send(hello(other.public(), other.sign(HOST, &challenge, &id, ""))).await;
    is_refused(client.closed().await, "the key does not belong to the id");
    let (mut client, _) = open(&rendezvous, "alice").await;
    client.send(json!({ "type": "hello", "key": key.public() })).await;
    is_refused(client.closed().await, "the signature does not prove the key: there is none");
}

#[tokio::test]
async fn a_live_worker_gives_way_to_its_own_key_alone() {
    let (rendezvous, key, other) = (Rendezvous::start(), Key::new(1), Key::new(2));
    let mut first = enter(&rendezvous, "alice", &key).await;
    let (mut thief, challenge) = open(&rendezvous, "alice").await;
    thief.send(hello(other.public(), other.sign(HOST, &challenge, "alice", ""))).await;
    is_refused(thief.closed().await, "this id is bound to another key");
    first.is_up().await;
    let mut second = enter(&rendezvous, "alice", &key).await;
    assert_eq!(first.closed().await, (1000, "New connection from same worker ID".to_owned()));
    second.is_up().await;
}

#[tokio::test]
async fn the_baseline_is_refused_an_id_of_a_key() {
    let (rendezvous, key) = (Rendezvous::start(), Key::new(1));
    let mut alice = enter(&rendezvous, "alice", &key).await;
    for id in ["alice", &key.id()] {
        let mut client = RawClient::register(rendezvous.address(), id).await;
        is_refused(client.read_close().await, "this id is bound to a key");
    }
    alice.is_up().await;
}

#[tokio::test]
async fn a_server_that_has_names_takes_signatures_over_these_alone() {
    let names = ["One.example:443", "two.example"];
    let rendezvous =
        Rendezvous::with(|config| config.public_hosts = names.map(str::to_owned).to_vec());
    let key = Key::new(1);
    let id = key.id();
    for (host, taken) in
        [("one.example", true), ("TWO.example", true), (HOST, false), ("three.example", false)]
    {
        let (mut client, challenge) = open(&rendezvous, &id).await;
        client.send(hello(key.public(), key.sign(host, &challenge, &id, ""))).await;
        if taken {
            client.is_up().await;
        } else {
            is_refused(client.closed().await, NOT_PROVED);
        }
    }
}

/// nginx' own snippet for WebSockets sends the name of the upstream as Host.
#[tokio::test]
async fn behind_a_proxy_that_rewrites_host_the_signature_may_be_over_the_forwarded_one() {
    let key = Key::new(1);
    let id = key.id();
    for (header, trusted, taken) in [
        ("X-Forwarded-Host: Own.example", true, true),
        ("Forwarded: for=192.0.2.1;host=\"own.example:443\"", true, true),
        ("X-Forwarded-Host: own.example", false, false),
        ("X-Forwarded-Host: other.example", true, false),
    ] {
        let rendezvous = if trusted { Rendezvous::behind_a_proxy() } else { Rendezvous::start() };
        let (mut client, challenge) = forwarded(&rendezvous, &id, header).await;
        let signature = key.sign("own.example", &challenge, &id, "");
        client.send_frame(TEXT, hello(key.public(), signature).to_string().as_bytes()).await;
        if taken {
            rendezvous.listing_with(1).await;
        } else {
            let (code, reason) = client.read_close().await;
            is_refused((code, reason.clone()), NOT_PROVED);
            assert!(reason.contains("host \"test\""), "{reason}");
        }
    }
}

/// A connection that a proxy has made, with this header: the client and its challenge.
async fn forwarded(rendezvous: &Rendezvous, id: &str, header: &str) -> (RawClient, String) {
    let further = format!("Sec-WebSocket-Protocol: holepunch.v1\r\n{header}\r\n");
    let mut client = RawClient::connect(rendezvous.address()).await;
    let request = upgrade_request(&format!("/ws/register/{id}"), &further);
    client.write(request.as_bytes()).await;
    assert_eq!(status(&client.read_head().await), 101);
    loop {
        let (_, frame) = client.read_frame().await.unwrap();
        let message: Value = serde_json::from_slice(&frame).unwrap();
        if let Some(challenge) = message["challenge"].as_str() {
            return (client, challenge.to_owned());
        }
    }
}
