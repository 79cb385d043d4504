//! Tables that are full, packets that make no sense, and what is counted.

use holepunch_sim::nat::{DropReason, Filtering, InboundFirst, Mapping, NatConfig};

use crate::common::{at, secs};
use crate::prober::{A, A2, Prober, X, Y, outside};

fn small(filtering: Filtering) -> Prober {
    let config = NatConfig::new(Mapping::EndpointIndependent, filtering);
    Prober::new(NatConfig { table_max: 10, ..config })
}

#[test]
fn a_full_table_takes_no_new_session_until_an_old_one_expires() {
    let mut prober = small(Filtering::AddressAndPortDependent);
    for n in 0..10 {
        prober.outward(A, &outside(n));
    }
    assert_eq!(prober.try_outward(A, X), Err(DropReason::TableFull));
    assert_eq!(prober.try_outward(A2, X), Err(DropReason::TableFull));
    assert!(prober.try_outward(A, &outside(0)).is_ok(), "old sessions go on");
    assert_eq!(prober.nat.counters().drops(DropReason::TableFull), 2);
    assert_eq!((prober.nat.table_len(), prober.nat.counters().table_peak()), (10, 10));
    prober.wait(secs(120));
    assert!(prober.try_outward(A, X).is_ok());
    assert_eq!((prober.nat.table_len(), prober.nat.counters().table_peak()), (1, 10));
}

#[test]
fn strangers_cannot_grow_the_table_beyond_its_size() {
    let mut open = small(Filtering::EndpointIndependent);
    let external = open.outward(A, X);
    for n in 0..100 {
        assert_eq!(open.inward(&outside(n), external), Ok(at(A)));
    }
    assert_eq!(open.nat.table_len(), 10);

    let config = NatConfig::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let config = NatConfig { table_max: 10, inbound: InboundFirst::Remap, ..config };
    let mut remapping = Prober::new(config);
    for n in 0..100 {
        let _dropped = remapping.inward(&outside(n), external);
    }
    assert_eq!(remapping.nat.table_len(), 10);
    assert_eq!(remapping.try_outward(A, X), Err(DropReason::TableFull), "what a flood does to it");
}

#[test]
fn packets_of_another_ip_version_and_for_other_addresses_are_dropped() {
    let mut prober = small(Filtering::EndpointIndependent);
    assert_eq!(prober.try_outward(A, "[2001:db8::1]:9"), Err(DropReason::WrongFamily));
    assert_eq!(prober.inward(Y, at("203.0.113.2:5000")), Err(DropReason::NotExternal));
    assert_eq!(prober.nat.counters().drops_total(), 2);
}

#[test]
fn one_seed_makes_one_history() {
    let config = NatConfig::new(Mapping::AddressAndPortDependent, Filtering::AddressDependent);
    let history = |seed| {
        let mut prober = Prober::seeded(config.clone(), seed);
        (0..50).map(|n| prober.outward(A, &outside(n)).port()).collect::<Vec<_>>()
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}
