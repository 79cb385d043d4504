//! What the external ports of a few mappings say of the NAT.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::nat::{Allocation, Mapping};

/// Ports of four mappings that lie further apart come from the whole range rather than from a block:
/// four random ports are as close in 1 of 1,000 cases. Three are as close as the second bound then.
const BLOCK_SPAN_MAX: u16 = 4096;
const BLOCK_SPAN_OF_THREE_MAX: u16 = 1024;
/// Ports that follow each other in equal steps up to this one are sequential, ...
const STEP_MAX: i32 = 16;
/// ... and so are those in steps that differ because others take ports in between: small steps, and up
/// to so many at once. Ports of a block look like that in 1 of 3,000 cases.
const NOISY_STEP_MAX: i32 = 2;
const TAKEN_MAX: i32 = 3;

/// A mapping surely lives for so long after it was seen: the shortest time that NATs in use give UDP is 20 to 30 s. A
/// port that is seen again later may have been given back meanwhile.
const SURELY_LIVES: Duration = Duration::from_secs(15);

/// What a STUN server saw of one mapping, in the order in which the mappings were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The port that the mapping's socket is bound to.
    pub(crate) local_port: u16,
    /// The server.
    pub(crate) server: SocketAddr,
    /// The address that it saw.
    pub(crate) mapped: SocketAddr,
    /// When its answer came.
    pub(crate) at: Instant,
}

/// The mapping behaviour, from samples of one socket; `local` is its own address toward the servers,
/// where known.
pub(crate) fn mapping(samples: &[Sample], local: Option<SocketAddr>) -> Mapping {
    let Some(first) = samples.first() else { return Mapping::Unknown };
    let pairs = |differ: fn(SocketAddr, SocketAddr) -> bool| {
        let all = samples
            .iter()
            .enumerate()
            .flat_map(|(index, a)| samples[index + 1..].iter().map(move |b| (a, b)));
        let (mut seen, mut same) = (false, true);
        for (a, b) in all.filter(|(a, b)| differ(a.server, b.server)) {
            seen = true;
            same &= a.mapped == b.mapped;
        }
        seen.then_some(same)
    };
    let other_port = pairs(|a, b| a.ip() == b.ip() && a.port() != b.port());
    let other_ip = pairs(|a, b| a.ip() != b.ip());
    match (other_port, other_ip) {
        _ if samples.iter().all(|sample| Some(sample.mapped) == local) => Mapping::None,
        (Some(false), _) => Mapping::AddressAndPortDependent,
        (Some(true), Some(false)) => Mapping::AddressDependent,
        (None, Some(false)) => Mapping::EndpointDependent,
        (_, Some(true)) => Mapping::EndpointIndependent,
        // Two ports of one server say nothing about another address.
        (_, None) if first.mapped.ip().is_ipv6() => Mapping::None,
        (_, None) => Mapping::Unknown,
    }
}

/// How ports are chosen, with a confidence in percent. `hard`: each sample is a mapping of its own;
/// otherwise those of one socket share one.
pub(crate) fn allocation(samples: &[Sample], hard: bool) -> (Allocation, u8) {
    let Some(first) = samples.first() else { return (Allocation::Unknown, 0) };
    let mut ports: Vec<u16> = Vec::new();
    let mut sockets: Vec<u16> = Vec::new();
    for sample in samples {
        if hard || !sockets.contains(&sample.local_port) {
            sockets.push(sample.local_port);
            ports.push(sample.mapped.port());
        }
    }
    if first.mapped.port() == first.local_port {
        return (Allocation::Preserving, if ports.len() > 1 { 95 } else { 80 });
    }
    if let Some(step) = step(&ports) {
        return (Allocation::Sequential { step }, if ports.len() > 3 { 95 } else { 75 });
    }
    if ports.len() < 3 {
        return (Allocation::Unknown, 0);
    }
    let lowest = ports.iter().copied().min().unwrap_or(0);
    let highest = ports.iter().copied().max().unwrap_or(0);
    let span_max = if ports.len() > 3 { BLOCK_SPAN_MAX } else { BLOCK_SPAN_OF_THREE_MAX };
    if highest - lowest > span_max {
        return (Allocation::Random, 95);
    }
    let block = Allocation::block(lowest, highest, ports.len());
    (block, if ports.len() > 3 { 90 } else { 70 })
}

/// The step from each port to the next. Another host behind the same NAT may have taken ports in
/// between, so the steps may be small multiples of one.
fn step(ports: &[u16]) -> Option<i16> {
    if ports.len() < 3 {
        return None;
    }
    let steps: Vec<i32> =
        ports.windows(2).map(|two| i32::from(two[1]) - i32::from(two[0])).collect();
    let smallest = steps.iter().copied().min_by_key(|step| step.abs())?;
    let equal = steps.iter().all(|step| *step == smallest) && smallest.abs() <= STEP_MAX;
    let noisy = smallest.abs() <= NOISY_STEP_MAX
        && steps.iter().all(|step| (1..=TAKEN_MAX).any(|times| *step == smallest * times));
    (smallest != 0 && (equal || noisy)).then(|| i16::try_from(smallest).ok()).flatten()
}

/// Whether a NAT with this mapping, a dependent one, keeps apart what goes to the one and to the other.
pub(crate) fn tells_apart(mapping: Mapping, one: SocketAddr, other: SocketAddr) -> bool {
    match mapping {
        Mapping::AddressAndPortDependent => one != other,
        // Toward two ports of an address there may be one mapping, which is no reuse.
        Mapping::AddressDependent | Mapping::EndpointDependent => one.ip() != other.ip(),
        Mapping::None | Mapping::EndpointIndependent | Mapping::Unknown => false,
    }
}

