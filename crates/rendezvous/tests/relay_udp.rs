//! The relay's datagrams over real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;

use common::relay::{Linked, Socket, receive, send};
use common::{Rendezvous, loopback, within};
use holepunch_rendezvous::{AdminConfig, RelayConfig, RelayDrop, RelayLimits, RelayServer};
use holepunch_wire::relay::udp::{
    Bind, Channel, FromRelay, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_SAFE, Ping, Reason, ToRelay,
};
use holepunch_wire::relay::{RelayFrame, RelayKey, datagrams};
use holepunch_wire::session::{RelayToken, SessionId};
use holepunch_wire::stun::proof::{AddressProof, ProofNonce};
use tokio::net::UdpSocket;

const NONCE: ProofNonce = ProofNonce([3; 16]);

/// A rendezvous with STUN, and the relay's datagrams, at one port.
fn with_udp(limits: RelayLimits) -> (Rendezvous, SocketAddr) {
    let rendezvous = Rendezvous::with(|config| {
        config.stun_listen = vec![loopback()];
        config.relay = Some(limits);
    });
    let address = rendezvous.server.stun_addresses()[0];
    (rendezvous, address)
}

/// A socket that speaks to a relay.
struct Client {
    socket: UdpSocket,
    relay: SocketAddr,
}

impl Client {
    async fn new(relay: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind(loopback()).await.unwrap(), relay }
    }

    async fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.relay).await.unwrap();
    }

    async fn receive(&self) -> Vec<u8> {
        let mut bytes = vec![0; 2048];
        let (length, from) = within("a datagram", self.socket.recv_from(&mut bytes)).await.unwrap();
        assert_eq!(from, self.relay);
        bytes.truncate(length);
        bytes
    }

    /// The answer to a question; no longer than that.
    async fn ask(&self, question: &[u8]) -> Vec<u8> {
        self.send(question).await;
        let answer = self.receive().await;
        assert!(answer.len() <= question.len(), "{} for {}", answer.len(), question.len());
        answer
    }

    async fn cookie(&self) -> AddressProof {
        let answer = self.ask(&ToRelay::Hello(NONCE).to_bytes()).await;
        match FromRelay::parse(&answer) {
            Some(FromRelay::Challenge(echo, cookie)) if echo == FromRelay::echo_of(NONCE) => cookie,
            other => panic!("{other:?}"),
        }
    }

    async fn bind(&self, session: &str, token: &str) -> Result<Channel, Reason> {
        let bind = bind(self.cookie().await, session, token);
        let answer = self.ask(&ToRelay::Bind(bind.clone()).to_bytes()).await;
        match FromRelay::parse(&answer) {
            Some(FromRelay::Bound(channel, echo)) if echo == bind.echo() => Ok(channel),
            Some(FromRelay::Refused(why, echo)) if echo == bind.echo() => Err(why),
            other => panic!("{other:?}"),
        }
    }
}

fn bind(cookie: AddressProof, session: &str, token: &str) -> Bind {
    let session = SessionId(u64::from_str_radix(session, 16).unwrap());
    let token = RelayToken::try_from(token.to_owned()).unwrap();
    Bind::new(NONCE, cookie, session, &token)
}

/// One worker's end of a session by UDP.
struct End {
    client: Client,
    channel: Channel,
}

impl End {
    async fn open(relay: SocketAddr, linked: &Linked, end: usize) -> Self {
        let client = Client::new(relay).await;
        let channel = client.bind(&linked.session, &linked.tokens[end]).await.unwrap();
        Self { client, channel }
    }

    async fn send(&self, payload: &[u8]) {
        self.client.send(&ToRelay::Data(self.channel, payload).to_bytes()).await;
    }

