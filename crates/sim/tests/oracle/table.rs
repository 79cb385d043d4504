//! What the guide on NATs says of each pair, and where the oracle knows better.

use holepunch_sim::nat::{Allocation, Filtering, InboundFirst, Mapping, NatConfig};
use holepunch_sim::oracle::{Guesses, Oracle, Verdict, verdict, verdict_of_kinds};
use holepunch_sim::presets::{Layer, NatKind};

/// The guide's rows and columns; hard ones in both kinds of mapping. Their ports are in sequence, so
/// that no pair is hopeless.
const KINDS: [&str; 11] = [
    "public",
    "full-cone",
    "eim-adf",
    "eim-apdf",
    "firewall",
    "hard-eif-sequential",
    "adm-eif-sequential",
    "hard-adf-sequential",
    "adm-adf-sequential",
    "hard-apdf-sequential",
    "adm-apdf-sequential",
];

fn plain() -> Verdict {
    Verdict::Plain { opener: false }
}

fn search(ways: &[(u8, u8)]) -> Verdict {
    Verdict::Search {
        ways: ways.iter().map(|(of_a, of_b)| Guesses { of_a: *of_a, of_b: *of_b }).collect(),
    }
}

fn kind(name: &str) -> NatKind {
    name.parse().unwrap()
}

/// The guide's cell for `a` in the row and `b` in the column, `a` not after `b`.
fn guide(a: &str, b: &str) -> Verdict {
    let is_hard = |name: &str| name.starts_with("hard-") || name.starts_with("adm-");
    let has = |name: &str, filter: &str| name.contains(filter);
    match (a, b) {
        ("public" | "full-cone" | "eim-adf", _) => plain(),
        ("eim-apdf" | "firewall", b) if is_hard(b) => search(&[(0, 1)]),
        ("eim-apdf" | "firewall", _) => plain(),
        (a, b) if has(a, "-eif") && !has(b, "-apdf") => plain(),
        (a, _) if has(a, "-eif") => search(&[(1, 1)]),
        (a, b) if has(a, "-adf") && has(b, "-adf") => search(&[(0, 1), (1, 0)]),
        (a, _) if a.starts_with("adm-adf") => search(&[(1, 0)]),
        (_, _) => search(&[(1, 1)]),
    }
}

/// Where the oracle differs from the guide. The guide's cells are for all hard NATs alike; with
/// address-dependent mapping on one side less is needed.
///
/// With APDF on B and no filter on A, B's packets arrive from the start, and A knows B's port for
/// them. What A lacks is that B's filter knows A's port for packets to there.
/// - A has ADM: A's port toward B's address is one for all. B guesses it; its packet arrives, and
///   A's answer goes out through that same port, which B's filter now knows.
/// - B has ADM: B's port toward A's address is one for all, so that B can guess A's port from there
///   without leaving it.
///
/// With APDF and ADM on B, APDM and ADF on A: B guesses A's port toward B's reflexive endpoint, which
/// tells A B's port; then A's port toward that. Two ports of one side, one after the other, instead
/// of one of each at once.
fn differences() -> Vec<(&'static str, &'static str, Verdict)> {
    vec![
        ("hard-eif-sequential", "adm-apdf-sequential", search(&[(1, 0)])),
        ("adm-eif-sequential", "hard-apdf-sequential", search(&[(1, 0)])),
        ("adm-eif-sequential", "adm-apdf-sequential", search(&[(1, 0)])),
        ("hard-adf-sequential", "adm-apdf-sequential", search(&[(1, 1), (2, 0)])),
    ]
}

#[test]
fn the_oracle_says_what_the_guide_says_but_for_the_differences_explained() {
    let mut oracle = Oracle::default();
    let mut differing = Vec::new();
    for (row, a) in KINDS.iter().enumerate() {
        for b in &KINDS[row..] {
            let found = oracle.verdict_of_kinds(kind(a), kind(b));
            if found != guide(a, b) {
                differing.push((*a, *b, found));
            }
        }
    }
    assert_eq!(differing, differences());
}