/// Pairs of mappings that are there at the same time, toward destinations that the NAT keeps apart: each could share an
/// external port, where the NAT reuses them.
fn pairs(samples: &[Sample], mapping: Mapping) -> impl Iterator<Item = (&Sample, &Sample)> {
    let all = samples
        .iter()
        .enumerate()
        .flat_map(|(index, a)| samples[index + 1..].iter().map(move |b| (a, b)));
    all.filter(move |(a, b)| {
        let between = a.at.max(b.at).saturating_duration_since(a.at.min(b.at));
        between <= SURELY_LIVES && tells_apart(mapping, a.server, b.server)
    })
}

/// Whether two mappings share an external port, though the NAT keeps their destinations apart.
pub(crate) fn reuses(samples: &[Sample], mapping: Mapping) -> bool {
    pairs(samples, mapping).any(|(a, b)| a.mapped == b.mapped)
}

/// How many pairs of mappings could have shown that.
pub(crate) fn chances(samples: &[Sample], mapping: Mapping) -> usize {
    pairs(samples, mapping).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1P1: &str = "192.0.2.1:3478";
    const S1P2: &str = "192.0.2.1:3479";
    const S2P1: &str = "192.0.2.2:3478";

    fn samples(list: &[(&str, u16)]) -> Vec<Sample> {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let at = Instant::now();
        let sample = |(server, port): &(&str, u16)| Sample {
            local_port: 8081,
            server: server.parse().unwrap(),
            mapped: SocketAddr::from(([203, 0, 113, 1], *port)),
            at,
        };
        list.iter().map(sample).collect()
    }

    fn ports(list: &[u16]) -> (Allocation, u8) {
        let list: Vec<(&str, u16)> = list.iter().map(|port| (S1P1, *port)).collect();
        allocation(&samples(&list), true)
    }

    #[test]
    fn two_addresses_and_two_ports_tell_the_mapping() {
        let of = |list: &[(&str, u16)]| mapping(&samples(list), None);
        assert_eq!(of(&[]), Mapping::Unknown);
        assert_eq!(of(&[(S1P1, 5), (S1P2, 5)]), Mapping::Unknown);
        assert_eq!(of(&[(S1P1, 5), (S1P2, 6)]), Mapping::AddressAndPortDependent);
        assert_eq!(of(&[(S1P1, 5), (S2P1, 5)]), Mapping::EndpointIndependent);
        assert_eq!(of(&[(S1P1, 5), (S2P1, 6)]), Mapping::EndpointDependent);
        assert_eq!(of(&[(S1P1, 5), (S1P2, 5), (S2P1, 6)]), Mapping::AddressDependent);
        let local = Some("203.0.113.1:5".parse().unwrap());
        assert_eq!(mapping(&samples(&[(S1P1, 5)]), local), Mapping::None);
    }

    #[test]
    fn sequential_ports_are_known_by_their_steps() {
        assert_eq!(ports(&[100, 101, 102, 103]).0, Allocation::Sequential { step: 1 });
        assert_eq!(ports(&[100, 102, 108, 110]).0, Allocation::Sequential { step: 2 });
        assert_eq!(ports(&[110, 109, 107]).0, Allocation::Sequential { step: -1 });
        assert!(!matches!(ports(&[110, 109, 111, 112]).0, Allocation::Sequential { .. }));
    }

    #[test]
    fn a_narrow_span_is_a_block_and_a_wide_one_is_random() {
        let block = Allocation::Block { lowest: 2050, highest: 2090, size: 69 };
        assert_eq!(ports(&[2070, 2050, 2090, 2060]).0, block);
        assert!(matches!(ports(&[2050, 2055, 2070, 2085]).0, Allocation::Block { .. }));
        let block = Allocation::Block { lowest: 2050, highest: 2400, size: 585 };
        assert_eq!(ports(&[2400, 2050, 2090, 2160]).0, block);
        assert_eq!(ports(&[40_000, 2050, 60_000, 9000]).0, Allocation::Random);
        assert_eq!(ports(&[40_000, 2050]).0, Allocation::Unknown);
    }

    #[test]
    fn the_first_destination_may_keep_the_port() {
        assert_eq!(ports(&[8081, 41_000, 7, 9000]).0, Allocation::Preserving);
    }

    #[test]
    fn one_port_toward_two_servers_is_reuse() {
        let of = |list: &[(&str, u16)]| reuses(&samples(list), Mapping::AddressAndPortDependent);
        assert!(of(&[(S1P1, 5), (S1P2, 6), (S2P1, 5)]));
        assert!(!of(&[(S1P1, 5), (S1P2, 6), (S2P1, 7)]));
        assert!(of(&[(S1P1, 5), (S1P2, 5)]));
    }

    #[test]
    fn one_mapping_for_all_ports_of_a_host_is_no_reuse() {
        let seen = samples(&[(S1P1, 5), (S1P2, 5), (S2P1, 6)]);
        assert_eq!(mapping(&seen, None), Mapping::AddressDependent);
        assert!(!reuses(&seen, Mapping::AddressDependent));
        assert_eq!(chances(&seen, Mapping::AddressDependent), 2);
        assert!(reuses(&samples(&[(S1P1, 5), (S2P1, 5)]), Mapping::AddressDependent));
    }

    #[test]
    fn a_port_that_a_dead_mapping_may_have_given_back_is_no_reuse() {
        let mut seen = samples(&[(S1P1, 5), (S2P1, 5)]);
        assert_eq!(chances(&seen, Mapping::AddressAndPortDependent), 1);
        seen[1].at += SURELY_LIVES + Duration::from_millis(1);
        assert!(!reuses(&seen, Mapping::AddressAndPortDependent));
        assert_eq!(chances(&seen, Mapping::AddressAndPortDependent), 0);
    }
}