    async fn receive(&self) -> Vec<u8> {
        let bytes = self.client.receive().await;
        match FromRelay::parse(&bytes) {
            Some(FromRelay::Data(channel, payload)) if channel == self.channel => payload.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Its worker has heard datagrams of that length.
    async fn prove(&self, payload_bytes: usize) {
        let proved = u16::try_from(payload_bytes).unwrap();
        let padding = vec![0; Ping::padding_for(payload_bytes)];
        let ping = Ping { channel: self.channel, number: 7, proved, padding: &padding };
        let answer = self.client.ask(&ToRelay::Ping(ping).to_bytes()).await;
        assert_eq!(FromRelay::parse(&answer), Some(FromRelay::Pong(ping)));
    }
}

fn frame(all: &[&[u8]]) -> Vec<u8> {
    let mut frame = RelayFrame::default();
    assert!(all.iter().all(|datagram| frame.push(datagram)));
    frame.into_bytes()
}

async fn receive_one(socket: &mut Socket) -> Vec<u8> {
    let frame = receive(socket).await;
    let all: Vec<&[u8]> = datagrams(&frame).collect();
    assert_eq!(all.len(), 1);
    all[0].to_vec()
}

fn drops(rendezvous: &Rendezvous, why: RelayDrop) -> u64 {
    let all = rendezvous.server.relay_drops();
    all.into_iter().find(|(it, _)| *it == why).unwrap().1
}

#[tokio::test]
async fn datagrams_go_both_ways_unchanged() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [first, second] = [End::open(relay, &linked, 0).await, End::open(relay, &linked, 1).await];
    assert_ne!(first.channel, second.channel);
    first.send(b"early").await;
    assert_eq!(second.receive().await, b"early");
    let payload: Vec<u8> = (0..=255).cycle().take(PAYLOAD_BYTES_MAX).collect();
    for length in [1, 2, 500, PAYLOAD_BYTES_SAFE, PAYLOAD_BYTES_MAX] {
        for (from, to) in [(&first, &second), (&second, &first)] {
            from.send(&payload[..length]).await;
            assert_eq!(to.receive().await, payload[..length]);
        }
    }
    for number in 0..50_u8 {
        first.send(&[number; 1000]).await;
    }
    for number in 0..50_u8 {
        assert_eq!(second.receive().await, [number; 1000]);
    }
}

#[tokio::test]
async fn one_end_by_udp_and_the_other_by_websocket() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let (mut websocket, udp) = (linked.open(0).await, End::open(relay, &linked, 1).await);
    udp.send(b"there").await;
    assert_eq!(receive_one(&mut websocket).await, b"there");
    send(&mut websocket, frame(&[b"and", b"back", &[9; 1000], &[8; 1000], b"x"])).await;
    for expected in [&b"and"[..], b"back", &[9; 1000], &[8; 1000], b"x"] {
        assert_eq!(udp.receive().await, expected);
    }
}

#[tokio::test]
async fn a_worker_is_sent_to_by_the_way_that_it_spoke_by_last() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let first = End::open(relay, &linked, 0).await;
    let (mut websocket, udp) = (linked.open(1).await, End::open(relay, &linked, 1).await);
    first.send(b"1").await;
    assert_eq!(receive_one(&mut websocket).await, b"1", "it has not spoken by UDP");
    udp.send(b"2").await;
    assert_eq!(first.receive().await, b"2");
    first.send(b"3").await;
    assert_eq!(udp.receive().await, b"3");
    send(&mut websocket, frame(&[b"4"])).await;
    assert_eq!(first.receive().await, b"4");
    first.send(b"5").await;
    assert_eq!(receive_one(&mut websocket).await, b"5", "its UDP may have gone silent");
}

#[tokio::test]
async fn what_is_longer_than_is_proved_goes_by_websocket() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let first = End::open(relay, &linked, 0).await;
    let (mut websocket, udp) = (linked.open(1).await, End::open(relay, &linked, 1).await);
    udp.send(b"x").await;
    assert_eq!(first.receive().await, b"x");
    let long = [5; PAYLOAD_BYTES_MAX];
    first.send(&long[..PAYLOAD_BYTES_SAFE]).await;
    assert_eq!(udp.receive().await, long[..PAYLOAD_BYTES_SAFE]);
    first.send(&long).await;
    assert_eq!(receive_one(&mut websocket).await, long);
    udp.prove(PAYLOAD_BYTES_MAX).await;
    first.send(&long).await;
    assert_eq!(udp.receive().await, long);
}

#[tokio::test]
async fn who_has_no_token_or_no_address_of_its_own_gets_no_channel_and_no_answer() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let other = Linked::new(rendezvous.address(), "b").await;
    let (client, elsewhere) = (Client::new(relay).await, Client::new(relay).await);
    let (cookie, foreign) = (client.cookie().await, elsewhere.cookie().await);
    let wrong = "0".repeat(32);
    let bind = |cookie, token: &str| ToRelay::Bind(bind(cookie, &linked.session, token)).to_bytes();
    client.send(&bind(cookie, &wrong)).await;
    client.send(&bind(cookie, &other.tokens[0])).await;
    client.send(&bind(foreign, &linked.tokens[0])).await;
    let good = bind(cookie, &linked.tokens[0]);
    client.send(&good[..good.len() - 1]).await;
    client.send(&[0x80, 0, 0, 0]).await;
    let answer = client.ask(&good).await;
    assert!(matches!(FromRelay::parse(&answer), Some(FromRelay::Bound(..))), "the first answer");
    let counted = [RelayDrop::Token, RelayDrop::Unproved, RelayDrop::Malformed]
        .map(|why| drops(&rendezvous, why));
    assert_eq!(counted, [2, 1, 2]);
    let again = client.ask(&good).await;
    assert_eq!(again, answer, "a lost answer is given again");
}

