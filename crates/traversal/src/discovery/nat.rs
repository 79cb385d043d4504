//! What STUN answers from several servers say of the NAT in between.

use std::fmt;
use std::net::SocketAddr;

/// The mapping behaviour (RFC 4787 §4.1), as far as plain Binding answers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatMapping {
    /// The mapped address is the local one: there is no translation. A firewall may stand there all
    /// the same; STUN cannot see it.
    None,
    /// Servers at two IP addresses saw the same mapped address.
    EndpointIndependent,
    /// Two servers saw different mapped addresses: a hard NAT.
    EndpointDependent,
    /// There is a NAT, but too few servers answered to tell: two ports of one server say nothing
    /// about another address.
    Unknown,
}

/// One server's answer: the server, what it saw, and the local address towards it if known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) server: SocketAddr,
    pub(crate) mapped: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
}

impl NatMapping {
    /// What the answers so far say together.
    pub(crate) fn of(answers: &[Answer]) -> Self {
        let Some(first) = answers.first() else { return Self::Unknown };
        if answers.iter().all(|answer| answer.local == Some(answer.mapped)) {
            return Self::None;
        }
        if answers.iter().any(|answer| answer.mapped != first.mapped) {
            return Self::EndpointDependent;
        }
        if answers.iter().any(|answer| answer.server.ip() != first.server.ip()) {
            return Self::EndpointIndependent;
        }
        Self::Unknown
    }
}

impl fmt::Display for NatMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no translation",
            Self::EndpointIndependent => "endpoint-independent mapping",
            Self::EndpointDependent => "endpoint-dependent mapping (symmetric)",
            Self::Unknown => "mapping behaviour not known yet",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answers: &[(&str, &str)]) -> NatMapping {
        let answers: Vec<Answer> = answers
            .iter()
            .map(|(server, mapped)| Answer {
                server: server.parse().unwrap(),
                mapped: mapped.parse().unwrap(),
                local: Some("10.0.0.1:8081".parse().unwrap()),
            })
            .collect();
        NatMapping::of(&answers)
    }

    #[test]
    fn two_ports_of_one_server_do_not_prove_endpoint_independence() {
        let nat = of(&[("192.0.2.1:1", "203.0.113.1:5"), ("192.0.2.1:2", "203.0.113.1:5")]);
        assert_eq!(nat, NatMapping::Unknown);
    }

    #[test]
    fn two_servers_tell_the_mapping_behaviour() {
        let same = of(&[("192.0.2.1:1", "203.0.113.1:5"), ("192.0.2.2:1", "203.0.113.1:5")]);
        assert_eq!(same, NatMapping::EndpointIndependent);
        let other = of(&[("192.0.2.1:1", "203.0.113.1:5"), ("192.0.2.1:2", "203.0.113.1:6")]);
        assert_eq!(other, NatMapping::EndpointDependent);
    }

    #[test]
    fn the_local_address_seen_from_outside_means_no_translation() {
        assert_eq!(of(&[("192.0.2.1:1", "10.0.0.1:8081")]), NatMapping::None);
        assert_eq!(of(&[("192.0.2.1:1", "10.0.0.1:9")]), NatMapping::Unknown);
        assert_eq!(of(&[]), NatMapping::Unknown);
    }
}
