//! What is planned for whom.

use holepunch_wire::nat::Allocation;
use holepunch_wire::plan::{Aim, Announce};

use super::*;

const RANDOM: Allocation = Allocation::Random;
const BLOCK: Allocation = Allocation::Block { lowest: 2060, highest: 2100, size: 64 };
const EI: Filtering = Filtering::EndpointIndependent;
const AD: Filtering = Filtering::AddressDependent;
const APD: Filtering = Filtering::AddressAndPortDependent;

fn none() -> Tried {
    Tried::default()
}

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
    let [first, second] = planner.plan([a, b], 1, &none(), now());
    let [other_second, other_first] = planner.plan([b, a], 1, &none(), now());
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
        Planner::default().plan([&easy(APD), &hard(APD, RANDOM)], 7, &none(), now()).map(|plan| {
            assert_eq!(plan.number, 7);
            plan.search.unwrap()
        });
    assert_eq!((seeker.sockets, seeker.aim, seeker.probes_max), (1, Aim::Random, 2048));
    assert_eq!((sought.sockets, sought.aim), (256, Aim::FreshPort));
    let [sought, _] = Planner::default().plan([&hard(APD, RANDOM), &easy(APD)], 1, &none(), now());
    assert_eq!(sought.search.unwrap().sockets, 256);
}

#[test]
fn a_block_is_swept_from_its_middle_as_far_as_its_ports_may_lie() {
    let [seeker, _] = Planner::default().plan([&easy(APD), &hard(APD, BLOCK)], 1, &none(), now());
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
    let [many, back] =
        Planner::default().plan(sides, 1, &none(), now()).map(|plan| plan.search.unwrap());
    let Aim::Window { first, last, .. } = many.aim else { panic!() };
    assert!(first == last && (2060..=2100).contains(&first), "one port of the other block");
    assert_eq!(many.sockets, 62);
    assert_eq!(back.aim, Aim::Window { first: 2037, last: 2123, centre: 2080 });
}

