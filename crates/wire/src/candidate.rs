//! Candidates: addresses at which a worker may be reached (RFC 8445 §5.1).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::address::AddressKind;

/// Most candidates of one worker.
pub const CANDIDATES_MAX: usize = 16;

/// How a candidate was learnt. The order is that of preference, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKind {
    /// An address of an interface.
    Host,
    /// A port that the router opened on request (UPnP, NAT-PMP, PCP).
    PortMapped,
    /// The source of an authenticated check that nobody had advertised.
    PeerReflexive,
    /// What a STUN server saw.
    ServerReflexive,
    /// A port that the NAT is expected to give to the next mapping.
    Predicted,
    /// A word of a later version.
    #[serde(other)]
    Other,
}

impl CandidateKind {
    /// The type preference (RFC 8445 §5.1.2.2), 0 to 126.
    #[must_use]
    pub fn type_preference(self) -> u8 {
        match self {
            Self::Host => 126,
            Self::PortMapped => 120,
            Self::PeerReflexive => 110,
            Self::ServerReflexive => 100,
            Self::Predicted => 90,
            Self::Other => 0,
        }
    }

    /// The priority (RFC 8445 §5.1.2.1) for component 1. IPv6 comes before IPv4 of the same type.
    #[must_use]
    pub fn priority(self, ip: IpAddr) -> u32 {
        let local_preference = if ip.is_ipv6() { 65_535_u32 } else { 65_534 };
        (u32::from(self.type_preference()) << 24) | (local_preference << 8) | 255
    }
}

/// An address at which a worker may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    /// How it was learnt.
    pub kind: CandidateKind,
    /// Its IP address.
    ip: IpAddr,
    /// Its UDP port.
    port: u16,
    /// The worker's own preference (RFC 8445 §5.1.2), the higher the better.
    pub priority: u32,
}

impl Candidate {
    /// A candidate with the priority of its kind. IPv4-mapped IPv6 addresses become IPv4.
    #[must_use]
    pub fn new(kind: CandidateKind, address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        Self { kind, ip, port: address.port(), priority: kind.priority(ip) }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip.to_canonical(), self.port)
    }

    /// Whether one single host could answer there.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.port != 0 && AddressKind::of(self.ip).is_reachable_unicast()
    }
}

/// The usable ones of `candidates`, each address once, at most [`CANDIDATES_MAX`], in their order.
#[must_use]
pub fn bounded(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let is_new = kept.iter().all(|other| other.address() != candidate.address());
        if is_new && candidate.is_usable() && kept.len() < CANDIDATES_MAX {
            kept.push(candidate);
        }
    }
    kept
}

/// The address of a set at which the worker says that the peer's NAT is reached: the one that
/// [`AddressProof`](crate::session::AddressProof) is about.
#[must_use]
pub fn reflexive(candidates: &[Candidate]) -> Option<&Candidate> {
    candidates.iter().find(|it| {
        it.kind == CandidateKind::ServerReflexive && it.address().is_ipv4() && it.is_usable()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_follow_the_kinds_and_ipv6_comes_first() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let kinds = [
            CandidateKind::Host,
            CandidateKind::PortMapped,
            CandidateKind::PeerReflexive,
            CandidateKind::ServerReflexive,
            CandidateKind::Predicted,
        ];
        assert!(kinds.windows(2).all(|two| two[0].priority(v4) > two[1].priority(v6)));
        assert!(CandidateKind::Host.priority(v6) > CandidateKind::Host.priority(v4));
    }

    #[test]
    fn a_candidate_survives_the_wire() {
        let candidate = Candidate::new(CandidateKind::Host, "192.168.1.2:8081".parse().unwrap());
        let text = serde_json::to_string(&candidate).unwrap();
        assert!(text.starts_with(r#"{"kind":"host","ip":"192.168.1.2","port":8081,"priority":"#));
        assert_eq!(serde_json::from_str::<Candidate>(&text).unwrap(), candidate);
    }

    #[test]
    fn what_cannot_be_a_host_and_what_comes_twice_is_left_out() {
        let candidate = |text: &str| Candidate::new(CandidateKind::Host, text.parse().unwrap());
        let list = ["10.0.0.1:1", "10.0.0.1:1", "224.0.0.1:1", "10.0.0.1:0", "[::ffff:10.0.0.1]:1"];
        assert_eq!(bounded(list.map(candidate).to_vec()), [candidate("10.0.0.1:1")]);
        let many = (1..100).map(|port| candidate(&format!("10.0.0.1:{port}"))).collect();
        assert_eq!(bounded(many).len(), CANDIDATES_MAX);
    }
}
