//! Sessions on loopback, in which a third one has seen the first packet of the handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holepunch_traversal::{PathInfo, SessionEvent, SocketId};
use holepunch_wire::WorkerId;
use holepunch_wire::candidate::CandidateKind;
use holepunch_wire::check::IceRole;
use holepunch_wire::credentials::{IceCredentials, RANDOM_BYTES};
use holepunch_wire::identity::PublicKey;
use holepunch_wire::plan::{Plan, Strategy};
use holepunch_wire::reason::EndReason;
use holepunch_wire::session::{AddressProof, SessionId};
use holepunch_wire::signal::v1::{SessionDetails, SessionOffer};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{LinkConfig, LinkEvent, Links, RoomSecret};
use crate::identity::Identity;
use crate::link::{Link, LinkError};
use crate::mux::{Arrived, Mux};

const SESSION: SessionId = SessionId(1);
/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A worker without a traversal machine.
struct Side {
    links: Links,
    key: PublicKey,
    address: SocketAddr,
    _arrived: tokio::sync::mpsc::Receiver<Arrived>,
}

impl Side {
    async fn new() -> Self {
        Self::with(None).await
    }

    async fn with(secret: Option<&str>) -> Self {
        let main = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = main.local_addr().unwrap();
        let (mux, socket, _arrived) = Mux::new(main).unwrap();
        let identity = Identity::generate().unwrap();
        let key = identity.public_key();
        let secret = secret.map(RoomSecret::new);
        let config = LinkConfig {
            identity,
            secret,
            guesses: super::Guesses::default(),
            relay: false,
            protocols: crate::protocol::Protocols::default(),
        };
        let links = Links::new(mux, socket, Some(config)).unwrap();
        Self { links, key, address, _arrived }
    }

    /// Begins a session with the peer at this address, which checks have found.
    fn begin(&mut self, role: IceRole, peer: SocketAddr, peer_key: PublicKey) {
        let credentials = |byte| IceCredentials::from_random([byte; RANDOM_BYTES]);
        let (own, other) = if role == IceRole::Controlling { (1, 2) } else { (2, 1) };
        self.links.begin(&SessionOffer {
            peer: WorkerId::new("chosen").unwrap(),
            endpoint: None,
            details: SessionDetails {
                session: SESSION,
                role,
                credentials: credentials(own),
                peer_credentials: credentials(other),
                peer_key: Some(peer_key),
                relay_token: None,
                relay_url: None,
                relay_udp: Vec::new(),
                candidates: Vec::new(),
                address_proof: AddressProof::Stun,
                turn: Vec::new(),
                guest: false,
                plan: Plan::new(Strategy::Plain, "a test"),
            },
        });
        self.links.handle(SESSION, &SessionEvent::Heard(SocketId::MAIN, peer));
    }

    /// Waits until as many connections are open.
    async fn until_open(&self, count: usize) {
        let open = async {
            while self.links.endpoint.open_connections() != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, open).await.unwrap();
    }

    async fn link(&mut self) -> Result<Link, LinkError> {
        loop {
            match timeout(SOON, self.links.next_event()).await.unwrap() {
                LinkEvent::Established(link) => return Ok(link),
                LinkEvent::Ended { error, .. } => return Err(error),
                LinkEvent::Doubt(_) | LinkEvent::Relayed(..) => {}
            }
        }
    }
}

#[tokio::test]
async fn another_key_from_elsewhere_keeps_the_peer_from_nothing() {
    let [mut client, mut server, mut stranger] =
        [Side::new().await, Side::new().await, Side::new().await];
    server.begin(IceRole::Controlled, client.address, client.key);
    // It knows the token of the session.
    stranger.begin(IceRole::Controlling, server.address, server.key);
    stranger.until_open(1).await;
    stranger.until_open(0).await;
    client.begin(IceRole::Controlling, server.address, server.key);
    assert!(client.link().await.is_ok() && server.link().await.is_ok());
}

#[tokio::test]
async fn a_peer_with_another_key_is_refused_on_either_side() {
    let expected = Identity::generate().unwrap().public_key();
    for wrong in 0..2 {
        let mut sides = [Side::new().await, Side::new().await];
        let (addresses, mut keys) =
            (sides.each_ref().map(|it| it.address), sides.each_ref().map(|it| it.key));
        let shown = std::mem::replace(&mut keys[wrong], expected);
        sides[0].begin(IceRole::Controlling, addresses[1], keys[1]);
        sides[1].begin(IceRole::Controlled, addresses[0], keys[0]);
        let refusal = sides[1 - wrong].link().await.unwrap_err();
        assert_eq!(refusal, LinkError::WrongKey { expected, shown });
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_checks_and_makes_no_link_keeps_no_session() {
    let [mut own, silent] = [Side::new().await, Side::new().await];
    own.begin(IceRole::Controlled, silent.address, silent.key);
    let path = PathInfo {
        socket: SocketId::MAIN,
        remote: silent.address,
        kind: CandidateKind::Host,
        rtt: Duration::ZERO,
        after: Duration::ZERO,
        probes: 1,
    };
    own.links.handle(SESSION, &SessionEvent::Linked(path));
    let why = own.link().await.unwrap_err();
    assert_eq!(why, LinkError::Unreachable("the peer has made no link in time".to_owned()));
}

#[tokio::test]
async fn whoever_has_seen_the_proof_of_the_secret_and_goes_away_has_made_a_guess() {
    let [mut own, mut guesser] = [Side::with(Some("a b")).await, Side::with(Some("a c")).await];
    own.begin(IceRole::Controlled, guesser.address, guesser.key);
    guesser.begin(IceRole::Controlling, own.address, own.key);
    // It does not wait for its own refusal to be heard: nothing more comes from it.
    let heard = guesser.link().await.unwrap_err();
    assert_eq!(heard, LinkError::WrongSecret);
    drop(guesser);
    own.links.handle(SESSION, &SessionEvent::Ended(EndReason::PeerLeft, String::new()));
    assert_eq!(own.link().await.unwrap_err(), LinkError::WrongSecret);
}

#[tokio::test]
async fn a_session_that_is_begun_anew_is_not_ended_by_what_becomes_of_the_first_one() {
    let [mut client, mut server] = [Side::new().await, Side::new().await];
    for _ in 0..2 {
        server.begin(IceRole::Controlled, client.address, client.key);
        client.begin(IceRole::Controlling, server.address, server.key);
    }
    assert!(client.link().await.is_ok() && server.link().await.is_ok());
}