#[test]
fn the_many_sockets_aim_at_the_port_that_a_peer_shows() {
    let shows_itself = side(Mapping::AddressDependent, APD, RANDOM, 3);
    let pair = [&hard(AD, RANDOM), &shows_itself];
    let [sought, seeker] =
        Planner::default().plan(pair, 1, &none(), now()).map(|plan| plan.search.unwrap());
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
    let [seeker, sought] =
        Planner::default().plan(pair, 1, &none(), now()).map(|plan| plan.search.unwrap());
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
fn one_that_is_seen_by_ipv6_alone_needs_a_peer_with_ipv6_and_nobody_says_that_udp_is_blocked() {
    let seen = |last| {
        let mut side = side(Mapping::Unknown, Filtering::Unknown, Allocation::Unknown, last);
        (side.profile.udp, side.profile.ipv6, side.endpoint) = (UdpState::Open, Some(true), None);
        side
    };
    assert_eq!(strategy(&seen(1), &seen(2)), Strategy::Plain);
    let mut other = easy(APD);
    other.endpoint = Some(([198, 51, 100, 1], 4000).into());
    other.observed = [198, 51, 100, 1].into();
    let [plan, _] = Planner::default().plan([&seen(1), &other], 1, &none(), now());
    assert_eq!(plan.strategy, Strategy::Relay);
    assert!(plan.reason.contains("no IPv4 endpoint"), "{}", plan.reason);
    other.profile.ipv6 = Some(true);
    assert_eq!(strategy(&seen(1), &other), Strategy::Plain);
    let mut early = seen(1);
    (early.profile.udp, early.profile.ipv6) = (UdpState::Unknown, None);
    assert_eq!(strategy(&early, &easy(APD)), Strategy::Plain, "its endpoint has yet to come");
}

#[test]
fn a_router_that_remaps_gets_an_opener_and_the_nearer_side_waits() {
    let mut remapping = easy(APD);
    remapping.profile.remaps_after_inbound = Some(true);
    let mut far = easy(APD);
    far.endpoint = Some(([198, 51, 100, 1], 4000).into());
    far.rtt = Some(Duration::from_millis(280));
    let [near, far] = Planner::default().plan([&remapping, &far], 1, &none(), now());
    assert_eq!((near.strategy, near.opener_ttl), (Strategy::Opener, Some(4)));
    assert_eq!((near.delay_ms, far.delay_ms), (120, 20));
}

#[test]
fn the_first_packets_of_a_search_stay_near_until_it_is_known_what_an_early_one_does() {
    let opener = |mapping, remaps| {
        let mut seeker = easy(APD);
        (seeker.profile.mapping, seeker.profile.remaps_after_inbound) = (mapping, remaps);
        let [_, sought] = Planner::default().plan([&seeker, &hard(APD, RANDOM)], 1, &none(), now());
        assert!(sought.search.is_some());
        (sought.opener_ttl, sought.delay_ms > 0)
    };
    let endpoint_independent = Mapping::EndpointIndependent;
    assert_eq!(opener(endpoint_independent, None), (Some(4), false), "later ones do not");
    assert_eq!(opener(endpoint_independent, Some(true)), (Some(4), true), "none does");
    assert_eq!(opener(endpoint_independent, Some(false)), (None, false));
    assert_eq!(opener(Mapping::None, None), (None, false), "nothing can be moved");
}

#[test]
fn a_seeker_that_is_told_of_at_one_port_seeks_from_a_fresh_one() {
    let searches = |mapping, remaps, allocation| {
        let mut seeker = easy(APD);
        (seeker.profile.mapping, seeker.profile.remaps_after_inbound) = (mapping, remaps);
        let pair = [&seeker, &hard(APD, allocation)];
        Planner::default().plan(pair, 1, &none(), now()).map(|plan| plan.search.unwrap())
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
    let plans = planner.plan([&a, &b], 1, &none(), at);
    assert_eq!(plans[0].strategy, Strategy::Birthday);
    planner.record([&a, &b], &plans, false, at);
    let [plan, _] = planner.plan([&a, &b], 2, &none(), at);
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

/// Two behind routers that early packets disturb, with what they have measured.
fn disturbed(measured: [Option<u8>; 2]) -> [Side; 2] {
    let mut sides = [easy(APD), easy(APD)];
    sides[1].endpoint = Some(([198, 51, 100, 1], 4000).into());
    for (side, opener_ttl) in sides.iter_mut().zip(measured) {
        side.profile.remaps_after_inbound = Some(true);
        side.profile.opener_ttl = opener_ttl;
    }
    sides
}

/// The plans that follow each other where each of them fails.
fn in_vain(planner: &Planner, [a, b]: &[Side; 2]) -> Vec<[Plan; 2]> {
    let (mut tried, mut all) = (Tried::default(), Vec::new());
    for number in 1..20 {
        let plans = planner.plan([a, b], number, &tried, now());
        if plans[0].strategy == Strategy::Relay {
            return all;
        }
        tried.failed(&plans, true);
        all.push(plans);
    }
    panic!("no end: {all:?}");
}

fn ttls(plans: &[Plan; 2]) -> [Option<u8>; 2] {
    plans.each_ref().map(|plan| plan.opener_ttl)
}

#[test]
fn openers_go_another_distance_each_time_and_what_was_measured_holds() {
    let all = in_vain(&Planner::default(), &disturbed([None, None]));
    let tried: Vec<_> = all.iter().map(|plans| (plans[0].strategy, ttls(plans)[0])).collect();
    let fresh = |ttl| (Strategy::Preserved, Some(ttl));
    assert_eq!(tried, [(Strategy::Opener, Some(4)), fresh(4), fresh(2), fresh(6), fresh(3)]);
    assert!(all.iter().all(|plans| ttls(plans)[0] == ttls(plans)[1]));
    let all = in_vain(&Planner::default(), &disturbed([Some(3), None]));
    let both: Vec<_> = all.iter().map(ttls).collect();
    let with = |ttl| [Some(3), Some(ttl)];
    assert_eq!(both, [with(4), with(4), with(2), with(6), with(3)]);
    let all = in_vain(&Planner::default(), &disturbed([Some(3), Some(2)]));
    assert_eq!(all.iter().map(ttls).collect::<Vec<_>>(), [[Some(3), Some(2)]; 2]);
}

#[test]
fn the_distance_that_led_to_a_link_between_two_networks_is_taken_at_once() {
    let sides = disturbed([None, None]);
    let mut planner = Planner::default();
    let all = in_vain(&planner, &sides);
    planner.record([&sides[0], &sides[1]], &all[1], false, now());
    planner.record([&sides[0], &sides[1]], &all[2], true, now());
    let plans = planner.plan([&sides[1], &sides[0]], 1, &none(), now());
    assert_eq!((plans[0].strategy, ttls(&plans)), (Strategy::Opener, [Some(2); 2]));
}

#[test]
fn a_side_that_nothing_disturbs_sends_no_opener_and_its_peer_need_not_wait() {
    let [a, mut b] = disturbed([Some(2), None]);
    b.profile.remaps_after_inbound = Some(false);
    let plans = Planner::default().plan([&a, &b], 1, &none(), now());
    assert_eq!((plans[0].strategy, ttls(&plans)), (Strategy::Opener, [None, Some(1)]));
    assert_eq!(plans.map(|plan| plan.delay_ms), [0, 20]);
}

#[test]
fn a_test_for_reuse_that_came_to_nothing_is_followed_by_the_search() {
    let mut sides = [hard(APD, BLOCK), hard(APD, BLOCK)];
    sides[1].endpoint = Some(([198, 51, 100, 1], 4000).into());
    let strategies = |[a, b]: &[Side; 2]| {
        let (planner, mut tried) = (Planner::default(), Tried::default());
        let test = planner.plan([a, b], 1, &tried, now());
        tried.failed(&test, false);
        [test[0].strategy, planner.plan([a, b], 2, &tried, now())[0].strategy]
    };
    assert_eq!(strategies(&sides), [Strategy::TestReuse, Strategy::Sweep]);
    sides[0].profile.reuses_ports = Some(false);
    assert_eq!(strategies(&sides), [Strategy::Relay; 2], "that is known");
}

#[test]
fn a_few_ports_in_order_may_be_those_of_a_block() {
    let pair = |reuses| {
        let mut in_order = hard(APD, Allocation::Sequential { step: 1 });
        in_order.endpoint = Some(([198, 51, 100, 1], 4000).into());
        in_order.profile.reuses_ports = reuses;
        Planner::default().plan([&hard(APD, BLOCK), &in_order], 1, &none(), now())[0].strategy
    };
    assert_eq!(pair(None), Strategy::TestReuse);
    assert_eq!(pair(Some(false)), Strategy::Relay);
}
