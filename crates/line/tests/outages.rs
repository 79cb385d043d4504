//! A link over two routes that fail and come back, with the machine of its paths at both ends. The invariants of that machine
//! are looked at after every step.

use std::time::Duration;

use holepunch_line::pair::{Kind, Scenario, Without, play};

/// Histories that are played here; `--example outages` plays more. Nine kinds take turns.
const SEEDS: u64 = 72;
/// Data moves so soon after a route is back ...
const RESUMED_WITHIN: Duration = Duration::from_secs(1);
/// ... but for so few of a hundred histories, ...
const LATE_PERCENT: u64 = 1;
/// ... which take no longer than this. So long may it stand still, too, when the path in use is cut and the other one works.
const CUT_STALL_MAX: Duration = Duration::from_millis(1100);
/// The same where checks are answered and data is not: a path is narrow after 1.2 s or nine round trips.
const NARROW_STALL_MAX: Duration = Duration::from_millis(2500);

/// Histories in which the last flight of the handshake is lost.
const LAST_FLIGHTS: u64 = 16;
/// There a check is never answered, a relay has to be connected first, and the side that accepts has no link before a packet comes by
/// it. Without the pings on a detour it is up to 0.3 s more.
const LAST_FLIGHT_STALL_MAX: Duration = Duration::from_millis(1200);

/// Histories in which the relay is gone just behind the handshake that went by it.
const DEAD_RELAYS: u64 = 16;
/// Data moves so soon after the direct route works: a check is answered, up to 0.1 s and a round trip later, and the peer has to follow, ...
const DEAD_RELAY_RESUMED_WITHIN: Duration = Duration::from_millis(1000);
/// ... and so soon where the relay may still carry packets for all that is known.
const SILENT_RELAY_RESUMED_WITHIN: Duration = Duration::from_millis(2000);

#[test]
fn a_link_whose_relay_is_gone_just_behind_the_handshake_goes_on_by_the_direct_route() {
    for (seed, is_closed) in (0..DEAD_RELAYS).flat_map(|seed| [(seed, true), (seed, false)]) {
        let scenario = Scenario::dead_relay(seed, is_closed);
        let outcome = play(&scenario, Without::default());
        let shown = || format!("seed {seed}: {scenario:?}: {outcome:?}");
        let within =
            if is_closed { DEAD_RELAY_RESUMED_WITHIN } else { SILENT_RELAY_RESUMED_WITHIN };
        assert_eq!(outcome.lost, None, "{}", shown());
        assert!(!outcome.resumed_after.is_zero() && outcome.resumed_after <= within, "{}", shown());
        assert!(outcome.ends_direct, "{}", shown());
    }
}

#[test]
fn a_link_whose_handshake_loses_its_last_flight_goes_on_by_the_relay() {
    for seed in 0..LAST_FLIGHTS {
        let scenario = Scenario::last_flight(seed);
        let outcome = play(&scenario, Without::default());
        let shown = || format!("seed {seed}: {scenario:?}: {outcome:?}");
        assert_eq!(outcome.lost, None, "{}", shown());
        assert!(outcome.stall <= LAST_FLIGHT_STALL_MAX, "{}", shown());
        assert!(outcome.resumed_after <= LAST_FLIGHT_STALL_MAX, "{}", shown());
        assert!(outcome.ends_direct, "{}", shown());
    }
}

#[test]
fn data_moves_within_a_second_of_the_return_of_a_route_and_never_stands_still_beside_one() {
    let mut late = 0;
    for seed in 0..SEEDS {
        let scenario = Scenario::new(seed);
        let outcome = play(&scenario, Without::default());
        let shown = || format!("seed {seed}: {scenario:?}: {outcome:?}");
        let is_narrow = matches!(scenario.kind, Kind::Narrow | Kind::Batches);
        let stall_max = if is_narrow { NARROW_STALL_MAX } else { CUT_STALL_MAX };
        assert_eq!(outcome.lost, None, "{}", shown());
        assert!(outcome.stall <= stall_max, "{}", shown());
        assert!(outcome.resumed_after <= CUT_STALL_MAX, "{}", shown());
        assert_eq!(outcome.empty_answers, 0, "{}", shown());
        // A narrow route is tried again after a while.
        assert!(outcome.ends_direct || is_narrow, "{}", shown());
        late += u64::from(outcome.resumed_after > RESUMED_WITHIN);
    }
    assert!(late * 100 <= SEEDS.next_multiple_of(100) * LATE_PERCENT, "{late} of {SEEDS} are late");
}