#[tokio::test]
async fn nobody_sends_by_the_channel_of_somebody_else() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [first, second] = [End::open(relay, &linked, 0).await, End::open(relay, &linked, 1).await];
    let stranger = Client::new(relay).await;
    for channel in [first.channel, second.channel, Channel(0x00ff_ffff)] {
        let answer = stranger.ask(&ToRelay::Data(channel, b"evil").to_bytes()).await;
        assert_eq!(FromRelay::parse(&answer), Some(FromRelay::Unknown(channel)));
        let ping = Ping { channel, number: 1, proved: 0, padding: &[] };
        let answer = stranger.ask(&ToRelay::Ping(ping).to_bytes()).await;
        assert_eq!(FromRelay::parse(&answer), Some(FromRelay::Unknown(channel)));
    }
    first.send(b"good").await;
    assert_eq!(second.receive().await, b"good", "the first that comes");
    assert_eq!(drops(&rendezvous, RelayDrop::Unknown), 6);
}

#[tokio::test]
async fn a_worker_whose_address_has_changed_has_a_new_channel_in_place_of_the_old_one() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [before, peer] = [End::open(relay, &linked, 0).await, End::open(relay, &linked, 1).await];
    let after = End::open(relay, &linked, 0).await;
    after.send(b"here").await;
    assert_eq!(peer.receive().await, b"here");
    peer.send(b"found").await;
    assert_eq!(after.receive().await, b"found");
    let answer = before.client.ask(&ToRelay::Data(before.channel, b"x").to_bytes()).await;
    assert_eq!(FromRelay::parse(&answer), Some(FromRelay::Unknown(before.channel)));
}

#[tokio::test]
async fn a_session_that_ends_closes_its_channels_and_lets_nobody_in_again() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let mut linked = Linked::new(rendezvous.address(), "a").await;
    let end = End::open(relay, &linked, 0).await;
    linked.leave().await;
    let closed = end.client.receive().await;
    match FromRelay::parse(&closed) {
        Some(FromRelay::Closed(channel, _, Reason::Ended)) => assert_eq!(channel, end.channel),
        other => panic!("{other:?}"),
    }
    let again = end.client.bind(&linked.session, &linked.tokens[0]).await;
    assert_eq!(again, Err(Reason::Ended));
}

#[tokio::test]
async fn a_worker_may_close_its_channel_and_a_stranger_may_not() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let client = Client::new(relay).await;
    let bind = bind(client.cookie().await, &linked.session, &linked.tokens[0]);
    let echo = bind.echo();
    let answer = client.ask(&ToRelay::Bind(bind).to_bytes()).await;
    let Some(FromRelay::Bound(channel, _)) = FromRelay::parse(&answer) else { panic!("bound") };
    Client::new(relay).await.send(&ToRelay::Close(channel, echo).to_bytes()).await;
    client.send(&ToRelay::Close(channel, [0; 8]).to_bytes()).await;
    let end = End { client, channel };
    end.prove(PAYLOAD_BYTES_SAFE).await;
    end.client.send(&ToRelay::Close(channel, echo).to_bytes()).await;
    let answer = end.client.ask(&ToRelay::Data(channel, b"x").to_bytes()).await;
    assert_eq!(FromRelay::parse(&answer), Some(FromRelay::Unknown(channel)));
}

#[tokio::test]
async fn a_quota_counts_for_both_ways_together_and_closes_the_channel() {
    let limits = RelayLimits { quota: Some(10_000), ..RelayLimits::default() };
    let (rendezvous, relay) = with_udp(limits);
    let linked = Linked::new(rendezvous.address(), "a").await;
    let mut websocket = linked.open(0).await;
    let udp = End::open(relay, &linked, 1).await;
    send(&mut websocket, frame(&[&[1; 1000][..]; 8])).await;
    for _ in 0..8 {
        assert_eq!(udp.receive().await, [1; 1000]);
    }
    udp.send(&[2; 1000]).await;
    udp.send(&[3; 1000]).await;
    let closed = udp.client.receive().await;
    assert!(matches!(FromRelay::parse(&closed), Some(FromRelay::Closed(_, _, Reason::Quota))));
    let again = udp.client.bind(&linked.session, &linked.tokens[1]).await;
    assert_eq!(again, Err(Reason::Quota));
    assert_eq!(drops(&rendezvous, RelayDrop::OverQuota), 1);
}

