//! What a STUN server answers, and from which of its sockets (RFC 8489 §6.3.1, RFC 5780 §6.1).

use std::net::{IpAddr, SocketAddr};

use holepunch_wire::address::AddressKind;
use holepunch_wire::stun::proof::ProofKey;
use holepunch_wire::stun::{BindingRequest, BindingSuccess, ChangeRequest};

use super::budget::Allowance;

/// Where a datagram came from and where it arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) from: SocketAddr,
    /// The address that it was sent to.
    pub(super) at: SocketAddr,
    /// The index of the socket.
    pub(super) socket: usize,
}

/// The addresses of all sockets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) locals: &'a [SocketAddr],
    /// What each of them is called from outside, or nothing.
    pub(super) advertised: &'a [SocketAddr],
}

/// What proofs of address are made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prover<'a> {
    pub(super) key: &'a ProofKey,
    /// Until when a proof made now is good, in seconds of Unix time.
    pub(super) expires: u64,
}

/// An answer and the socket that sends it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) payload: Vec<u8>,
    /// The client's port that it goes to, at the address that the request came from.
    pub(super) port: u16,
    pub(super) socket: usize,
}

/// The answer to a datagram, if it deserves one, and as far as `allows` lets one go to that address. `locals` are the
/// addresses of all sockets; an unspecified one stands for the address that the datagram was sent to. A client is told
/// those of `advertised` in their places, where there are any.
pub(super) fn respond(
    datagram: &[u8],
    arrival: &Arrival,
    Own { locals, advertised }: Own<'_>,
    prover: Prover<'_>,
    allows: impl FnOnce(IpAddr) -> Option<Allowance>,
) -> Option<Answer> {
    let source = arrival.from;
    if source.port() == 0 || !AddressKind::of(source.ip()).is_reachable_unicast() {
        return None;
    }
    let request = BindingRequest::parse(datagram).ok()?;
    if allows(source.ip())? == Allowance::MappedAlone {
        return mapped_alone(&request, arrival);
    }
    let concrete: Vec<SocketAddr> =
        locals.iter().map(|local| seen_as(*local, arrival.at)).collect();
    let change = request.change();
    let via = socket_for(change, arrival, &concrete);
    let unknown = request.unknown_required(via.is_some());
    if !unknown.is_empty() {
        // To whoever has asked, from where it was asked.
        let payload = request.unknown_attributes(&unknown)?;
        return Some(Answer { payload, port: source.port(), socket: arrival.socket });
    }
    let via = via.unwrap_or(arrival.socket);
    let port = request.response_port().unwrap_or(source.port());
    let shown = |own: SocketAddr| {
        let index = concrete.iter().position(|it| *it == own);
        let outside = index.and_then(|index| advertised.get(index));
        outside.map_or(own, |outside| seen_as(*outside, own))
    };
    let prove = |nonce| prover.key.prove(nonce, source, prover.expires);
    let success = BindingSuccess {
        mapped: source,
        origin: shown(concrete.get(via).copied().unwrap_or(arrival.at)),
        other: other_address(arrival.at, &concrete).map(shown),
        proof: request.proof_nonce().map(prove),
    };
    let is_elsewhere = port != source.port() || via != arrival.socket;
    let payload =
        if is_elsewhere { request.success_elsewhere(&success) } else { request.success(&success) };
    Some(Answer { payload, port, socket: via })
}

/// The answer to an address that has had its share: the shortest, back to where the request came from, and none
/// to what would be answered in another way.
fn mapped_alone(request: &BindingRequest<'_>, arrival: &Arrival) -> Option<Answer> {
    let (port, socket) = (arrival.from.port(), arrival.socket);
    let is_elsewhere = request.change() != ChangeRequest::default()
        || request.response_port().is_some_and(|asked| asked != port);
    if is_elsewhere || !request.unknown_required(true).is_empty() {
        return None;
    }
    Some(Answer { payload: request.success_alone(arrival.from), port, socket })
}

fn seen_as(local: SocketAddr, at: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() { SocketAddr::new(at.ip(), local.port()) } else { local }
}

/// The socket that serves a CHANGE-REQUEST: what is to change comes from OTHER-ADDRESS (RFC 5780 §7.2).
/// `None` when no socket differs in just what is asked.
fn socket_for(change: ChangeRequest, arrival: &Arrival, locals: &[SocketAddr]) -> Option<usize> {
    if change == ChangeRequest::default() {
        return Some(arrival.socket);
    }
    let (at, other) = (arrival.at, other_address(arrival.at, locals)?);
    let ip = if change.ip { other.ip() } else { at.ip() };
    let port = if change.port { other.port() } else { at.port() };
    let differs = (ip != at.ip()) == change.ip && (port != at.port()) == change.port;
    locals.iter().position(|local| differs && *local == SocketAddr::new(ip, port))
}

