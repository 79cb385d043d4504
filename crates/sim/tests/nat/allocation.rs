//! The choice of external ports.

use std::collections::BTreeSet;

use holepunch_sim::nat::{Allocation, DropReason, Filtering, Mapping, NatConfig, PORT_MIN};

use crate::common::secs;
use crate::prober::{A, A2, B, Prober, X, Y, hard, outside};

fn plain(allocation: Allocation) -> NatConfig {
    NatConfig::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent)
        .with_allocation(allocation)
}

fn sequential(step: i16, noise_per_second: f64) -> NatConfig {
    hard(Allocation::Sequential { step, noise_per_second })
}

/// External ports of mappings of one socket to this many destinations.
fn ports(prober: &mut Prober, count: u16) -> Vec<u16> {
    (0..count).map(|n| prober.outward(A, &outside(n)).port()).collect()
}

#[test]
fn the_internal_port_is_kept_where_it_is_free() {
    let mut prober = Prober::new(plain(Allocation::Preserving));
    assert_eq!(prober.outward(A, X).port(), 5000);
    assert_ne!(prober.outward(B, X).port(), 5000, "taken by the first");
    assert_eq!(prober.outward(A2, X).port(), 5001);
}

#[test]
fn the_internal_port_is_kept_for_the_first_destination_alone() {
    let mut prober = Prober::new(hard(Allocation::PreservingFirst));
    assert_eq!(prober.outward(A, X).port(), 5000);
    assert_ne!(prober.outward(A, Y).port(), 5000);
    assert_eq!(prober.outward(A2, Y).port(), 5001, "for each socket");
    assert_ne!(prober.outward(B, X).port(), 5000, "taken");
}

#[test]
fn a_socket_whose_port_was_taken_at_first_does_not_get_it_for_a_later_destination() {
    let mut prober = Prober::new(hard(Allocation::PreservingFirst));
    assert_eq!(prober.outward(B, X).port(), 5000);
    prober.outward(A, X);
    prober.wait(secs(100));
    prober.outward(A, X);
    prober.wait(secs(100));
    assert_eq!(prober.nat.table_len(), 2, "as of the last packet");
    assert_ne!(prober.outward(A, Y).port(), 5000, "free by now, but this is not the first");
    assert_eq!(prober.nat.table_len(), 2, "B's has expired, A's two are there");
}

#[test]
fn ports_follow_each_other_by_the_step() {
    for step in [1, 2, -2] {
        let seen = ports(&mut Prober::new(sequential(step, 0.0)), 20);
        for pair in seen.windows(2) {
            let next = i32::from(pair[0]) + i32::from(step);
            assert_eq!(i32::from(pair[1]), next, "step {step}: {seen:?}");
        }
    }
}

#[test]
fn ports_in_sequence_go_round_and_step_over_those_taken() {
    let mut prober = Prober::new(sequential(7000, 0.0));
    let seen = ports(&mut prober, 100);
    assert!(seen.iter().all(|port| *port >= PORT_MIN));
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 100, "none twice");
    let first = i32::from(seen[0]);
    let sum = (first + 10 * 7000 - i32::from(PORT_MIN)) % 64_512 + i32::from(PORT_MIN);
    assert_eq!(i32::from(seen[10]), sum, "7000 and 64,512 meet after 576 steps only");
}

#[test]
fn other_hosts_take_ports_of_the_sequence_at_the_rate_of_the_noise() {
    let mut prober = Prober::new(sequential(1, 3.0));
    let mut gaps = Vec::new();
    let mut last = prober.outward(A, &outside(0)).port();
    for n in 1..=400 {
        prober.wait(secs(2));
        let port = prober.outward(A, &outside(n)).port();
        gaps.push((i32::from(port) - i32::from(last)).rem_euclid(64_512) - 1);
        last = port;
    }
    let mean = f64::from(gaps.iter().sum::<i32>()) / 400.0;
    let square = gaps.iter().map(|gap| (f64::from(*gap) - mean).powi(2)).sum::<f64>() / 400.0;
    // Poisson with a mean of 6 has a variance of 6.
    assert!((5.5..6.5).contains(&mean), "{mean}");
    assert!((4.8..7.2).contains(&square), "{square}");
}

#[test]
fn a_quiet_sequence_is_not_disturbed_by_time() {
    let mut prober = Prober::new(sequential(1, 0.0));
    let first = prober.outward(A, X).port();
    prober.wait(secs(100));
    assert_eq!(prober.outward(A, Y).port().wrapping_sub(first), 1);
}

#[test]
fn a_block_is_contiguous_and_every_port_of_it_is_used() {
    for (seed, aligned) in [(1, false), (2, false), (3, true), (4, true)] {
        let config = hard(Allocation::Block { size: 64, aligned, reuse: false });
        let seen = ports(&mut Prober::seeded(config, seed), 64);
        let all: BTreeSet<u16> = seen.iter().copied().collect();
        let (low, high) = (*all.first().unwrap(), *all.last().unwrap());
        assert_eq!((all.len(), high - low), (64, 63), "aligned: {aligned}");
        assert!(!aligned || low.is_multiple_of(64), "{low}");
        assert!(!seen.is_sorted(), "random within the block");
    }
}

