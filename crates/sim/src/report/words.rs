//! Numbers as a person reads them.

use std::time::Duration;

use crate::lab::{Scenario, Share, Summary};

/// A share in percent, cut off, not rounded: 100 means all.
pub(super) fn percent(share: f64, digits: usize) -> String {
    let scale = [1.0, 10.0, 100.0].get(digits).copied().unwrap_or(100.0);
    // The small number makes up for binary fractions: 0.29 × 100 is below 29.
    let cut = (share * 100.0 * scale + 1e-7).floor() / scale;
    format!("{cut:.digits$}")
}

/// The interval of a share, in percent, with as many digits as it is worth.
pub(super) fn interval(share: Share) -> String {
    let digits = if share.of < 2000 { 1 } else { 2 };
    let scale = [1.0, 10.0, 100.0][digits];
    let bound = |bound: f64, to: fn(f64) -> f64| {
        let text = format!("{:.digits$}", to(bound * 100.0 * scale) / scale);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("{}–{}", bound(share.low, f64::floor), bound(share.high, f64::ceil))
}

/// Milliseconds without fractions.
pub(super) fn ms(time: Duration) -> String {
    let half_up = time + Duration::from_micros(500);
    half_up.as_millis().to_string()
}

/// A time in a unit that suits it.
pub(super) fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", ms(time))
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// A time in round trips of the peers.
pub(super) fn round_trips(time: Duration, scenario: &Scenario) -> String {
    let trips = in_round_trips(time, scenario);
    if trips < 10.0 { format!("{trips:.1}") } else { format!("{trips:.0}") }
}

/// A time in round trips of the peers.
pub(super) fn in_round_trips(time: Duration, scenario: &Scenario) -> f64 {
    let rtt = round_trip(scenario);
    if rtt.is_zero() { 0.0 } else { time.as_secs_f64() / rtt.as_secs_f64() }
}

/// The round trip between the two workers.
pub(super) fn round_trip(scenario: &Scenario) -> Duration {
    let [first, second] = scenario.ways;
    (first + second) * 2
}

/// A number with its thousands apart.
pub(super) fn count(number: usize) -> String {
    thousands(u64::try_from(number).unwrap_or(u64::MAX))
}

/// A number with its thousands apart.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The strategy that most histories ended with; empty where there was none.
pub(super) fn main_strategy(summary: &Summary) -> String {
    // Of equally frequent ones the first by name.
    let most = summary.strategies.iter().rev().max_by_key(|(_, count)| **count);
    most.map(|(name, _)| name.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up_to_all() {
        assert_eq!(percent(0.9999, 0), "99");
        assert_eq!(percent(0.99999, 2), "99.99");
        assert_eq!(percent(1.0, 2), "100.00");
        assert_eq!(percent(0.29, 0), "29");
    }

    #[test]
    fn an_interval_is_widened_to_tenths() {
        assert_eq!(interval(Share::new(50, 50)), "92.8–100");
        assert_eq!(interval(Share::new(0, 50)), "0–7.2");
        assert_eq!(interval(Share::new(3700, 3700)), "99.89–100");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_have_a_unit_that_suits_them() {
        assert_eq!(time(Duration::from_micros(239_600)), "240 ms");
        assert_eq!(time(Duration::from_millis(7049)), "7.05 s");
    }
}
