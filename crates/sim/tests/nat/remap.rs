//! Routers on which an unsolicited packet occupies its tuple.

use holepunch_sim::nat::{
    Allocation, DropReason, Filtering, InboundFirst, Mapping, NatConfig, UNSOLICITED_LIFETIME,
};

use crate::common::{at, ms};
use crate::prober::{A, Prober, X, Y};

fn config(inbound: InboundFirst) -> NatConfig {
    let config = NatConfig::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    NatConfig { inbound, ..config }
}

fn prober() -> Prober {
    Prober::new(config(InboundFirst::Remap))
}

#[test]
fn the_flow_to_an_early_sender_is_moved_to_another_port_and_new_flows_follow_it() {
    let mut prober = prober();
    let external = prober.outward(A, X);
    assert_eq!(prober.inward(Y, external), Err(DropReason::Filtered));
    let moved = prober.outward(A, Y);
    assert_ne!(moved.port(), external.port());
    assert_eq!(prober.outward(A, X), external, "those that there were stay where they are");
    assert_eq!(prober.outward(A, "192.0.2.3:9"), moved, "the newest one is the model of the next");
    assert_eq!(prober.inward("192.0.2.3:9", moved), Ok(at(A)));
    assert_eq!(prober.outward(A, X), external);
    assert_eq!(prober.inward(X, external), Ok(at(A)));
    assert_eq!(prober.outward(A, Y), moved, "it stays there");
    assert_eq!(prober.inward(Y, moved), Ok(at(A)));
    assert_eq!(prober.inward(Y, external), Err(DropReason::Filtered), "the old port is no way in");
}

#[test]
fn whoever_is_sent_to_first_reaches_the_usual_port() {
    let mut prober = prober();
    let external = prober.outward(A, X);
    assert_eq!(prober.outward(A, Y), external);
    assert_eq!(prober.inward(Y, external), Ok(at(A)));
    assert_eq!(prober.outward(A, Y), external, "an answer occupies nothing");
}

#[test]
fn a_packet_that_came_before_there_was_any_mapping_counts_too() {
    let mut prober = prober();
    assert_eq!(prober.inward(Y, at("203.0.113.1:5000")), Err(DropReason::NoMapping));
    let moved = prober.outward(A, Y);
    assert_ne!(moved.port(), 5000);
    assert_eq!(prober.outward(A, X), moved);
}

#[test]
fn a_tuple_is_free_again_after_its_time() {
    let mut prober = prober();
    let external = prober.outward(A, X);
    let _dropped = prober.inward(Y, external);
    prober.wait(UNSOLICITED_LIFETIME - ms(1));
    let _dropped = prober.inward(Y, external);
    prober.wait(UNSOLICITED_LIFETIME - ms(1));
    assert_eq!(prober.nat.table_len(), 2, "each packet begins the time anew");
    prober.wait(ms(1));
    assert_eq!(prober.outward(A, Y), external);
}

#[test]
fn another_nat_forgets_unsolicited_packets_at_once() {
    let mut prober = Prober::new(config(InboundFirst::Drop));
    let external = prober.outward(A, X);
    assert_eq!(prober.inward(Y, external), Err(DropReason::Filtered));
    assert_eq!(prober.outward(A, Y), external);
}

#[test]
fn dependent_mappings_avoid_occupied_tuples_too() {
    let config = NatConfig {
        mapping: Mapping::AddressDependent,
        allocation: Allocation::PreservingFirst,
        ..config(InboundFirst::Remap)
    };
    let mut prober = Prober::new(config);
    assert_eq!(prober.inward(Y, at("203.0.113.1:5000")), Err(DropReason::NoMapping));
    let moved = prober.outward(A, Y);
    assert_ne!(moved.port(), 5000);
    assert_eq!(prober.inward(Y, moved), Ok(at(A)));
}

#[test]
fn a_moved_flow_takes_no_port_whose_tuple_is_occupied_too() {
    let block = Allocation::Block { size: 2, aligned: true, reuse: false };
    for seed in 0..10 {
        let config = config(InboundFirst::Remap).with_allocation(block);
        let mut prober = Prober::seeded(config, seed);
        let external = prober.outward(A, X);
        let mut other = external;
        other.set_port(external.port() ^ 1);
        assert!(prober.inward(Y, other).is_err() && prober.inward(Y, external).is_err());
        assert_eq!(prober.try_outward(A, Y), Err(DropReason::PortsExhausted), "seed {seed}");
        assert_eq!(prober.outward(A, "192.0.2.3:9"), external);
    }
}
