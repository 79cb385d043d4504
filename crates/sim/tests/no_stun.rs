//! Workers that get no answer from any STUN server: those of one network find each other by their own
//! addresses, and others are told soon that nothing is to be expected.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use holepunch_sim::lab::World;
use holepunch_sim::presets::{NatKind, Site, SiteSpec, place, place_pair};
use holepunch_traversal::SessionStatus;
use holepunch_wire::nat::SearchWish;
use holepunch_wire::plan::Strategy;

const SEEDS: u64 = 50;
const WAY: Duration = Duration::from_millis(40);
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2))];
/// A STUN server counts as silent after four requests, 3.5 s after the first.
const SILENT_AFTER: Duration = Duration::from_millis(3500);

/// Two workers in one LAN behind a router through which no UDP gets; what the rendezvous sees of each.
fn one_lan(seed: u64, observed: [IpAddr; 2]) -> (World, Instant) {
    let mut world = World::new(seed);
    let spec = SiteSpec::new(NatKind::SameLan);
    let sites = place_pair(&mut world.net, spec, spec);
    assert_eq!(sites[0].boxes, sites[1].boxes);
    world.net.set_udp_blocked(sites[0].boxes[0], true);
    start(world, &sites, observed)
}

/// The second worker comes a moment after the first.
fn start(mut world: World, sites: &[Site], observed: [IpAddr; 2]) -> (World, Instant) {
    for (site, observed) in sites.iter().zip(observed) {
        world.run(world.now() + Duration::from_secs(1), |_| false);
        world.start(site, WAY, observed, SearchWish::Usual, None);
    }
    let begun = world.now();
    (world, begun)
}

fn statuses(world: &World) -> Option<[SessionStatus; 2]> {
    Some([world.status(0)?, world.status(1)?])
}

fn is_linked(world: &World) -> bool {
    statuses(world).is_some_and(|both| both.iter().all(|it| it.path.is_some()))
}

#[test]
fn two_of_one_lan_are_linked_by_their_own_addresses_as_soon_as_stun_counts_as_silent() {
    for seed in 0..SEEDS {
        let (mut world, begun) = one_lan(seed, [OUTSIDE[0]; 2]);
        world.run(begun + Duration::from_secs(10), is_linked);
        let both = statuses(&world).filter(|_| is_linked(&world));
        let both = both.unwrap_or_else(|| panic!("seed {seed}: no link"));
        for status in both {
            assert_eq!(status.strategy, Strategy::Plain, "seed {seed}");
            let remote = status.path.unwrap().remote;
            assert!(remote.to_string().starts_with("192.168.1."), "seed {seed}: {remote}");
        }
        // Words to the rendezvous and back, and a check and its answer in the LAN.
        let most = SILENT_AFTER + 3 * WAY;
        let took = world.now() - begun;
        assert!(took <= most, "seed {seed}: {took:?}");
    }
}

#[test]
fn two_of_one_lan_whose_signalling_takes_different_ways_out_are_linked_all_the_same() {
    for seed in 0..SEEDS {
        let (mut world, begun) = one_lan(seed, OUTSIDE);
        world.run(begun + Duration::from_secs(10), is_linked);
        assert!(is_linked(&world), "seed {seed}");
    }
}

#[test]
fn one_that_stun_answers_and_one_that_it_does_not_are_linked_in_one_lan() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let spec = SiteSpec::new(NatKind::SameLan);
        let sites = place_pair(&mut world.net, spec, spec);
        let (mut world, _) = start(world, &sites[..1], [OUTSIDE[0]; 2]);
        world.run(world.now() + Duration::from_secs(2), |_| false);
        world.net.set_udp_blocked(sites[0].boxes[0], true);
        world.start(&sites[1], WAY, OUTSIDE[0], SearchWish::Usual, None);
        world.run(world.now() + Duration::from_secs(10), is_linked);
        assert!(is_linked(&world), "seed {seed}");
    }
}

#[test]
fn two_of_different_networks_are_told_at_once_and_leave_each_other_after_a_few_checks() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let spec = SiteSpec::new(NatKind::UdpBlocked);
        let sites = [place(&mut world.net, spec, 1), place(&mut world.net, spec, 2)];
        let (mut world, begun) = start(world, &sites, OUTSIDE);
        world.watch(0);
        world.run(begun + Duration::from_secs(8), |world| statuses(world).is_some());
        let [first, second] = statuses(&world).unwrap();
        assert_eq!([first.strategy, second.strategy], [Strategy::Relay; 2], "seed {seed}");
        let offered = world.now();
        world.run(offered + Duration::from_secs(4), |_| false);
        let probes = world.status(0).unwrap().probes;
        assert!(probes == 5, "seed {seed}: {probes} checks to the peer's only address");
        world.run(offered + Duration::from_secs(6), |_| false);
        assert!(statuses(&world).is_none(), "seed {seed}: they have left");
    }
}
