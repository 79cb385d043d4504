//! STUN Binding over UDP.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;

use common::stun::{
    BINDING_ERROR, BINDING_INDICATION, BINDING_REQUEST, BINDING_SUCCESS, CHANGE_REQUEST,
    CHANGED_ADDRESS, ERROR_CODE, FINGERPRINT, MAPPED_ADDRESS, OTHER_ADDRESS, RESPONSE_ORIGIN,
    SOFTWARE, SOURCE_ADDRESS, StunClient, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS, classic,
    fingerprint, message, modern, with_fingerprint,
};
use common::{Rendezvous, loopback};

const CHANGE_PORT: &[u8] = &[0, 0, 0, 2];
const CHANGE_IP: &[u8] = &[0, 0, 0, 4];
const CHANGE_BOTH: &[u8] = &[0, 0, 0, 6];

/// A server with STUN on this many ports of 127.0.0.1.
fn with_ports(count: usize) -> (Rendezvous, Vec<SocketAddr>) {
    let rendezvous = Rendezvous::with(|config| config.stun_listen = vec![loopback(); count]);
    let addresses = rendezvous.server.stun_addresses();
    assert_eq!(addresses.len(), count);
    (rendezvous, addresses)
}

fn binding(number: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    message(BINDING_REQUEST, modern(number), attributes)
}

#[tokio::test]
async fn a_binding_request_is_answered_with_the_address_it_came_from() {
    let (_rendezvous, server) = with_ports(1);
    for number in 1..4 {
        let client = StunClient::bind().await;
        let response = client.ask(server[0], &binding(number, &[])).await;
        assert_eq!((response.kind, response.id), (BINDING_SUCCESS, modern(number)));
        assert_eq!(response.from, server[0]);
        assert_eq!(response.kinds(), [XOR_MAPPED_ADDRESS, MAPPED_ADDRESS, SOFTWARE]);
        assert_eq!(response.xor_mapped(), client.local());
        assert_eq!(response.address(MAPPED_ADDRESS), client.local());
        assert!(response.value(SOFTWARE).starts_with(b"holepunch"));
    }
}

#[tokio::test]
async fn a_fingerprint_is_given_to_those_who_sent_one() {
    let (_rendezvous, server) = with_ports(1);
    let client = StunClient::bind().await;
    let response = client.ask(server[0], &with_fingerprint(binding(1, &[]))).await;
    assert_eq!(response.kinds().last(), Some(&FINGERPRINT));
    let (before, _) = response.bytes.split_at(response.bytes.len() - 8);
    assert_eq!(response.value(FINGERPRINT), fingerprint(before).to_be_bytes());
    let response = client.ask(server[0], &binding(2, &[])).await;
    assert!(!response.kinds().contains(&FINGERPRINT));
    let refused = client.ask(server[0], &with_fingerprint(binding(3, &[(0x7777, b"")]))).await;
    assert_eq!((refused.kind, refused.kinds().last()), (BINDING_ERROR, Some(&FINGERPRINT)));
}

#[tokio::test]
async fn unknown_attributes_that_must_be_understood_are_named_in_a_420() {
    let (_rendezvous, server) = with_ports(1);
    let client = StunClient::bind().await;
    let request = binding(1, &[(0x7777, b"abc"), (0x8999, b"optional"), (0x0666, b"")]);
    let response = client.ask(server[0], &request).await;
    assert_eq!((response.kind, response.id), (BINDING_ERROR, modern(1)));
    assert_eq!(response.value(ERROR_CODE)[..4], [0, 0, 4, 20]);
    assert_eq!(response.value(UNKNOWN_ATTRIBUTES), [0x77, 0x77, 0x06, 0x66]);
    assert!(!response.kinds().contains(&XOR_MAPPED_ADDRESS));
}

#[tokio::test]
async fn optional_and_credential_attributes_are_passed_over() {
    let (_rendezvous, server) = with_ports(1);
    let client = StunClient::bind().await;
    let attributes: [(u16, &[u8]); 3] = [(0x0006, b"user"), (0x8022, b"client"), (0xc001, b"x")];
    let response = client.ask(server[0], &binding(1, &attributes)).await;
    assert_eq!(response.kind, BINDING_SUCCESS);
    assert_eq!(response.xor_mapped(), client.local());
}