/// The address for OTHER-ADDRESS: one that differs in IP and port, or else as far as there is one.
fn other_address(at: SocketAddr, locals: &[SocketAddr]) -> Option<SocketAddr> {
    let differs = |local: &&SocketAddr| **local != at && same_family(**local, at);
    let rank = |local: &&SocketAddr| (local.ip() != at.ip(), local.port() != at.port());
    locals.iter().filter(differs).max_by_key(rank).copied()
}

fn same_family(a: SocketAddr, b: SocketAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_wire::stun::proof::{ProofError, ProofNonce};
    use holepunch_wire::stun::{
        BindingOutcome, BindingResponse, RequestOptions, TransactionId, binding_request,
        binding_request_with,
    };

    fn arrival(from: &str) -> Arrival {
        let at = "192.0.2.1:3478".parse().unwrap();
        Arrival { from: from.parse().unwrap(), at, socket: 0 }
    }

    fn locals(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|local| local.parse().unwrap()).collect()
    }

    fn key() -> ProofKey {
        ProofKey::new([1; 32])
    }

    /// The answer to a datagram from `from`.
    fn ask(datagram: &[u8], from: &str, locals: &[SocketAddr]) -> Option<Answer> {
        ask_behind_nat(datagram, from, locals, &[])
    }

    /// The same where the sockets are called something else outside.
    fn ask_behind_nat(
        datagram: &[u8],
        from: &str,
        locals: &[SocketAddr],
        advertised: &[SocketAddr],
    ) -> Option<Answer> {
        let prover = Prover { key: &key(), expires: 100 };
        let own = Own { locals, advertised };
        respond(datagram, &arrival(from), own, prover, |_| Some(Allowance::Whole))
    }

    /// A request with CHANGE-REQUEST and these flags.
    fn change_request(flags: u8) -> Vec<u8> {
        let mut request = binding_request(TransactionId::from(1));
        request.extend_from_slice(&[0, 3, 0, 4, 0, 0, 0, flags]);
        request[3] = 8;
        request
    }

    #[test]
    fn a_request_is_answered_from_where_it_arrived() {
        let request = binding_request(TransactionId::from(1));
        let answer = ask(&request, "203.0.113.5:4000", &locals(&["0.0.0.0:3478"]));
        let answer = answer.unwrap();
        assert_eq!(answer.socket, 0);
        let read = BindingResponse::parse(&answer.payload).unwrap();
        assert_eq!(read.outcome, BindingOutcome::Mapped("203.0.113.5:4000".parse().unwrap()));
    }

    #[test]
    fn a_nonce_is_answered_with_a_proof_for_the_source_address() {
        let nonce = ProofNonce([7; 16]);
        let options = RequestOptions { nonce: Some(nonce), ..RequestOptions::default() };
        let request = binding_request_with(TransactionId::from(1), &options);
        let answer = ask(&request, "203.0.113.5:4000", &locals(&["0.0.0.0:3478"])).unwrap();
        let proof = BindingResponse::parse(&answer.payload).unwrap().proof.unwrap();
        let verify = |address: &str| key().verify(nonce, address.parse().unwrap(), &proof, 100);
        assert_eq!(verify("203.0.113.5:4000"), Ok(()));
        assert_eq!(verify("203.0.113.5:4001"), Err(ProofError::NotOurs));
        assert_eq!(proof.expires, 100);
    }

    #[test]
    fn sources_that_no_host_has_get_nothing() {
        let request = binding_request(TransactionId::from(1));
        let local = locals(&["0.0.0.0:3478"]);
        for from in
            ["203.0.113.5:0", "255.255.255.255:9", "224.0.0.1:9", "0.0.0.0:9", "[ff02::1]:9"]
        {
            assert_eq!(ask(&request, from, &local), None, "{from}");
        }
    }

    #[test]
    fn an_address_that_has_had_enough_answers_gets_none_and_what_is_no_request_costs_it_nothing() {
        let (local, key) = (locals(&["0.0.0.0:3478"]), key());
        let mut asked = Vec::new();
        let mut answers = |datagram: &[u8], allowed: bool| {
            let prover = Prover { key: &key, expires: 100 };
            let own = Own { locals: &local, advertised: &[] };
            respond(datagram, &arrival("203.0.113.5:4000"), own, prover, |to| {
                asked.push(to);
                allowed.then_some(Allowance::Whole)
            })
            .is_some()
        };
        let request = binding_request(TransactionId::from(1));
        assert!(answers(&request, true) && !answers(&request, false));
        assert!(!answers(b"P2P_PING_FROM_a_NUM_1", true));
        assert_eq!(asked, ["203.0.113.5".parse::<IpAddr>().unwrap(); 2]);
    }

    /// A request with RESPONSE-PORT.
    fn to_port(request: &[u8], port: u16) -> Vec<u8> {
        let [high, low] = port.to_be_bytes();
        let mut request = request.to_vec();
        request.extend_from_slice(&[0, 0x27, 0, 4, high, low, 0, 0]);
        request[3] += 8;
        request
    }

    #[test]
    fn an_address_that_has_had_its_share_is_told_its_address_alone_and_nothing_goes_elsewhere() {
        let local = locals(&["192.0.2.1:3478", "192.0.2.1:3479"]);
        let key = key();
        let ask = |datagram: &[u8]| {
            let prover = Prover { key: &key, expires: 100 };
            let from = arrival("203.0.113.5:4000");
            let own = Own { locals: &local, advertised: &[] };
            respond(datagram, &from, own, prover, |_| Some(Allowance::MappedAlone))
        };
        let plain = binding_request(TransactionId::from(1));
        let nonce = Some(ProofNonce([7; 16]));
        let options = RequestOptions { nonce, ..RequestOptions::default() };
        let with_nonce = binding_request_with(TransactionId::from(1), &options);
        for request in [&plain, &with_nonce, &to_port(&plain, 4000), &change_request(0)] {
            let answer = ask(request).unwrap();
            assert_eq!((answer.port, answer.socket, answer.payload.len()), (4000, 0, 32));
            let read = BindingResponse::parse(&answer.payload).unwrap();
            let mapped = "203.0.113.5:4000".parse().unwrap();
            assert_eq!(read.outcome, BindingOutcome::Mapped(mapped));
            assert_eq!((read.origin, read.other, read.proof), (None, None, None));
        }
        let mut unknown = change_request(0);
        unknown[20] = 0x7a;
        for request in [&change_request(2), &change_request(6), &to_port(&plain, 9), &unknown] {
            assert_eq!(ask(request), None);
        }
    }

    /// Whoever asks in somebody else's name can choose the port there, and where the answer comes from.
    #[test]
    fn an_answer_to_another_port_or_from_another_socket_is_short() {
        let local = locals(&["192.0.2.1:3478", "192.0.2.1:3479"]);
        let plain = binding_request(TransactionId::from(1));
        for (request, port, socket) in [
            (change_request(2), 4000, 1),
            (to_port(&plain, 9), 9, 0),
            (to_port(&change_request(2), 9), 9, 1),
        ] {
            let answer = ask(&request, "203.0.113.5:4000", &local).unwrap();
            assert_eq!((answer.port, answer.socket), (port, socket));
            assert_eq!(answer.payload.len(), 20 + 3 * 12);
            let read = BindingResponse::parse(&answer.payload).unwrap();
            let mapped = "203.0.113.5:4000".parse().unwrap();
            assert_eq!(read.outcome, BindingOutcome::Mapped(mapped));
            assert_eq!(read.other, Some(local[1]));
        }
        let refused = ask(&to_port(&change_request(4), 9), "203.0.113.5:4000", &local).unwrap();
        assert_eq!(
            (refused.port, refused.socket),
            (4000, 0),
            "an error goes back to where it was asked"
        );
    }

    #[test]
    fn a_change_of_port_is_served_by_a_second_port_and_a_change_of_ip_is_refused() {
        let local = locals(&["0.0.0.0:3478", "0.0.0.0:3479"]);
        let served = ask(&change_request(2), "203.0.113.5:4000", &local).unwrap();
        assert_eq!(served.socket, 1);
        let refused = ask(&change_request(6), "203.0.113.5:4000", &local).unwrap();
        assert_eq!(refused.socket, 0);
        let read = BindingResponse::parse(&refused.payload).unwrap();
        assert_eq!(read.outcome, BindingOutcome::Refused { code: 420 });
    }

    #[test]
    fn two_addresses_with_two_ports_serve_every_change() {
        let local =
            locals(&["192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478", "192.0.2.2:3479"]);
        let by = |flags| ask(&change_request(flags), "203.0.113.5:4000", &local);
        assert_eq!([0, 2, 4, 6].map(|flags| by(flags).unwrap().socket), [0, 1, 2, 3]);
        let other = other_address("192.0.2.1:3478".parse().unwrap(), &local);
        assert_eq!(other, Some("192.0.2.2:3479".parse().unwrap()));
    }

    #[test]
    fn with_one_address_there_is_no_other() {
        assert_eq!(other_address("192.0.2.1:1".parse().unwrap(), &locals(&["192.0.2.1:1"])), None);
    }

    #[test]
    fn behind_a_1_to_1_nat_a_client_is_told_the_addresses_outside() {
        let local = locals(&["0.0.0.0:3478", "192.0.2.2:3479"]);
        let outside = locals(&["198.51.100.1:3478", "198.51.100.2:13479"]);
        let read = |flags, advertised: &[SocketAddr]| {
            let request = change_request(flags);
            let answer = ask_behind_nat(&request, "203.0.113.5:4000", &local, advertised).unwrap();
            let read = BindingResponse::parse(&answer.payload).unwrap();
            (answer.socket, read.origin, read.other)
        };
        assert_eq!(read(0, &outside), (0, Some(outside[0]), Some(outside[1])));
        let inside: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        assert_eq!(read(0, &[]), (0, Some(inside), Some(local[1])));
        let open = locals(&["0.0.0.0:13478", "198.51.100.2:13479"]);
        let origin = Some("192.0.2.1:13478".parse().unwrap());
        assert_eq!(read(0, &open), (0, origin, Some(outside[1])), "an open one is as asked");
    }
}
