//! A NAT profile in words: what was seen, what it means, and what helps.

use holepunch_link::NatMapping;
use holepunch_wire::nat::{Allocation, Filtering, Mapping, NatProfile, UdpState};

/// The one mapping that both say, so that no output says two things. The answers of servers at different addresses show
/// it; the profile has asked the further addresses of a single server as well (RFC 5780), and knows more if it knows
/// anything.
pub(super) fn agree(answers: NatMapping, profile: &mut NatProfile) -> NatMapping {
    match profile.mapping {
        Mapping::None => NatMapping::None,
        Mapping::EndpointIndependent => NatMapping::EndpointIndependent,
        Mapping::AddressDependent
        | Mapping::AddressAndPortDependent
        | Mapping::EndpointDependent => NatMapping::EndpointDependent,
        Mapping::Unknown => {
            profile.mapping = match answers {
                NatMapping::None => Mapping::None,
                NatMapping::EndpointIndependent => Mapping::EndpointIndependent,
                NatMapping::EndpointDependent => Mapping::EndpointDependent,
                NatMapping::Unknown => Mapping::Unknown,
            };
            answers
        }
    }
}

/// One row per property, with its value in words.
pub(super) fn rows(profile: &NatProfile) -> Vec<(&'static str, String)> {
    let yes_no = |value: Option<bool>| match value {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "not known".to_owned(),
    };
    let mut rows = vec![
        ("UDP", udp(profile.udp).to_owned()),
        ("mapping", mapping(profile.mapping).to_owned()),
        ("filtering", filtering(profile.filtering).to_owned()),
        ("ports", allocation(profile)),
        ("hairpin", yes_no(profile.hairpin)),
        ("disturbed by early packets", yes_no(profile.remaps_after_inbound)),
        ("IPv6", yes_no(profile.ipv6)),
    ];
    if let Some(ttl) = profile.opener_ttl {
        rows.push(("TTL that passes the own NATs", ttl.to_string()));
    }
    if profile.reuses_ports.is_some() {
        rows.push(("one port for several peers", yes_no(profile.reuses_ports)));
    }
    rows
}

fn udp(state: UdpState) -> &'static str {
    match state {
        UdpState::Open => "gets out",
        UdpState::Blocked => "blocked: no server answers",
        UdpState::Unknown => "not known",
    }
}

fn mapping(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::None => "none: no translation",
        Mapping::EndpointIndependent => "endpoint-independent: one external port for all peers",
        Mapping::AddressDependent => "address-dependent: another port for each peer's address",
        Mapping::AddressAndPortDependent => {
            "address and port-dependent: another port for each peer"
        }
        Mapping::EndpointDependent => "endpoint-dependent: another port for each peer",
        Mapping::Unknown => "not known: too few servers answered",
    }
}

fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::EndpointIndependent => "endpoint-independent: everybody gets in",
        Filtering::AddressDependent => {
            "address-dependent: whoever shares an address sent to gets in"
        }
        Filtering::AddressAndPortDependent => "address and port-dependent: only answers get in",
        Filtering::Unknown => "not known: no server offers the test of RFC 5780",
    }
}

fn allocation(profile: &NatProfile) -> String {
    let kind = match profile.allocation {
        Allocation::Preserving => "the local port is kept".to_owned(),
        Allocation::Sequential { step } => format!("in order, in steps of {step}"),
        Allocation::Block { lowest, highest, size } => {
            format!("from a block of about {size} (seen {lowest} to {highest})")
        }
        Allocation::Random => "random".to_owned(),
        Allocation::Unknown => return "not known".to_owned(),
    };
    let seen: Vec<String> = profile.ports.iter().map(u16::to_string).collect();
    format!("{kind}; seen {}; {} % sure", seen.join(", "), profile.confidence)
}

/// With which peers a direct path is to be expected. Where UDP gets out and no server has answered by IPv4, one has
/// by IPv6. Where nobody `was_asked`, nothing is known.
pub(super) fn linking(
    profile: &NatProfile,
    is_seen_by_ipv4: bool,
    was_asked: bool,
) -> Vec<&'static str> {
    if !was_asked {
        return vec!["Not known: no STUN server could be asked."];
    }
    if profile.udp == UdpState::Blocked {
        return vec![
            "With workers of this network alone: UDP does not get out of it. With others only a relay \
             can help.",
        ];
    }
    if profile.udp == UdpState::Open && !is_seen_by_ipv4 {
        let others = "With other workers of other networks only a relay can help: no server answers by IPv4.";
        return if profile.ipv6 == Some(true) {
            vec!["With peers that have IPv6: at once.", others]
        } else {
            vec![others]
        };
    }
    match profile.mapping {
        Mapping::Unknown => {
            vec!["Not known yet: name a second STUN server, at another IP address."]
        }
        Mapping::None | Mapping::EndpointIndependent => easy(profile.filtering),
        Mapping::AddressDependent
        | Mapping::AddressAndPortDependent
        | Mapping::EndpointDependent => hard(profile),
    }
}

fn easy(filtering: Filtering) -> Vec<&'static str> {
    let with_easy = "With every peer whose NAT uses one port for all: at once.";
    match filtering {
        Filtering::EndpointIndependent | Filtering::AddressDependent => {
            vec![with_easy, "With peers behind a hard (symmetric) NAT: at once, too."]
        }
        Filtering::AddressAndPortDependent | Filtering::Unknown => vec![
            with_easy,
            "With peers behind a hard (symmetric) NAT: after a search of seconds, which finds the \
             peer's port in nearly all cases.",
        ],
    }
}

