//! When what is sent: every interval of this crate, with its jitter.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

/// A waiting mapping and an idle link are refreshed after 9–10 s: two losses in a row still fit
/// into the 30 s for which common NATs keep an idle UDP mapping.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(9);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(10);

/// PINGs of a punch: dense while the other side's first packets open its NAT, then sparser.
const PING_FIRST: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(70),
    Duration::from_millis(150),
];
const PING_DENSE_EVERY: Duration = Duration::from_millis(100);
const PING_DENSE_UNTIL: Duration = Duration::from_secs(1);
const PING_SPARSE_EVERY: Duration = Duration::from_millis(750);
/// No PING of a punch leaves later than this after the offer.
pub(crate) const PING_UNTIL: Duration = Duration::from_secs(10);

/// Checks to an address of the peer's that nothing proves to be its own.
const FEW: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_millis(1600),
];

/// STUN retransmission (RFC 8489 §6.2.1): RTO, number of requests Rc, and the multiple of the RTO
/// that is waited after the last of them, Rm.
pub(crate) const STUN_RTO: Duration = Duration::from_millis(500);
const STUN_REQUESTS: u32 = 7;
const STUN_LAST_WAIT_RTOS: u32 = 16;
/// A refresh is given up sooner: the mapping may be gone, and the other servers can tell.
const REFRESH_REQUESTS: u32 = 4;
const REFRESH_LAST_WAIT_RTOS: u32 = 8;

/// Backoff of discovery between two attempts, where the user names no pause.
const DISCOVERY_BACKOFF_MIN: Duration = Duration::from_secs(1);
const DISCOVERY_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// No pause that the user names is shorter: a name that cannot be looked up fails at once.
const DISCOVERY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Backoff of reports after punches that failed one after the other: the first is put off by
/// nothing, so that a single failure costs no time.
const REPORT_BACKOFF_FIRST: Duration = Duration::from_secs(1);
const REPORT_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Share of its proven lifetime after which a waiting mapping is refreshed, and the longest time:
/// two losses in a row still fit in.
const LIFETIME_SHARE: f64 = 0.3;
const KEEP_ALIVE_LONGEST: Duration = Duration::from_secs(25);

/// How late a machine may be called and still keep the moments of a schedule. What it has missed beyond that is left out:
/// it would be a burst. Without, timers that are 50 ms late make of 96 packets a second 17.
pub(crate) const CATCH_UP: Duration = Duration::from_millis(500);
/// Two repetitions of one question, or two checks to one address, are never closer, however late the machine is called.
const APART: Duration = Duration::from_millis(10);

/// What a machine that is called at `now` for what was due at `due` has missed for good.
pub(crate) fn missed(due: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(due).saturating_sub(CATCH_UP)
}

/// When the next of a steady pace is due, after one that was due at `due` and leaves at `now`. It may be at once.
pub(crate) fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    due + missed(due, now) + interval
}

/// The moment `at` of a schedule, or the first after it at which a repetition does not follow at once.
pub(crate) fn apart(at: Instant, now: Instant) -> Instant {
    at.max(now + APART)
}

/// Time to the next refresh of a waiting mapping: longer where idle ones are known to live longer.
pub(crate) fn refresh(lifetime: Option<Duration>, rng: &mut impl Rng) -> Duration {
    let usual = keep_alive(rng);
    lifetime.map_or(usual, |lifetime| {
        let jitter = rng.random_range(0.9..=1.0);
        lifetime.mul_f64(LIFETIME_SHARE * jitter).clamp(usual, KEEP_ALIVE_LONGEST)
    })
}

/// Time to the next refresh.
pub(crate) fn keep_alive(rng: &mut impl Rng) -> Duration {
    rng.random_range(KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX)
}

/// When the PINGs number `index` (from 0) of a punch leave, after its start and without jitter;
/// `None` when there are no more.
pub(crate) fn ping_at(index: u32) -> Option<Duration> {
    let index = usize::try_from(index).ok()?;
    if let Some(at) = PING_FIRST.get(index) {
        return Some(*at);
    }
    let mut at = PING_FIRST[PING_FIRST.len() - 1];
    for _ in PING_FIRST.len()..=index {
        let dense = at + PING_DENSE_EVERY;
        at = if dense <= PING_DENSE_UNTIL { dense } else { at + PING_SPARSE_EVERY };
    }
    (at <= PING_UNTIL).then_some(at)
}

/// The same with up to a tenth of the step before it added, so that two workers that were offered
/// each other at one moment do not stay in step.
pub(crate) fn jittered_ping_at(index: u32, rng: &mut impl Rng) -> Option<Duration> {
    let at = ping_at(index)?;
    let before = index.checked_sub(1).and_then(ping_at).unwrap_or(at);
    let jitter = (at - before).mul_f64(rng.random_range(0.0..0.1));
    Some((at + jitter).min(PING_UNTIL))
}

