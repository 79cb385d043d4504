//! What is planned for whom.

use holepunch_wire::nat::Allocation;
use holepunch_wire::plan::{Aim, Announce};

use super::*;

const RANDOM: Allocation = Allocation::Random;
const BLOCK: Allocation = Allocation::Block { lowest: 2060, highest: 2100, size: 64 };
const EI: Filtering = Filtering::EndpointIndependent;
const AD: Filtering = Filtering::AddressDependent;
const APD: Filtering = Filtering::AddressAndPortDependent;

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
    Instant::now()
}

fn side(mapping: Mapping, filtering: Filtering, allocation: Allocation, last: u8) -> Side {
    let profile =
        NatProfile { udp: UdpState::Open, mapping, filtering, allocation, ..NatProfile::default() };
    Side {
        profile,
        endpoint: Some(([203, 0, 113, last], 4000).into()),
        proof: AddressProof::Stun,
        port_mapped: false,
        rtt: Some(Duration::from_millis(80)),
        observed: [203, 0, 113, last].into(),
    }
}

fn easy(filtering: Filtering) -> Side {
    side(Mapping::EndpointIndependent, filtering, Allocation::Preserving, 1)
}

fn hard(filtering: Filtering, allocation: Allocation) -> Side {
    side(Mapping::AddressAndPortDependent, filtering, allocation, 2)
}

fn strategy(a: &Side, b: &Side) -> Strategy {
    let planner = Planner::default();
    let [first, second] = planner.plan([a, b], 1, now());
    let [other_second, other_first] = planner.plan([b, a], 1, now());
    assert_eq!((first.strategy, &first.reason), (second.strategy, &second.reason));
    assert_eq!(first.strategy, other_first.strategy, "the order of the two does not matter");
    if first.strategy != Strategy::Plain {
        assert!(first.reason == other_second.reason && !first.reason.is_empty());
    }
    first.strategy
}

#[test]
fn the_table_of_pairs_is_followed() {
    let with_ip = |mut side: Side, last: u8| {
        side.endpoint = Some(([203, 0, 113, last], 4000).into());
        side
    };
    assert_eq!(strategy(&easy(APD), &with_ip(easy(APD), 3)), Strategy::Plain);
    assert_eq!(strategy(&easy(EI), &hard(APD, RANDOM)), Strategy::Plain);
    assert_eq!(strategy(&easy(AD), &hard(APD, RANDOM)), Strategy::Plain);
    assert_eq!(strategy(&easy(APD), &hard(APD, RANDOM)), Strategy::Birthday);
    assert_eq!(strategy(&easy(Filtering::Unknown), &hard(APD, RANDOM)), Strategy::Birthday);
    assert_eq!(strategy(&easy(APD), &hard(EI, RANDOM)), Strategy::Birthday);
    assert_eq!(strategy(&easy(APD), &hard(APD, BLOCK)), Strategy::Sweep);
    assert_eq!(strategy(&easy(APD), &hard(APD, Allocation::Preserving)), Strategy::Preserved);
    let sequential = Allocation::Sequential { step: 2 };
    assert_eq!(strategy(&easy(APD), &hard(APD, sequential)), Strategy::Sequence);
    let both = |a, b| strategy(&a, &with_ip(b, 3));
    assert_eq!(both(hard(EI, RANDOM), hard(EI, RANDOM)), Strategy::Plain);
    assert_eq!(both(hard(EI, RANDOM), hard(AD, RANDOM)), Strategy::Plain);
    assert_eq!(both(hard(AD, RANDOM), hard(AD, RANDOM)), Strategy::Birthday);
    assert_eq!(both(hard(APD, RANDOM), hard(APD, RANDOM)), Strategy::Relay);
    assert_eq!(both(hard(EI, RANDOM), hard(APD, RANDOM)), Strategy::Relay);
    let shows_itself = || side(Mapping::AddressDependent, APD, RANDOM, 3);
    assert_eq!(strategy(&hard(EI, RANDOM), &shows_itself()), Strategy::Birthday);
    assert_eq!(strategy(&hard(AD, BLOCK), &shows_itself()), Strategy::Sweep);
    assert_eq!(strategy(&hard(APD, RANDOM), &shows_itself()), Strategy::Relay);
    assert_eq!(both(hard(APD, sequential), hard(APD, sequential)), Strategy::Sequence);
    let preserving = Allocation::Preserving;
    assert_eq!(both(hard(APD, preserving), hard(APD, preserving)), Strategy::Preserved);
    assert_eq!(both(hard(APD, preserving), hard(APD, sequential)), Strategy::Sequence);
    assert_eq!(both(hard(APD, BLOCK), hard(APD, BLOCK)), Strategy::TestReuse);
    let adm = side(Mapping::AddressDependent, AD, RANDOM, 4);
    assert_eq!(strategy(&adm, &hard(APD, RANDOM)), Strategy::Birthday);
}

