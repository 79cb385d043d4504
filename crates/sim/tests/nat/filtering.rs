//! RFC 4787 §5.

use holepunch_sim::nat::{Allocation, DropReason, Filtering, Mapping, NatConfig};

use crate::common::at;
use crate::prober::{A, A2, EXTERNAL, Prober, X, X_OTHER_PORT, Y};

const EIM: Mapping = Mapping::EndpointIndependent;
const APDM: Mapping = Mapping::AddressAndPortDependent;

/// What becomes of packets from the endpoint that was sent to, from another port there, and from
/// another address.
fn who_gets_in(filtering: Filtering) -> [bool; 3] {
    let mut prober = Prober::of(EIM, filtering);
    let external = prober.outward(A, X);
    [X, X_OTHER_PORT, Y].map(|from| match prober.inward(from, external) {
        Ok(receiver) => {
            assert_eq!(receiver, at(A));
            true
        }
        Err(why) => {
            assert_eq!(why, DropReason::Filtered);
            false
        }
    })
}

#[test]
fn endpoint_independent_filtering_lets_everybody_in() {
    assert_eq!(who_gets_in(Filtering::EndpointIndependent), [true, true, true]);
}

#[test]
fn address_dependent_filtering_lets_addresses_in_that_were_sent_to() {
    assert_eq!(who_gets_in(Filtering::AddressDependent), [true, true, false]);
}

#[test]
fn address_and_port_dependent_filtering_lets_endpoints_in_that_were_sent_to() {
    assert_eq!(who_gets_in(Filtering::AddressAndPortDependent), [true, false, false]);
}

#[test]
fn nobody_gets_in_where_nothing_was_sent() {
    let mut prober = Prober::of(EIM, Filtering::EndpointIndependent);
    let closed = at(&format!("{EXTERNAL}:5000"));
    assert_eq!(prober.inward(X, closed), Err(DropReason::NoMapping));
    assert_eq!(prober.nat.counters().drops(DropReason::NoMapping), 1);
}

#[test]
fn filters_belong_to_one_mapping() {
    let mut prober = Prober::of(EIM, Filtering::AddressDependent);
    let (a, a2) = (prober.outward(A, X), prober.outward(A2, Y));
    assert_eq!(prober.inward(Y, a), Err(DropReason::Filtered), "the other socket sent to Y");
    assert_eq!(prober.inward(Y, a2), Ok(at(A2)));
}

#[test]
fn with_dependent_mapping_the_mapping_for_one_destination_filters_by_that_one() {
    let mut prober = Prober::of(APDM, Filtering::AddressDependent);
    let (for_x, for_y) = (prober.outward(A, X), prober.outward(A, Y));
    assert_eq!(prober.inward(Y, for_x), Err(DropReason::Filtered));
    assert_eq!(prober.inward(X_OTHER_PORT, for_x), Ok(at(A)), "the address was sent to");
    assert_eq!(prober.inward(Y, for_y), Ok(at(A)));
}

#[test]
fn with_dependent_mapping_and_no_filter_everybody_gets_in_at_every_mapping() {
    let mut prober = Prober::of(APDM, Filtering::EndpointIndependent);
    let (for_x, for_y) = (prober.outward(A, X), prober.outward(A, Y));
    assert_eq!([prober.inward(Y, for_x), prober.inward("198.51.100.7:7", for_y)], [Ok(at(A)); 2]);
}

#[test]
fn a_port_that_serves_two_sockets_gives_a_packet_to_the_one_that_talks_with_its_source() {
    // A block of one port, so that both sockets share it.
    let allocation = Allocation::Block { size: 1, aligned: false, reuse: true };
    for filtering in [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ] {
        let mut prober = Prober::new(NatConfig::new(APDM, filtering).with_allocation(allocation));
        let (a, a2) = (prober.outward(A, X), prober.outward(A2, Y));
        assert_eq!(a, a2);
        assert_eq!([prober.inward(X, a), prober.inward(Y, a)], [Ok(at(A)), Ok(at(A2))]);
    }
}
