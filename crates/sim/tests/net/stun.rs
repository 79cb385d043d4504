//! A STUN server in the network, asked through NATs of known behaviour.

use std::net::SocketAddr;

use holepunch_sim::net::TTL_DEFAULT;
use holepunch_sim::stun::answer;
use holepunch_wire::stun::{BindingOutcome, BindingResponse, TransactionId, binding_request};

use crate::common::{at, ms};
use crate::world::{SERVER, World, local};

const CHANGE_PORT: u8 = 2;
const CHANGE_IP: u8 = 4;

fn servers() -> [SocketAddr; 4] {
    ["192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478", "192.0.2.2:3479"].map(at)
}

fn request(flags: u8) -> Vec<u8> {
    let mut request = binding_request(TransactionId::from(1));
    if flags != 0 {
        request.extend_from_slice(&[0, 3, 0, 4, 0, 0, 0, flags]);
        request[3] = 8;
    }
    request
}

/// Asks through a NAT; what was answered and from where, if that got through.
fn ask(kind: &str, flags: u8) -> Option<(SocketAddr, BindingOutcome)> {
    let (mut world, site) = World::single(kind);
    let datagram = holepunch_sim::net::Datagram {
        from: local(&site),
        to: at(SERVER),
        ttl: TTL_DEFAULT,
        payload: request(flags),
    };
    world.net.send(site.host, datagram, world.now);
    let asked = world.run(ms(50)).remove(0);
    let answered = answer(&servers(), &asked.payload, asked.from, asked.to).unwrap();
    let (source, response) = (answered.from, answered.payload);
    world.net.send(world.server, asked.reply_from(source, response), world.now);
    let answered = world.run(ms(50)).pop()?;
    assert_eq!(answered.host, site.host);
    Some((answered.from, BindingResponse::parse(&answered.payload).unwrap().outcome))
}

#[test]
fn the_answer_names_the_external_endpoint() {
    let mapped = BindingOutcome::Mapped(at("198.18.0.1:5000"));
    assert_eq!(ask("eim-apdf", 0), Some((at(SERVER), mapped)));
}

#[test]
fn the_filtering_test_of_rfc_5780_tells_the_filters_apart() {
    for (kind, other_port, other_ip) in [
        ("full-cone", true, true),
        ("eim-adf", true, false),
        ("eim-apdf", false, false),
        ("hard-eif-random", true, true),
    ] {
        let from = |flags| ask(kind, flags).map(|(from, _)| from);
        assert_eq!(from(CHANGE_PORT), other_port.then(|| at("192.0.2.1:3479")), "{kind}");
        let both = from(CHANGE_IP | CHANGE_PORT);
        assert_eq!(both, other_ip.then(|| at("192.0.2.2:3479")), "{kind}");
    }
}

#[test]
fn a_change_that_the_server_cannot_serve_is_refused() {
    let client = at("198.18.0.1:5000");
    let two_ports = &servers()[..2];
    let refused = answer(two_ports, &request(CHANGE_IP), client, at(SERVER)).unwrap();
    let (from, response) = (refused.from, refused.payload);
    assert_eq!(from, at(SERVER));
    let response = BindingResponse::parse(&response).unwrap();
    assert_eq!(response.outcome, BindingOutcome::Refused { code: 420 });
    assert!(answer(two_ports, &request(CHANGE_PORT), client, at(SERVER)).is_some());
}

#[test]
fn what_is_no_request_or_not_for_the_server_gets_no_answer() {
    let client = at("198.18.0.1:5000");
    assert_eq!(answer(&servers(), b"hello", client, at(SERVER)), None);
    assert_eq!(answer(&servers(), &request(0), client, at("192.0.2.9:3478")), None);
    let response = answer(&servers(), &request(0), client, at(SERVER)).unwrap().payload;
    assert_eq!(answer(&servers(), &response, client, at(SERVER)), None);
}