fn hard(profile: &NatProfile) -> Vec<&'static str> {
    let open = "With peers that let in whoever shares an address with somebody they have sent to: at once.";
    let (strict, hard) = match profile.allocation {
        Allocation::Preserving | Allocation::Sequential { .. } => (
            "With other peers whose NAT uses one port for all: within a second, since this NAT's next \
             port can be predicted.",
            "With peers behind a hard NAT: where their next port can be predicted as well.",
        ),
        Allocation::Block { .. } => (
            "With other peers whose NAT uses one port for all: within a second or two, by a sweep of \
             this NAT's block of ports.",
            "With peers behind a NAT with a block, too: where both use a port for several peers.",
        ),
        Allocation::Random | Allocation::Unknown => (
            "With other peers whose NAT uses one port for all: within some seconds, by many sockets \
             here and many ports tried there.",
            "With peers behind a NAT like this one: not at all; a relay is needed.",
        ),
    };
    vec![open, strict, hard]
}

/// What would make linking easier.
pub(super) fn fix(profile: &NatProfile) -> Option<&'static str> {
    if profile.udp == UdpState::Blocked {
        return Some("let UDP out of this network, in its firewall or security group.");
    }
    if !profile.mapping.is_endpoint_dependent() {
        return None;
    }
    Some(match profile.allocation {
        Allocation::Block { .. } => {
            "this looks like a cloud or carrier NAT with a block of ports for each host. In a cloud, \
             turn endpoint-independent mapping on: gcloud compute routers nats update NAT --router \
             ROUTER --region REGION --enable-endpoint-independent-mapping"
        }
        Allocation::Preserving
        | Allocation::Sequential { .. }
        | Allocation::Random
        | Allocation::Unknown => {
            "endpoint-independent mapping (\"full cone\" or \"open\" NAT) on the router, or a port \
             that it opens by UPnP or NAT-PMP. In a cloud: gcloud compute routers nats update NAT \
             --router ROUTER --region REGION --enable-endpoint-independent-mapping"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(mapping: Mapping, allocation: Allocation) -> NatProfile {
        let ports = vec![2050, 2060];
        NatProfile { udp: UdpState::Open, mapping, allocation, ports, ..NatProfile::default() }
    }

    #[test]
    fn a_hard_nat_gets_a_fix_and_an_easy_one_needs_none() {
        let block = Allocation::Block { lowest: 2050, highest: 2060, size: 64 };
        let hard = profile(Mapping::AddressAndPortDependent, block);
        assert!(fix(&hard).unwrap().contains("--enable-endpoint-independent-mapping"));
        assert!(linking(&hard, true, true)[1].contains("sweep"));
        let easy = profile(Mapping::EndpointIndependent, Allocation::Preserving);
        assert_eq!(fix(&easy), None);
        assert!(linking(&easy, true, true)[0].contains("at once"));
    }

    #[test]
    fn one_server_that_shows_the_mapping_by_its_further_addresses_is_enough_for_all_that_is_said() {
        let agreed = |answers, mapping| {
            let mut profile = profile(mapping, Allocation::Random);
            let answers = agree(answers, &mut profile);
            (answers, profile.mapping)
        };
        let hard = Mapping::AddressAndPortDependent;
        assert_eq!(agreed(NatMapping::Unknown, hard), (NatMapping::EndpointDependent, hard));
        let easy = (NatMapping::EndpointIndependent, Mapping::EndpointIndependent);
        assert_eq!(agreed(NatMapping::Unknown, easy.1), easy);
        assert_eq!(agreed(easy.0, Mapping::Unknown), easy);
        let unknown = (NatMapping::Unknown, Mapping::Unknown);
        assert_eq!(agreed(unknown.0, unknown.1), unknown);
    }

    #[test]
    fn without_a_server_to_ask_nothing_is_said_of_udp() {
        let unknown = NatProfile::default();
        assert_eq!(linking(&unknown, false, false), ["Not known: no STUN server could be asked."]);
        assert_eq!(fix(&unknown), None);
    }

    #[test]
    fn blocked_udp_is_said_first() {
        let blocked = NatProfile { udp: UdpState::Blocked, ..NatProfile::default() };
        assert!(linking(&blocked, false, true)[0].contains("relay"));
        assert!(fix(&blocked).unwrap().contains("let UDP out"));
    }

    #[test]
    fn an_answer_by_ipv6_alone_leads_to_peers_that_have_it() {
        let udp = UdpState::Open;
        let seen = NatProfile { udp, ipv6: Some(true), ..NatProfile::default() };
        assert!(linking(&seen, false, true)[0].contains("have IPv6: at once"));
        let by_nat64 = NatProfile { udp, ipv6: Some(false), ..NatProfile::default() };
        let words = linking(&by_nat64, false, true);
        assert!(words.len() == 1 && words[0].contains("a relay"), "{words:?}");
        assert_eq!(fix(&seen), None);
    }

    #[test]
    fn every_property_has_a_row() {
        let random = profile(Mapping::AddressDependent, Allocation::Random);
        let rows = rows(&random);
        assert_eq!(rows.len(), 7);
        assert!(rows.iter().any(|(_, value)| value.contains("random; seen 2050, 2060")));
        assert!(linking(&random, true, true)[2].contains("not at all"));
    }
}