#[test]
fn unaligned_blocks_begin_anywhere() {
    let config = || hard(Allocation::Block { size: 64, aligned: false, reuse: false });
    let lows = (0..20).map(|seed| {
        let seen = ports(&mut Prober::seeded(config(), seed), 64);
        seen.into_iter().min().unwrap() % 64
    });
    assert!(lows.collect::<BTreeSet<_>>().len() > 10);
}

#[test]
fn a_block_without_reuse_is_used_up_by_as_many_mappings_as_it_has_ports() {
    let mut prober = Prober::new(hard(Allocation::Block { size: 64, aligned: true, reuse: false }));
    ports(&mut prober, 64);
    assert_eq!(prober.try_outward(A, &outside(64)), Err(DropReason::PortsExhausted));
    assert_eq!(prober.try_outward(A2, X), Err(DropReason::PortsExhausted), "of the same host");
    assert!(prober.try_outward(B, X).is_ok(), "another host has another block");
    assert!(prober.try_outward(A, &outside(3)).is_ok(), "old mappings go on");
    assert_eq!(prober.nat.counters().drops(DropReason::PortsExhausted), 2);
    prober.wait(secs(121));
    assert!(prober.try_outward(A2, X).is_ok(), "ports come back when mappings expire");
}

#[test]
fn hosts_have_blocks_that_do_not_overlap() {
    let mut prober =
        Prober::new(plain(Allocation::Block { size: 512, aligned: false, reuse: false }));
    let mut all = BTreeSet::new();
    for host in 0..40 {
        let mut own = BTreeSet::new();
        for port in 0..50 {
            let inside = format!("192.168.1.{host}:{}", 3000 + port);
            own.insert(prober.outward(&inside, X).port());
        }
        let span = own.last().unwrap() - own.first().unwrap();
        assert!(span < 512);
        let (low, high) = (*own.first().unwrap(), *own.last().unwrap());
        assert!(all.range(low..=high).next().is_none(), "nobody else's port in between");
        all.append(&mut own);
    }
    assert_eq!(all.len(), 2000);
}

#[test]
fn a_block_with_reuse_serves_as_many_destinations_as_one_likes_each_by_one_flow_per_port() {
    let mut prober = Prober::new(hard(Allocation::Block { size: 64, aligned: false, reuse: true }));
    let seen = ports(&mut prober, 640);
    let all: BTreeSet<u16> = seen.iter().copied().collect();
    assert!(all.len() > 60 && all.last().unwrap() - all.first().unwrap() < 64, "{}", all.len());
    // Toward one destination each socket has a port of its own, so that 64 sockets use them up.
    let toward_x = |n: u16| format!("192.168.1.2:{}", 6000 + n);
    let own: BTreeSet<u16> = (0..64).map(|n| prober.outward(&toward_x(n), X).port()).collect();
    assert_eq!(own.len(), 64);
    assert_eq!(prober.try_outward(&toward_x(64), X), Err(DropReason::PortsExhausted));
}

#[test]
fn with_endpoint_independent_mapping_no_port_is_reused() {
    let mut prober = Prober::new(plain(Allocation::Block { size: 4, aligned: false, reuse: true }));
    for n in 0..4 {
        prober.outward(&format!("192.168.1.2:{}", 6000 + n), &outside(n));
    }
    let fifth = prober.try_outward("192.168.1.2:7000", &outside(9));
    assert_eq!(fifth, Err(DropReason::PortsExhausted));
}

#[test]
fn random_ports_come_from_the_whole_range_and_never_twice() {
    let mut prober = Prober::new(hard(Allocation::Random));
    let seen = ports(&mut prober, 4000);
    let all: BTreeSet<u16> = seen.iter().copied().collect();
    assert_eq!(all.len(), 4000);
    assert!(*all.first().unwrap() >= PORT_MIN);
    // Sixteen equal parts of the range: each has 250 ± 5 standard deviations.
    let mut parts = [0_u32; 16];
    for port in seen {
        parts[usize::from((port - PORT_MIN) / 4032)] += 1;
    }
    assert!(parts.iter().all(|count| (170..330).contains(count)), "{parts:?}");
}

#[test]
fn the_last_free_port_is_found() {
    // A block as large as the range: random draws alone would miss the last ports.
    let config = plain(Allocation::Block { size: 2048, aligned: false, reuse: false });
    let mut prober = Prober::new(config);
    let all: BTreeSet<u16> = (0..2048_u16)
        .map(|n| prober.outward(&format!("192.168.1.2:{}", 2000 + n), X).port())
        .collect();
    assert_eq!(all.len(), 2048);
}
