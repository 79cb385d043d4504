//! RFC 4787 §4.1.

use holepunch_sim::nat::{Filtering, Mapping};

use crate::common::ip;
use crate::prober::{A, A2, B, EXTERNAL, Prober, X, X_OTHER_PORT, Y};

const ANY: Filtering = Filtering::EndpointIndependent;

#[test]
fn endpoint_independent_mapping_has_one_endpoint_for_all_destinations() {
    let mut prober = Prober::of(Mapping::EndpointIndependent, ANY);
    let first = prober.outward(A, X);
    assert_eq!(first.ip(), ip(EXTERNAL));
    assert_eq!([X, X_OTHER_PORT, Y].map(|to| prober.outward(A, to)), [first; 3]);
    assert_eq!(prober.nat.counters().mappings_created(), 1);
}

#[test]
fn address_dependent_mapping_has_another_endpoint_for_each_address_but_not_for_each_port() {
    let mut prober = Prober::of(Mapping::AddressDependent, ANY);
    let first = prober.outward(A, X);
    assert_eq!(prober.outward(A, X_OTHER_PORT), first);
    let second = prober.outward(A, Y);
    assert_ne!(second, first);
    assert_eq!([prober.outward(A, X), prober.outward(A, Y)], [first, second]);
}

#[test]
fn address_and_port_dependent_mapping_has_another_endpoint_for_each_destination() {
    let mut prober = Prober::of(Mapping::AddressAndPortDependent, ANY);
    let seen = [X, X_OTHER_PORT, Y].map(|to| prober.outward(A, to));
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:?}");
    assert_eq!([X, X_OTHER_PORT, Y].map(|to| prober.outward(A, to)), seen, "each stays");
}

#[test]
fn each_inside_socket_has_a_mapping_of_its_own() {
    let mut prober = Prober::of(Mapping::EndpointIndependent, ANY);
    let [a, a2, b] = [A, A2, B].map(|inside| prober.outward(inside, X));
    assert!(a != a2 && a2 != b && a != b);
    assert_eq!(prober.nat.mappings(), 3);
}