#[test]
fn what_holds_for_a_and_b_holds_for_b_and_a() {
    let mut oracle = Oracle::default();
    for a in KINDS {
        for b in KINDS {
            let there = oracle.verdict_of_kinds(kind(a), kind(b));
            let back = match oracle.verdict_of_kinds(kind(b), kind(a)) {
                Verdict::Search { ways } => {
                    let turned =
                        ways.iter().rev().map(|way| Guesses { of_a: way.of_b, of_b: way.of_a });
                    Verdict::Search { ways: turned.collect() }
                }
                other @ (Verdict::Plain { .. } | Verdict::Hopeless | Verdict::Impossible) => other,
            };
            assert_eq!(there, back, "{a} and {b}");
        }
    }
}

#[test]
fn ports_of_two_random_nats_that_must_be_found_at_once_are_hopeless() {
    let of = |a, b| verdict_of_kinds(kind(a), kind(b));
    assert_eq!(of("hard-apdf-random", "hard-apdf-random"), Verdict::Hopeless);
    assert_eq!(of("hard-apdf-random", "hard-apdf-block64"), search(&[(1, 1)]));
    assert_eq!(of("hard-adf-random", "hard-adf-random"), search(&[(0, 1), (1, 0)]));
    // An outer NAT that draws ports at random hides what an inner one does.
    let home = Layer::Nat(
        NatConfig::new(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent)
            .with_allocation(Allocation::PreservingFirst),
    );
    let outer = Layer::Nat(
        NatConfig::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent)
            .with_allocation(Allocation::Random),
    );
    let chain = [outer, home];
    assert_eq!(verdict(&chain, &kind("hard-apdf-random").layers()), Verdict::Hopeless);
}

#[test]
fn without_udp_nothing_is_possible() {
    for other in KINDS {
        let found = verdict_of_kinds(kind("udp-blocked"), kind(other));
        assert_eq!(found, Verdict::Impossible, "{other}");
    }
}

#[test]
fn two_routers_that_remap_need_an_opener_and_one_alone_only_the_right_order() {
    let remap = kind("remap");
    assert_eq!(verdict_of_kinds(remap, remap), Verdict::Plain { opener: true });
    for other in ["public", "full-cone", "eim-adf", "eim-apdf", "firewall"] {
        assert_eq!(verdict_of_kinds(remap, kind(other)), plain(), "{other}");
    }
    assert_eq!(verdict_of_kinds(remap, kind("hard-apdf-random")), search(&[(0, 1)]));
}

#[test]
fn of_two_nats_in_a_row_the_strictest_counts() {
    let nat = |mapping, filtering| Layer::Nat(NatConfig::new(mapping, filtering));
    let open = nat(Mapping::EndpointIndependent, Filtering::EndpointIndependent);
    let closed = nat(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let hard = nat(Mapping::AddressAndPortDependent, Filtering::EndpointIndependent);
    let remapping = Layer::Nat(NatConfig {
        inbound: InboundFirst::Remap,
        ..NatConfig::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent)
    });
    let peer = kind("eim-apdf").layers();
    for chain in [[open.clone(), hard.clone()], [hard, open.clone()]] {
        assert_eq!(verdict(&chain, &peer), search(&[(1, 0)]));
    }
    assert_eq!(verdict(&[open.clone(), closed.clone()], &peer), plain());
    let hidden = [closed, remapping.clone()];
    // What the outer NAT does not let in leaves nothing behind at the inner one.
    assert_eq!(verdict(&hidden, &hidden), plain());
    let exposed = [open, remapping];
    assert_eq!(verdict(&exposed, &exposed), Verdict::Plain { opener: true });
}

#[test]
fn same_lan_and_carrier_pairs_link_plainly() {
    for name in ["same-lan", "carrier"] {
        assert_eq!(verdict_of_kinds(kind(name), kind(name)), plain(), "{name}");
    }
}
