//! RFC 4787 §6.

use holepunch_sim::nat::{DropReason, Filtering, Mapping, NatConfig};

use crate::common::at;
use crate::prober::{A, B, Prober, X};

fn prober(filtering: Filtering, hairpin: bool) -> Prober {
    Prober::new(NatConfig::new(Mapping::EndpointIndependent, filtering).with_hairpin(hairpin))
}

#[test]
fn a_packet_to_the_own_outside_comes_back_in_from_there() {
    let mut prober = prober(Filtering::EndpointIndependent, true);
    let (a, b) = (prober.outward(A, X), prober.outward(B, X));
    assert_eq!(prober.nat.hairpin(at(A), b, prober.now), Ok((a, at(B))));
}

#[test]
fn without_hairpinning_it_is_dropped() {
    let mut prober = prober(Filtering::EndpointIndependent, false);
    let b = prober.outward(B, X);
    assert_eq!(prober.nat.hairpin(at(A), b, prober.now), Err(DropReason::NoHairpin));
}

#[test]
fn the_filter_holds_for_packets_from_inside_too() {
    let mut prober = prober(Filtering::AddressAndPortDependent, true);
    let (a, b) = (prober.outward(A, X), prober.outward(B, X));
    assert_eq!(prober.nat.hairpin(at(A), b, prober.now), Err(DropReason::Filtered));
    assert_eq!(prober.nat.hairpin(at(B), a, prober.now), Ok((b, at(A))), "A has sent to it");
    assert_eq!(prober.nat.hairpin(at(A), b, prober.now), Ok((a, at(B))));
}