/// Who has a channel would else have the relay send for nothing.
#[tokio::test]
async fn a_ping_costs_what_a_datagram_costs_and_is_no_longer() {
    let limits = RelayLimits { quota: Some(3_000), ..RelayLimits::default() };
    let (rendezvous, relay) = with_udp(limits);
    let linked = Linked::new(rendezvous.address(), "a").await;
    let end = End::open(relay, &linked, 0).await;
    let too_long = vec![0; Ping::padding_for(PAYLOAD_BYTES_MAX) + 1];
    let ping =
        |padding| ToRelay::Ping(Ping { channel: end.channel, number: 1, proved: 0, padding });
    end.client.send(&ping(&too_long).to_bytes()).await;
    end.prove(PAYLOAD_BYTES_MAX).await;
    end.prove(PAYLOAD_BYTES_MAX).await;
    end.client.send(&ping(&too_long[1..]).to_bytes()).await;
    let closed = end.client.receive().await;
    assert!(matches!(FromRelay::parse(&closed), Some(FromRelay::Closed(_, _, Reason::Quota))));
    assert_eq!(drops(&rendezvous, RelayDrop::Malformed), 1);
}

#[tokio::test]
async fn what_is_over_a_rate_is_dropped_and_counted() {
    let limits = RelayLimits { rate: Some(10_000), ..RelayLimits::default() };
    let (rendezvous, relay) = with_udp(limits);
    let linked = Linked::new(rendezvous.address(), "a").await;
    let [first, second] = [End::open(relay, &linked, 0).await, End::open(relay, &linked, 1).await];
    for number in 0..20_u8 {
        first.send(&[number; 1000]).await;
    }
    assert_eq!(second.receive().await, [0; 1000]);
    let dropped = async {
        while drops(&rendezvous, RelayDrop::OverRate) < 15 {
            tokio::task::yield_now().await;
        }
    };
    within("drops", dropped).await;
}

#[tokio::test]
async fn there_are_so_many_channels_beside_as_many_websockets() {
    let limits = RelayLimits { connections_max: 2, ..RelayLimits::default() };
    let (rendezvous, relay) = with_udp(limits);
    let linked = Linked::new(rendezvous.address(), "a").await;
    let other = Linked::new(rendezvous.address(), "b").await;
    let _websockets = linked.open_both().await;
    let _ends = [End::open(relay, &linked, 0).await, End::open(relay, &linked, 1).await];
    let refused = Client::new(relay).await.bind(&other.session, &other.tokens[0]).await;
    assert_eq!(refused, Err(Reason::Full));
}

#[tokio::test]
async fn a_flood_of_nonsense_keeps_nobody_from_a_channel() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    let stranger = Client::new(relay).await;
    let forged = [&[0x83][..], &[7; 71]].concat();
    for number in 0..2_000_u32 {
        stranger.send(&forged).await;
        stranger.send(&[&[0x80][..], &number.to_be_bytes()].concat()).await;
        stranger.send(&[&[0xbf][..], &number.to_be_bytes()].concat()).await;
    }
    let mut channel = None;
    while channel.is_none() {
        // The kernel may have dropped what came in the flood.
        let client = Client::new(relay).await;
        client.send(&ToRelay::Hello(NONCE).to_bytes()).await;
        let answered =
            tokio::time::timeout(std::time::Duration::from_millis(500), client.receive());
        if answered.await.is_ok() {
            channel = Some(client.bind(&linked.session, &linked.tokens[0]).await.unwrap());
        }
    }
    assert!(drops(&rendezvous, RelayDrop::Unproved) > 0);
}

#[tokio::test]
async fn an_offer_names_the_address_and_none_where_there_is_no_udp() {
    let (rendezvous, relay) = with_udp(RelayLimits::default());
    let linked = Linked::new(rendezvous.address(), "a").await;
    assert_eq!(linked.relay_udp, [relay]);
    let without = Rendezvous::start();
    assert!(Linked::new(without.address(), "a").await.relay_udp.is_empty());
}

#[tokio::test]
async fn a_relay_alone_serves_datagrams_too() {
    let key = RelayKey::new([1; 32]);
    let server = RelayServer::bind(RelayConfig {
        tls: None,
        listen: loopback(),
        udp_listen: vec![loopback()],
        udp_is_optional: false,
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        admin: AdminConfig::default(),
        open_files_max: None,
        limits: RelayLimits::default(),
        key: key.clone(),
    })
    .unwrap();
    let relay = server.udp_addresses()[0];
    let until = u64::from(u32::MAX);
    let [first, second] = [0, 1].map(|side| key.token(SessionId(7), side, until).reveal());
    let (one, two) = (Client::new(relay).await, Client::new(relay).await);
    let own = one.bind("7", &first).await.unwrap();
    let channel = two.bind("7", &second).await.unwrap();
    two.send(&ToRelay::Data(channel, b"x").to_bytes()).await;
    let bytes = one.receive().await;
    assert_eq!(FromRelay::parse(&bytes), Some(FromRelay::Data(own, b"x")));
    server.shutdown().await;
    let closed = one.receive().await;
    assert!(matches!(
        FromRelay::parse(&closed),
        Some(FromRelay::Closed(_, _, Reason::ShuttingDown))
    ));
}