#[tokio::test]
async fn a_change_of_port_is_answered_from_the_second_port() {
    let (_rendezvous, server) = with_ports(2);
    let client = StunClient::bind().await;
    for (asked, other) in [(server[0], server[1]), (server[1], server[0])] {
        let plain = client.ask(asked, &binding(1, &[])).await;
        assert_eq!(plain.from, asked);
        assert_eq!(plain.address(RESPONSE_ORIGIN), asked);
        assert_eq!(plain.address(OTHER_ADDRESS), other);
        let changed = client.ask(asked, &binding(2, &[(CHANGE_REQUEST, CHANGE_PORT)])).await;
        assert_eq!((changed.kind, changed.from), (BINDING_SUCCESS, other));
        assert_eq!(changed.address(RESPONSE_ORIGIN), other);
        assert_eq!(changed.address(OTHER_ADDRESS), other);
        assert_eq!(changed.xor_mapped(), client.local());
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_served_is_refused_from_where_it_was_asked() {
    for (ports, change) in [(1, CHANGE_PORT), (1, CHANGE_IP), (2, CHANGE_IP), (2, CHANGE_BOTH)] {
        let (_rendezvous, server) = with_ports(ports);
        let client = StunClient::bind().await;
        let response = client.ask(server[0], &binding(1, &[(CHANGE_REQUEST, change)])).await;
        assert_eq!((response.kind, response.from), (BINDING_ERROR, server[0]), "{change:?}");
        assert_eq!(response.value(ERROR_CODE)[..4], [0, 0, 4, 20]);
        assert_eq!(response.value(UNKNOWN_ATTRIBUTES), CHANGE_REQUEST.to_be_bytes());
    }
}

#[tokio::test]
async fn two_addresses_with_two_ports_each_serve_every_change() {
    let all = [(2, 13_478), (2, 13_479), (3, 13_478), (3, 13_479)]
        .map(|(last, port)| common::own_address(last, port));
    let _rendezvous = Rendezvous::with(|config| config.stun_listen = all.to_vec());
    let client = StunClient::bind().await;
    for (change, from) in
        [(CHANGE_PORT, all[1]), (CHANGE_IP, all[2]), (CHANGE_BOTH, all[3]), (&[0; 4], all[0])]
    {
        let response = client.ask(all[0], &binding(1, &[(CHANGE_REQUEST, change)])).await;
        assert_eq!((response.kind, response.from), (BINDING_SUCCESS, from), "{change:?}");
        assert_eq!(response.address(RESPONSE_ORIGIN), from);
        assert_eq!(response.address(OTHER_ADDRESS), all[3]);
    }
}

#[tokio::test]
async fn a_classic_request_is_answered_in_the_classic_form() {
    let (_rendezvous, server) = with_ports(2);
    let client = StunClient::bind().await;
    for attributes in [&[][..], &[(CHANGE_REQUEST, CHANGE_BOTH)][..], &[(0x7777, &b"abcd"[..])][..]]
    {
        let request = message(BINDING_REQUEST, classic(9), attributes);
        let response = client.ask(server[0], &request).await;
        assert_eq!((response.kind, response.id), (BINDING_SUCCESS, classic(9)));
        assert_eq!(response.from, server[0]);
        assert_eq!(response.kinds(), [MAPPED_ADDRESS, SOURCE_ADDRESS, CHANGED_ADDRESS]);
        assert_eq!(response.address(MAPPED_ADDRESS), client.local());
        assert_eq!(response.address(SOURCE_ADDRESS), server[0]);
        assert_eq!(response.address(CHANGED_ADDRESS), server[1]);
    }
}

#[tokio::test]
async fn what_is_not_a_binding_request_gets_no_answer() {
    let (_rendezvous, server) = with_ports(1);
    let client = StunClient::bind().await;
    let request = binding(1, &[]);
    let mut longer_than_it_says = request.clone();
    longer_than_it_says.extend_from_slice(&[0; 4]);
    let mut shorter_than_it_says = request.clone();
    shorter_than_it_says[3] = 8;
    let mut attribute_beyond_the_end = binding(1, &[(0x8022, b"1234")]);
    attribute_beyond_the_end[23] = 200;
    let mut wrong_fingerprint = with_fingerprint(request.clone());
    wrong_fingerprint[27] ^= 1;
    for datagram in [
        Vec::new(),
        vec![0],
        vec![0; 19],
        vec![0xff; 20],
        vec![0x5a; 1400],
        b"P2P_PING_FROM_a_NUM_1".to_vec(),
        request[..19].to_vec(),
        longer_than_it_says,
        shorter_than_it_says,
        attribute_beyond_the_end,
        wrong_fingerprint,
        message(BINDING_INDICATION, modern(1), &[]),
        message(BINDING_SUCCESS, modern(1), &[]),
        message(BINDING_ERROR, modern(1), &[]),
        message(0x0003, modern(1), &[]),
        message(BINDING_INDICATION, classic(1), &[]),
        message(BINDING_SUCCESS, classic(1), &[]),
        message(0x0002, classic(1), &[]),
    ] {
        client.send(server[0], &datagram).await;
        let response = client.ask(server[0], &binding(2, &[])).await;
        assert_eq!((response.kind, response.id), (BINDING_SUCCESS, modern(2)), "{datagram:02x?}");
    }
}

#[tokio::test]
async fn an_answer_is_at_most_a_little_longer_than_its_question() {
    let (_rendezvous, server) = with_ports(2);
    let client = StunClient::bind().await;
    let unknown: Vec<(u16, &[u8])> = (0x7000..0x7100).map(|kind| (kind, &b""[..])).collect();
    for request in
        [binding(1, &[]), message(BINDING_REQUEST, classic(1), &[]), binding(1, &unknown)]
    {
        let response = client.ask(server[0], &request).await;
        assert!(response.bytes.len() <= request.len() + 80, "{}", response.bytes.len());
    }
}

#[tokio::test]
async fn a_wildcard_address_answers_both_families_from_where_it_was_asked() {
    let rendezvous =
        Rendezvous::with(|config| config.stun_listen = vec!["[::]:0".parse().unwrap()]);
    let port = rendezvous.server.stun_addresses()[0].port();
    let v6 = tokio::net::UdpSocket::bind("[::1]:0").await.unwrap();
    for (client, server) in [
        (StunClient::bind().await, SocketAddr::from(([127, 0, 0, 1], port))),
        (StunClient::bind().await, SocketAddr::from(([127, 0, 0, 3], port))),
        (StunClient { udp: v6 }, SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))),
    ] {
        let response = client.ask(server, &binding(1, &[])).await;
        assert_eq!(response.from, server);
        assert_eq!(response.xor_mapped(), client.local());
        assert_eq!(response.address(MAPPED_ADDRESS), client.local());
    }
}

#[tokio::test]
async fn without_a_stun_address_there_is_no_stun() {
    let rendezvous = Rendezvous::start();
    assert!(rendezvous.server.stun_addresses().is_empty());
}