#[test]
fn the_many_sockets_are_on_the_hard_side() {
    let [seeker, sought] =
        Planner::default().plan([&easy(APD), &hard(APD, RANDOM)], 7, now()).map(|plan| {
            assert_eq!(plan.number, 7);
            plan.search.unwrap()
        });
    assert_eq!((seeker.sockets, seeker.aim, seeker.probes_max), (1, Aim::Random, 2048));
    assert_eq!((sought.sockets, sought.aim), (256, Aim::FreshPort));
    let [sought, _] = Planner::default().plan([&hard(APD, RANDOM), &easy(APD)], 1, now());
    assert_eq!(sought.search.unwrap().sockets, 256);
}

#[test]
fn a_block_is_swept_from_its_middle_as_far_as_its_ports_may_lie() {
    let [seeker, _] = Planner::default().plan([&easy(APD), &hard(APD, BLOCK)], 1, now());
    let Aim::Window { first, last, centre } = seeker.search.unwrap().aim else { panic!() };
    assert_eq!(centre, 2080);
    assert!(first <= 2100 - 63 && last >= 2060 + 63);
}

#[test]
fn blocks_that_reuse_ports_are_swept_and_others_are_left_alone_unless_both_ask() {
    let block = |reuses, search, last| {
        let mut side = hard(APD, BLOCK);
        side.profile.reuses_ports = reuses;
        side.profile.search = search;
        side.endpoint = Some(([203, 0, 113, last], 4000).into());
        side
    };
    let usual = SearchWish::Usual;
    let of = |reuses, search| strategy(&block(reuses, search, 1), &block(reuses, search, 2));
    assert_eq!(of(Some(true), usual), Strategy::Sweep);
    assert_eq!(of(Some(false), usual), Strategy::Relay);
    let mixed = strategy(&block(Some(true), usual, 1), &block(Some(false), usual, 2));
    assert_eq!(mixed, Strategy::Relay);
    let exhaustive = SearchWish::Exhaustive;
    assert_eq!(of(Some(false), exhaustive), Strategy::Exhaust);
    let sides = [&block(Some(false), exhaustive, 1), &block(Some(false), exhaustive, 2)];
    let [many, back] = Planner::default().plan(sides, 1, now()).map(|plan| plan.search.unwrap());
    let Aim::Window { first, last, .. } = many.aim else { panic!() };
    assert!(first == last && (2060..=2100).contains(&first), "one port of the other block");
    assert_eq!(many.sockets, 62);
    assert_eq!(back.aim, Aim::Window { first: 2037, last: 2123, centre: 2080 });
}

#[test]
fn the_many_sockets_aim_at_the_port_that_a_peer_shows() {
    let shows_itself = side(Mapping::AddressDependent, APD, RANDOM, 3);
    let pair = [&hard(AD, RANDOM), &shows_itself];
    let [sought, seeker] = Planner::default().plan(pair, 1, now()).map(|plan| plan.search.unwrap());
    assert_eq!((sought.sockets, sought.aim), (256, Aim::Observed));
    assert_eq!((seeker.sockets, seeker.aim), (1, Aim::Random));
}