/// When the check number `index` (from 0) to an unproven address leaves, after the first.
pub(crate) fn few_at(index: u32) -> Option<Duration> {
    FEW.get(usize::try_from(index).ok()?).copied()
}

/// How often a request is sent, and how long the last one is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retransmission {
    pub(crate) requests: u32,
    last_wait_rtos: u32,
}

impl Retransmission {
    pub(crate) const DISCOVERY: Self =
        Self { requests: STUN_REQUESTS, last_wait_rtos: STUN_LAST_WAIT_RTOS };
    pub(crate) const REFRESH: Self =
        Self { requests: REFRESH_REQUESTS, last_wait_rtos: REFRESH_LAST_WAIT_RTOS };

    /// The wait after request number `sent` (from 1).
    pub(crate) fn wait_after(self, sent: u32) -> Duration {
        if sent >= self.requests {
            STUN_RTO * self.last_wait_rtos
        } else {
            STUN_RTO * (1 << sent.saturating_sub(1))
        }
    }
}

/// The pause after attempt number `attempt` (from 1) at discovery: the user's, or else doubling, half
/// of it at random.
pub(crate) fn discovery_pause(
    named: Option<Duration>,
    attempt: u32,
    rng: &mut impl Rng,
) -> Duration {
    if let Some(pause) = named {
        return pause.max(DISCOVERY_PAUSE_MIN);
    }
    let doubled = DISCOVERY_BACKOFF_MIN * (1 << attempt.saturating_sub(1).min(8));
    let ceiling = doubled.min(DISCOVERY_BACKOFF_MAX);
    ceiling.mul_f64(rng.random_range(0.5..=1.0))
}

/// How long a report is put off after `failures` punches in a row have failed.
pub(crate) fn report_backoff(failures: u32, rng: &mut impl Rng) -> Duration {
    if failures <= 1 {
        return Duration::ZERO;
    }
    let doubled = REPORT_BACKOFF_FIRST * (1 << (failures - 2).min(8));
    doubled.min(REPORT_BACKOFF_MAX).mul_f64(rng.random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn pings_are_dense_at_first_and_about_twenty_five_in_all() {
        let times: Vec<u128> = (0..).map_while(ping_at).map(|at| at.as_millis()).collect();
        assert_eq!(times[..8], [0, 10, 30, 70, 150, 250, 350, 450]);
        assert_eq!(times[12..15], [950, 1700, 2450]);
        assert_eq!((times.len(), times.last()), (25, Some(&9950)));
    }

    #[test]
    fn a_long_lived_mapping_is_refreshed_less_often() {
        let mut rng = StdRng::seed_from_u64(1);
        let secs = Duration::from_secs;
        for _ in 0..100 {
            assert!((secs(9)..=secs(10)).contains(&refresh(None, &mut rng)));
            assert!((secs(9)..=secs(10)).contains(&refresh(Some(secs(25)), &mut rng)));
            assert!((secs(13)..=secs(15)).contains(&refresh(Some(secs(50)), &mut rng)));
            assert_eq!(refresh(Some(secs(200)), &mut rng), secs(25));
        }
    }

    #[test]
    fn jitter_keeps_the_order_and_the_end() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..100 {
            let times: Vec<Duration> =
                (0..25).filter_map(|index| jittered_ping_at(index, &mut rng)).collect();
            assert!(times.windows(2).all(|two| two[0] < two[1]), "{times:?}");
            assert!(times.last() <= Some(&PING_UNTIL));
        }
    }

    #[test]
    fn a_pace_is_kept_by_a_machine_that_is_called_late_and_a_long_sleep_is_no_burst() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let ms = Duration::from_millis;
        let sent = |calls: &[Duration]| {
            let mut due = start;
            let mut sent = 0;
            for now in calls.iter().map(|after| start + *after) {
                while due <= now {
                    due = next_due(due, ms(10), now);
                    sent += 1;
                }
            }
            sent
        };
        assert_eq!(sent(&[ms(0), ms(47), ms(100), ms(990)]), 11 + 51);
        assert_eq!(sent(&(0..=20).map(|step| ms(50 * step)).collect::<Vec<_>>()), 101);
        assert_eq!(sent(&[ms(0), ms(60_000)]), 1 + 51, "half a second of it, and no more");
        assert_eq!(apart(start + ms(3), start), start + APART);
    }

    #[test]
    fn stun_is_retransmitted_as_rfc_8489_says() {
        let discovery = Retransmission::DISCOVERY;
        let waits: Vec<u128> = (1..=7).map(|sent| discovery.wait_after(sent).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 8000]);
    }

    #[test]
    fn the_first_failure_costs_no_time_and_later_ones_at_most_half_a_minute() {
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(report_backoff(1, &mut rng), Duration::ZERO);
        for failures in 2..100 {
            assert!(report_backoff(failures, &mut rng) <= REPORT_BACKOFF_MAX);
        }
    }
}
