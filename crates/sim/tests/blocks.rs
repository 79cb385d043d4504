//! Blocks of ports that begin anywhere, and machines that are busy.

use std::time::Duration;

use holepunch_sim::lab::{Outcome, Scenario, Verdict};
use holepunch_sim::nat::Filtering;
use holepunch_sim::presets::{HardPorts, NatKind};

const SEEDS: u64 = 500;
const NEAR: Duration = Duration::from_millis(10);

/// Two that are 10 ms from the core, behind NATs that use each port of a block of 64 for several peers.
fn two_blocks() -> Scenario {
    let kind = NatKind::Hard(Filtering::AddressAndPortDependent, HardPorts::Block64Reuse);
    Scenario { ways: [NEAR; 2], ..Scenario::new(kind, kind) }
}

/// All of them are linked.
fn links(scenario: &Scenario) {
    let outcomes: Vec<Outcome> = (0..SEEDS).map(|seed| scenario.run(seed)).collect();
    let failed = outcomes.iter().filter(|it| it.verdict != Verdict::Direct);
    let failed: Vec<_> = failed.map(|it| (it.seed, it.strategy, &it.reason)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn two_blocks_at_any_offset_that_use_ports_again_are_linked() {
    links(&two_blocks());
}

#[test]
fn they_are_linked_also_where_both_machines_are_busy() {
    links(&Scenario { busy: true, ..two_blocks() });
}

#[test]
fn a_test_for_reuse_tells_what_it_has_found_and_not_each_of_its_samples() {
    let kind = NatKind::Hard(Filtering::AddressAndPortDependent, HardPorts::Block512);
    for seed in 0..20 {
        let (outcome, lines) = Scenario::new(kind, kind).trace(seed);
        let reason = outcome.reason.unwrap_or_default();
        assert!(reason.contains("use up both blocks"), "seed {seed}: {reason}");
        for who in ["first", "second"] {
            let own = lines.iter().filter(|line| line.starts_with(who));
            let told = own.filter(|line| line.contains("→ NAT profile")).count();
            assert!(told <= 6, "seed {seed}: {told} messages");
        }
    }
}
