//! Two behind routers that early packets disturb, near each other: an opener that goes a hop too far is such a packet.

use std::net::IpAddr;
use std::time::Duration;

use holepunch_sim::lab::World;
use holepunch_sim::link::LinkConfig;
use holepunch_sim::net::AccessConfig;
use holepunch_sim::presets::{Inner, NatKind, SiteSpec, place};
use holepunch_wire::nat::{NatProfile, SearchWish};

/// Routers between the two outermost NATs.
const HOPS: std::ops::RangeInclusive<u8> = 1..=12;
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(10)];
/// What stands behind the NAT that early packets disturb.
const INNER: [[Option<Inner>; 2]; 5] = {
    let (router, nat) = (Some(Inner::Router), Some(Inner::Nat));
    [[None, None], [router, None], [nat, None], [router, nat], [nat, router]]
};
/// With what was measured, and by trying one distance after the other.
const MEASURED: Duration = Duration::from_secs(2);
const GUESSED: Duration = Duration::from_secs(25);

struct Case {
    hops: u8,
    delay: Duration,
    inner: [[Option<Inner>; 2]; 2],
    kinds: [NatKind; 2],
    lie: Option<fn(&mut NatProfile)>,
}

impl Case {
    /// How long after the second one has come both are linked; the profile of the first one.
    fn play(&self, seed: u64) -> (Option<Duration>, NatProfile) {
        let mut world = World::new(seed);
        world.net.set_core(Duration::ZERO, self.hops);
        let link = LinkConfig::with_delay(self.delay);
        let access = AccessConfig { up: link, down: link, hops: 0 };
        for (number, inner) in (1..).zip(self.inner) {
            let kind = self.kinds[usize::from(number) - 1];
            let site =
                place(&mut world.net, SiteSpec { access, inner, ..SiteSpec::new(kind) }, number);
            let observed = IpAddr::from([198, 18, 0, number.to_be_bytes()[1]]);
            world.run(world.now() + Duration::from_secs(3), |_| false);
            world.start(&site, self.delay, observed, SearchWish::Usual, self.lie);
        }
        let start = world.now();
        let is_linked = |world: &World| {
            [0, 1].iter().all(|index| world.status(*index).is_some_and(|it| it.path.is_some()))
        };
        world.run(start + Duration::from_secs(45), is_linked);
        let took = is_linked(&world).then(|| world.now() - start);
        (took, world.profile(0))
    }
}

#[test]
fn whatever_stands_in_front_of_them_and_between_them_they_are_linked_at_once() {
    for hops in HOPS {
        for delay in DELAYS {
            for first in INNER {
                for second in INNER {
                    let inner = [first, second];
                    let kinds = [NatKind::Remap; 2];
                    let case = Case { hops, delay, inner, kinds, lie: None };
                    let (took, profile) = case.play(u64::from(hops));
                    let boxes = 1 + first.iter().flatten().count();
                    let measured = profile.opener_ttl.map(usize::from);
                    assert_eq!(measured, Some(boxes + 1), "{hops} hops, {inner:?}");
                    let is_soon = took.is_some_and(|took| took <= MEASURED);
                    assert!(is_soon, "{hops} hops, {delay:?}, {inner:?}: {took:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_measured_where_early_packets_do_no_harm() {
    let kinds = [NatKind::EimApdf, NatKind::Remap];
    let inner = [[None; 2]; 2];
    let (took, profile) = Case { hops: 1, delay: DELAYS[1], inner, kinds, lie: None }.play(1);
    assert_eq!(profile.opener_ttl, None);
    assert!(took.is_some_and(|took| took <= MEASURED), "{took:?}");
}

#[test]
fn without_a_measurement_one_distance_after_the_other_is_tried() {
    let forgets = |profile: &mut NatProfile| profile.opener_ttl = None;
    for hops in HOPS {
        for delay in DELAYS {
            let inner = [[None; 2]; 2];
            let kinds = [NatKind::Remap; 2];
            let (took, _) = Case { hops, delay, inner, kinds, lie: Some(forgets) }.play(1);
            let most = if hops > 2 { MEASURED } else { GUESSED };
            assert!(took.is_some_and(|took| took <= most), "{hops} hops, {delay:?}: {took:?}");
        }
    }
}