#[test]
fn a_block_is_not_used_up_in_search_of_a_random_port_unless_both_ask() {
    let random = |search| {
        let mut side = side(Mapping::AddressDependent, AD, RANDOM, 3);
        side.profile.search = search;
        side
    };
    let block = |reuses, search| {
        let mut side = hard(APD, BLOCK);
        (side.profile.reuses_ports, side.profile.search) = (reuses, search);
        side
    };
    let of = |reuses, search| strategy(&random(search), &block(reuses, search));
    assert_eq!(of(None, SearchWish::Usual), Strategy::TestReuse);
    assert_eq!(of(Some(false), SearchWish::Usual), Strategy::Relay);
    assert_eq!(of(Some(true), SearchWish::Usual), Strategy::Birthday);
    assert_eq!(of(Some(false), SearchWish::Exhaustive), Strategy::Birthday);
}

#[test]
fn fresh_sockets_tell_their_ports_where_the_nat_keeps_them() {
    let pair = [&easy(APD), &hard(APD, Allocation::Preserving)];
    let [seeker, sought] = Planner::default().plan(pair, 1, now()).map(|plan| plan.search.unwrap());
    assert_eq!(seeker.aim, Aim::Announced);
    assert!(sought.fresh && sought.announce == Announce::LocalPorts);
}

#[test]
fn there_is_no_search_toward_an_address_that_nobody_vouches_for() {
    let mut victim = easy(APD);
    victim.proof = AddressProof::None;
    assert_eq!(strategy(&victim, &hard(APD, RANDOM)), Strategy::Relay);
    let mut unwilling = easy(APD);
    unwilling.profile.search = SearchWish::Never;
    assert_eq!(strategy(&unwilling, &hard(APD, RANDOM)), Strategy::Relay);
}

#[test]
fn a_port_that_a_router_has_opened_saves_the_search() {
    let with_ip = |last| side(Mapping::AddressAndPortDependent, APD, RANDOM, last);
    let (mut a, mut b) = (with_ip(1), with_ip(2));
    assert_eq!(strategy(&a, &b), Strategy::Relay);
    b.port_mapped = true;
    assert_eq!(strategy(&a, &b), Strategy::Plain);
    b.profile.udp = UdpState::Blocked;
    assert_eq!(strategy(&a, &b), Strategy::Plain, "it is open, whatever STUN servers say");
    (a.profile.udp, b.profile.udp) = (UdpState::Blocked, UdpState::Open);
    assert_eq!(strategy(&a, &b), Strategy::Relay);
}

#[test]
fn blocked_udp_means_the_relay_and_unknown_nats_mean_plain_checks() {
    let mut blocked = easy(APD);
    blocked.profile.udp = UdpState::Blocked;
    assert_eq!(strategy(&blocked, &hard(EI, RANDOM)), Strategy::Relay);
    assert_eq!(strategy(&blocked, &side(Mapping::Unknown, EI, RANDOM, 3)), Strategy::Relay);
    let unknown = side(Mapping::Unknown, Filtering::Unknown, Allocation::Unknown, 3);
    assert_eq!(strategy(&unknown, &hard(APD, RANDOM)), Strategy::Plain);
}

#[test]
fn without_stun_local_addresses_an_open_port_and_ipv6_are_tried() {
    let blocked = |last| {
        let mut side = side(Mapping::Unknown, Filtering::Unknown, Allocation::Unknown, last);
        (side.profile.udp, side.endpoint) = (UdpState::Blocked, None);
        side
    };
    assert_eq!(strategy(&blocked(1), &blocked(2)), Strategy::Relay);
    assert_eq!(strategy(&blocked(1), &blocked(1)), Strategy::Plain, "one network");
    assert_eq!(strategy(&blocked(2), &hard(APD, RANDOM)), Strategy::Plain, "one network");
    let mut mapped = blocked(2);
    mapped.port_mapped = true;
    assert_eq!(strategy(&blocked(1), &mapped), Strategy::Plain);
    let mut others = easy(APD);
    others.port_mapped = true;
    assert_eq!(strategy(&blocked(2), &others), Strategy::Relay, "nothing gets out to it");
    let with_ipv6 = |mut side: Side| {
        side.profile.ipv6 = Some(true);
        side
    };
    assert_eq!(strategy(&with_ipv6(blocked(1)), &with_ipv6(blocked(2))), Strategy::Plain);
    assert_eq!(strategy(&with_ipv6(blocked(1)), &blocked(2)), Strategy::Relay);
}

