//! A rendezvous that puts somebody in the peer's place.

use holepunch_wire::identity::PublicKey;
use holepunch_worker::{Identity, LinkError, Links, Notice, Worker, WorkerId};
use serde_json::{Value, json};

use crate::nat::Nat;
use crate::rendezvous::{Rendezvous, Session};
use crate::within;
use crate::world::{config, log};

struct Guest {
    worker: Worker,
    links: Links,
    session: Session,
    identity: Identity,
}

/// Two workers at a rendezvous that the test plays.
struct Trap {
    nat: Nat,
    guests: [Guest; 2],
}

impl Trap {
    async fn set(ids: impl Fn(usize) -> Option<WorkerId>) -> Self {
        log();
        let rendezvous = Rendezvous::bind();
        let nat = Nat::open().await;
        let mut guests = Vec::new();
        for number in 0..2 {
            let identity = Identity::generate().unwrap();
            let mut config = config(rendezvous.address, nat.stun(number));
            (config.identity, config.worker_id) = (Some(identity.clone()), ids(number));
            let mut worker = Worker::start(config).await.unwrap();
            let mut session = rendezvous.accept_selecting("holepunch.v1").await;
            let welcome = json!({
                "type": "welcome", "server": "trap/1", "stun": [], "challenge": "00ff",
                "observed_ip": "127.0.0.1", "observed_port": 40001, "resume": "r", "sessions_max": 64,
            });
            session.send(welcome).await;
            while session.receive().await["type"] != "update_udp_endpoint" {}
            let links = worker.take_links().unwrap();
            guests.push(Guest { worker, links, session, identity });
        }
        Self { nat, guests: guests.try_into().ok().unwrap() }
    }

    /// Offers each the other, under a key of the rendezvous' choice.
    async fn spring(&mut self, keys: [PublicKey; 2]) {
        for own in 0..2 {
            let peer = self.guests[1 - own].worker.id().as_str().to_owned();
            let offer = offer(own, &peer, self.nat.public(1 - own), keys[1 - own]);
            self.guests[own].session.send(offer).await;
        }
    }

    fn keys(&self) -> [PublicKey; 2] {
        self.guests.each_ref().map(|guest| guest.identity.public_key())
    }
}

fn offer(own: usize, peer: &str, at: std::net::SocketAddr, key: PublicKey) -> Value {
    let credentials =
        |of: usize| json!({ "ufrag": format!("ufrag{of}"), "password": format!("{of:0>32}") });
    json!({
        "type": "p2p_connection_offer",
        "peer_worker_id": peer,
        "peer_udp_ip": at.ip(),
        "peer_udp_port": at.port(),
        "session": "00000000000000aa",
        "role": if own == 0 { "controlling" } else { "controlled" },
        "credentials": credentials(own),
        "peer_credentials": credentials(1 - own),
        "peer_key": key,
        "candidates": [],
        "address_proof": "stun",
        "plan": { "number": 1, "strategy": "plain", "reason": "a trap" },
    })
}

impl Guest {
    async fn refusal(&mut self) -> LinkError {
        let refused = async {
            loop {
                if let Notice::LinkEnded(_, _, error) = self.worker.next_notice().await.unwrap() {
                    return error;
                }
            }
        };
        within("a refusal", refused).await
    }
}

#[tokio::test]
async fn with_the_right_keys_there_is_a_link() {
    let mut trap = Trap::set(|_| None).await;
    trap.spring(trap.keys()).await;
    let [first, second] = &mut trap.guests;
    let both = async { tokio::join!(first.links.next(), second.links.next()) };
    let (first, second) = within("a link", both).await;
    assert!([first, second].iter().flatten().filter(|link| link.is_authenticated()).count() == 2);
}

#[tokio::test]
async fn a_key_from_which_the_peers_id_was_not_made_is_refused_before_any_handshake() {
    let mut trap = Trap::set(|_| None).await;
    let mallory = Identity::generate().unwrap().public_key();
    trap.spring([mallory; 2]).await;
    for own in 0..2 {
        let id = trap.guests[1 - own].worker.id().clone();
        let refusal = trap.guests[own].refusal().await;
        assert_eq!(refusal, LinkError::Impostor { id, shown: mallory });
    }
}

#[tokio::test]
async fn keys_that_are_swapped_are_refused_too() {
    let mut trap = Trap::set(|_| None).await;
    let [first, second] = trap.keys();
    trap.spring([second, first]).await;
    for guest in &mut trap.guests {
        let refusal = guest.refusal().await;
        assert!(matches!(refusal, LinkError::Impostor { .. }), "{refusal}");
    }
}

#[tokio::test]
async fn under_ids_of_their_own_choice_a_peer_with_another_key_than_the_one_named_is_refused() {
    for wrong in 0..2 {
        let id = |number: usize| WorkerId::new(&format!("chosen-{number}")).ok();
        let mut trap = Trap::set(id).await;
        let mut keys = trap.keys();
        let shown = keys[wrong];
        let expected = Identity::generate().unwrap().public_key();
        keys[wrong] = expected;
        trap.spring(keys).await;
        let refusal = trap.guests[1 - wrong].refusal().await;
        assert_eq!(refusal, LinkError::WrongKey { expected, shown });
    }
}
