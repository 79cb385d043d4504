//! RFC 4787 §4.3.

use holepunch_sim::nat::{Allocation, DropReason, Filtering, Mapping, NatConfig};

use crate::common::{at, ms, secs};
use crate::prober::{A, Prober, X, Y, hard};

fn prober(filtering: Filtering, refresh_on_inbound: bool) -> Prober {
    let config = NatConfig::new(Mapping::EndpointIndependent, filtering)
        .with_allocation(Allocation::Random)
        .with_lifetime(secs(30));
    Prober::new(NatConfig { refresh_on_inbound, ..config })
}

#[test]
fn an_idle_mapping_lives_for_its_lifetime_and_no_longer() {
    let mut prober = prober(Filtering::EndpointIndependent, false);
    let external = prober.outward(A, X);
    prober.wait(secs(30) - ms(1));
    assert_eq!(prober.inward(Y, external), Ok(at(A)));
    prober.wait(ms(1));
    assert_eq!(prober.inward(Y, external), Err(DropReason::NoMapping));
    assert_ne!(prober.outward(A, X), external, "a new mapping");
}

#[test]
fn packets_outward_keep_it_alive() {
    let mut prober = prober(Filtering::EndpointIndependent, false);
    let external = prober.outward(A, X);
    for _ in 0..10 {
        prober.wait(secs(29));
        assert_eq!(prober.outward(A, Y), external);
    }
    assert_eq!(prober.nat.counters().mappings_created(), 1);
}

#[test]
fn packets_inward_keep_it_alive_where_the_nat_says_so() {
    for filtering in [Filtering::EndpointIndependent, Filtering::AddressAndPortDependent] {
        let mut refreshed = prober(filtering, true);
        let mut not = prober(filtering, false);
        let (external, other) = (refreshed.outward(A, X), not.outward(A, X));
        for _ in 0..5 {
            refreshed.wait(secs(20));
            assert_eq!(refreshed.inward(X, external), Ok(at(A)));
        }
        not.wait(secs(20));
        assert_eq!(not.inward(X, other), Ok(at(A)));
        not.wait(secs(20));
        assert_eq!(not.inward(X, other), Err(DropReason::NoMapping));
    }
}

#[test]
fn packets_that_are_not_let_in_keep_nothing_alive() {
    let mut prober = prober(Filtering::AddressAndPortDependent, true);
    let external = prober.outward(A, X);
    prober.wait(secs(20));
    assert_eq!(prober.inward(Y, external), Err(DropReason::Filtered));
    prober.wait(secs(20));
    assert_eq!(prober.inward(X, external), Err(DropReason::NoMapping));
}

#[test]
fn a_permission_expires_though_its_mapping_lives_on() {
    let mut prober = prober(Filtering::AddressAndPortDependent, true);
    let external = prober.outward(A, X);
    prober.wait(secs(20));
    prober.outward(A, Y);
    prober.wait(secs(20));
    assert_eq!(prober.inward(X, external), Err(DropReason::Filtered));
    assert_eq!(prober.inward(Y, external), Ok(at(A)));
}

#[test]
fn a_rebinding_nat_lets_nobody_in_at_the_old_ports_and_goes_on_at_others() {
    let block = |reuse| Allocation::Block { size: 64, aligned: true, reuse };
    for allocation in [
        Allocation::Preserving,
        Allocation::PreservingFirst,
        Allocation::Sequential { step: 1, noise_per_second: 0.0 },
        Allocation::Random,
        block(false),
        block(true),
    ] {
        let mut prober = Prober::new(hard(allocation));
        let old = [prober.outward(A, X), prober.outward(A, Y)];
        prober.nat.rebind();
        assert_eq!(prober.inward(X, old[0]), Err(DropReason::NoMapping), "{allocation:?}");
        let new = [prober.outward(A, X), prober.outward(A, Y)];
        assert!(new.iter().all(|port| !old.contains(port)), "{allocation:?}: {old:?} {new:?}");
        assert_eq!(prober.inward(X, new[0]), Ok(at(A)));
    }
}

#[test]
fn after_a_rebinding_a_host_has_a_block_without_any_port_of_the_old_one() {
    // Three blocks fit, so that one in three draws would hit the old one.
    let config = || hard(Allocation::Block { size: 16_384, aligned: true, reuse: false });
    for seed in 0..20 {
        let mut prober = Prober::seeded(config(), seed);
        let old = prober.outward(A, X).port() / 16_384;
        prober.nat.rebind();
        assert_ne!(prober.outward(A, X).port() / 16_384, old, "seed {seed}");
    }
}