#[test]
fn a_router_that_remaps_gets_an_opener_and_the_nearer_side_waits() {
    let mut remapping = easy(APD);
    remapping.profile.remaps_after_inbound = Some(true);
    let mut far = easy(APD);
    far.endpoint = Some(([198, 51, 100, 1], 4000).into());
    far.rtt = Some(Duration::from_millis(280));
    let [near, far] = Planner::default().plan([&remapping, &far], 1, now());
    assert_eq!((near.strategy, near.opener_ttl), (Strategy::Opener, Some(OPENER_TTL)));
    assert_eq!((near.delay_ms, far.delay_ms), (120, 20));
}

#[test]
fn the_first_packets_of_a_search_stay_near_until_it_is_known_what_an_early_one_does() {
    let opener = |mapping, remaps| {
        let mut seeker = easy(APD);
        (seeker.profile.mapping, seeker.profile.remaps_after_inbound) = (mapping, remaps);
        let [_, sought] = Planner::default().plan([&seeker, &hard(APD, RANDOM)], 1, now());
        assert!(sought.search.is_some());
        (sought.opener_ttl, sought.delay_ms > 0)
    };
    let endpoint_independent = Mapping::EndpointIndependent;
    assert_eq!(opener(endpoint_independent, None), (Some(OPENER_TTL), false), "later ones do not");
    assert_eq!(opener(endpoint_independent, Some(true)), (Some(OPENER_TTL), true), "none does");
    assert_eq!(opener(endpoint_independent, Some(false)), (None, false));
    assert_eq!(opener(Mapping::None, None), (None, false), "nothing can be moved");
}

#[test]
fn a_seeker_that_is_told_of_at_one_port_seeks_from_a_fresh_one() {
    let searches = |mapping, remaps, allocation| {
        let mut seeker = easy(APD);
        (seeker.profile.mapping, seeker.profile.remaps_after_inbound) = (mapping, remaps);
        let pair = [&seeker, &hard(APD, allocation)];
        Planner::default().plan(pair, 1, now()).map(|plan| plan.search.unwrap())
    };
    let is_fresh = |mapping, remaps, allocation| {
        let [seeker, sought] = searches(mapping, remaps, allocation);
        let is_fresh = seeker.fresh && seeker.announce == Announce::FreshPort;
        assert_eq!(is_fresh, sought.aim == Aim::FreshPort, "both or none");
        assert!(is_fresh || (!seeker.fresh && sought.aim == Aim::Endpoint));
        is_fresh
    };
    let independent = Mapping::EndpointIndependent;
    for remaps in [None, Some(false), Some(true)] {
        // The same whatever is known of early packets: what is learnt meanwhile starts no other search.
        assert!(is_fresh(independent, remaps, BLOCK), "{remaps:?}");
        assert!(is_fresh(independent, remaps, RANDOM), "{remaps:?}");
    }
    assert!(!is_fresh(Mapping::None, None, BLOCK), "nothing can be moved");
    assert!(!is_fresh(independent, Some(true), Allocation::Preserving), "these ports are fresh");
    let sequential = Allocation::Sequential { step: 1 };
    assert!(!is_fresh(independent, Some(true), sequential), "and so are those that follow");
}

#[test]
fn a_search_that_failed_is_not_repeated() {
    let (a, b) = (easy(APD), hard(APD, RANDOM));
    let mut planner = Planner::default();
    let at = now();
    planner.record([&a, &b], Strategy::Birthday, false, at);
    let [plan, _] = planner.plan([&a, &b], 2, at);
    assert_eq!(plan.strategy, Strategy::Relay);
    assert!(plan.reason.contains("birthday"), "{}", plan.reason);
}

#[test]
fn two_with_ipv6_need_no_search() {
    let with = |mut side: Side, last: u8| {
        side.profile.ipv6 = Some(true);
        side.endpoint = Some(([203, 0, 113, last], 4000).into());
        side
    };
    let (a, b) = (with(hard(APD, RANDOM), 1), with(hard(APD, RANDOM), 2));
    assert_eq!(strategy(&a, &b), Strategy::Plain);
    assert_eq!(strategy(&a, &hard(APD, RANDOM)), Strategy::Relay);
}
