//! What a NAT does, in a few plain words: for a line among others.

use holepunch_wire::nat::{Allocation, Filtering, Mapping, NatProfile, UdpState};

/// What a profile says of a NAT, in one line.
#[must_use]
pub fn in_words(profile: &NatProfile) -> String {
    let udp = match profile.udp {
        UdpState::Open => "UDP gets out",
        UdpState::Blocked => "UDP does not get out",
        UdpState::Unknown => "it is not known whether UDP gets out",
    };
    let mapping = match profile.mapping {
        Mapping::None => "addresses are not translated",
        Mapping::EndpointIndependent => "one external port for all peers",
        Mapping::AddressDependent => "another external port for each peer's address",
        Mapping::AddressAndPortDependent | Mapping::EndpointDependent => {
            "another external port for each peer"
        }
        Mapping::Unknown => "it is not known whether all peers see one external port",
    };
    let filtering = match profile.filtering {
        Filtering::EndpointIndependent => "everybody gets in",
        Filtering::AddressDependent => "whoever shares an address sent to gets in",
        Filtering::AddressAndPortDependent => "only answers get in",
        Filtering::Unknown => "who gets in is not known",
    };
    let ports = match profile.allocation {
        Allocation::Preserving => "; ports are kept".to_owned(),
        Allocation::Sequential { step } => format!("; ports come in order, in steps of {step}"),
        Allocation::Block { size, .. } => format!("; ports are from a block of about {size}"),
        Allocation::Random => "; ports are random".to_owned(),
        Allocation::Unknown => String::new(),
    };
    format!("{udp}; {mapping}; {filtering}{ports}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_named_that_only_the_program_knows() {
        let profile =
            NatProfile { udp: UdpState::Open, mapping: Mapping::None, ..NatProfile::default() };
        let words = "UDP gets out; addresses are not translated; who gets in is not known";
        assert_eq!(in_words(&profile), words);
    }
}
