//! A STUN server for the simulated network, with the real codec: what it answers, and from which of
//! its addresses (RFC 8489 §6.3.1, RFC 5780 §6.1).

use std::net::SocketAddr;

use holepunch_wire::stun::{BindingRequest, BindingSuccess, ChangeRequest};

/// A datagram of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// From this one of its addresses.
    pub from: SocketAddr,
    /// To there.
    pub to: SocketAddr,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// The answer of a server with these addresses to a datagram that came from `from` to `to`, one of
/// them: the address that answers, and the response. `None` for what deserves no answer.
///
/// Two addresses with two ports each serve every CHANGE-REQUEST; a server that cannot serve one
/// refuses it with 420. OTHER-ADDRESS names an address that differs in IP and port, or else as far
/// as there is one.
#[must_use]
pub fn answer(
    servers: &[SocketAddr],
    request: &[u8],
    from: SocketAddr,
    to: SocketAddr,
) -> Option<Answer> {
    if !servers.contains(&to) {
        return None;
    }
    let request = BindingRequest::parse(request).ok()?;
    let served = source_for(request.change(), servers, to);
    let unknown = request.unknown_required(served.is_some());
    if !unknown.is_empty() {
        let payload = request.unknown_attributes(&unknown)?;
        return Some(Answer { from: to, to: from, payload });
    }
    let origin = served.unwrap_or(to);
    let other = other_address(servers, to);
    let port = request.response_port().unwrap_or(from.port());
    let success = BindingSuccess { mapped: from, origin, other, proof: None };
    let is_elsewhere = port != from.port() || origin != to;
    let payload =
        if is_elsewhere { request.success_elsewhere(&success) } else { request.success(&success) };
    Some(Answer { from: origin, to: SocketAddr::new(from.ip(), port), payload })
}

/// The address that serves a CHANGE-REQUEST: what is to change comes from OTHER-ADDRESS (RFC 5780
/// §7.2). `None` where there is no such address.
fn source_for(change: ChangeRequest, servers: &[SocketAddr], to: SocketAddr) -> Option<SocketAddr> {
    if change == ChangeRequest::default() {
        return Some(to);
    }
    let other = other_address(servers, to)?;
    let ip = if change.ip { other.ip() } else { to.ip() };
    let port = if change.port { other.port() } else { to.port() };
    let source = SocketAddr::new(ip, port);
    let differs = (ip != to.ip()) == change.ip && (port != to.port()) == change.port;
    (differs && servers.contains(&source)).then_some(source)
}

fn other_address(servers: &[SocketAddr], to: SocketAddr) -> Option<SocketAddr> {
    let differs = |server: &&SocketAddr| **server != to && server.is_ipv4() == to.is_ipv4();
    let rank = |server: &&SocketAddr| (server.ip() != to.ip(), server.port() != to.port());
    servers.iter().filter(differs).max_by_key(rank).copied()
}
