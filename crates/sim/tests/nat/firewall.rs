//! Filtering without translation.

use std::time::Instant;

use holepunch_sim::nat::{DropReason, Filtering, Firewall, FirewallConfig};

use crate::common::{at, ms, origin, secs};
use crate::prober::{X, X_OTHER_PORT, Y, outside};

const INSIDE: &str = "203.0.113.9:5000";

fn firewall(filtering: Filtering) -> (Firewall, Instant) {
    (Firewall::new(FirewallConfig { filtering, ..FirewallConfig::default() }), origin())
}

#[test]
fn a_firewall_filters_by_its_kind() {
    for (filtering, expected) in [
        (Filtering::EndpointIndependent, [true, true, true]),
        (Filtering::AddressDependent, [true, true, false]),
        (Filtering::AddressAndPortDependent, [true, false, false]),
    ] {
        let (mut firewall, now) = firewall(filtering);
        let inside = at(INSIDE);
        assert_eq!(firewall.inbound(at(X), inside, now), Err(DropReason::Filtered), "closed");
        firewall.outbound(inside, at(X), now).unwrap();
        let seen = [X, X_OTHER_PORT, Y].map(|from| firewall.inbound(at(from), inside, now).is_ok());
        assert_eq!(seen, expected, "{filtering:?}");
        let other = at("203.0.113.9:5001");
        assert_eq!(firewall.inbound(at(X), other, now), Err(DropReason::Filtered));
    }
}

#[test]
fn answers_keep_a_permission_alive_and_silence_ends_it() {
    let (mut firewall, mut now) = firewall(Filtering::AddressAndPortDependent);
    let inside = at(INSIDE);
    firewall.outbound(inside, at(X), now).unwrap();
    now += secs(120) - ms(1);
    assert_eq!(firewall.inbound(at(X), inside, now), Ok(()));
    now += secs(120) - ms(1);
    assert_eq!(firewall.inbound(at(X), inside, now), Ok(()));
    now += secs(120);
    assert_eq!(firewall.inbound(at(X), inside, now), Err(DropReason::Filtered));
}

#[test]
fn a_firewall_has_a_table_of_limited_size_and_can_forget_it() {
    let config = FirewallConfig { table_max: 3, ..FirewallConfig::default() };
    let (mut firewall, now) = (Firewall::new(config), origin());
    let inside = at(INSIDE);
    for n in 0..3 {
        firewall.outbound(inside, at(&outside(n)), now).unwrap();
    }
    assert_eq!(firewall.outbound(inside, at(X), now), Err(DropReason::TableFull));
    assert_eq!(firewall.counters().table_peak(), 3);
    firewall.reset();
    assert_eq!(firewall.outbound(inside, at(X), now), Ok(()));
    assert_eq!(firewall.inbound(at(&outside(0)), inside, now), Err(DropReason::Filtered));
}
