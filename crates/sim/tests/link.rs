//! What links do to packets, by their statistics over fixed seeds.

#[path = "common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{ms, origin, secs};
use holepunch_sim::link::{Link, LinkConfig, Loss, REORDER_DELAY, Rate};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Sends packets of 100 bytes at this distance; the delay of each, or none where it was lost.
fn delays(config: LinkConfig, count: usize, gap: Duration) -> Vec<Option<Duration>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut link = Link::new(config);
    let mut now = origin();
    let delays: Vec<Option<Duration>> = (0..count)
        .map(|_| {
            let arrival = link.carry(100, now, &mut rng);
            now += gap;
            arrival.map(|at| at - (now - gap))
        })
        .collect();
    let counters = link.counters();
    assert_eq!(counters.carried + counters.lost + counters.queue_full, count as u64);
    delays
}

fn lost_share(delays: &[Option<Duration>]) -> f64 {
    delays.iter().filter(|delay| delay.is_none()).count() as f64 / delays.len() as f64
}

fn with_delay() -> LinkConfig {
    LinkConfig::with_delay(ms(40))
}

#[test]
fn a_perfect_link_delays_every_packet_alike() {
    assert_eq!(delays(with_delay(), 100, ms(1)), vec![Some(ms(40)); 100]);
}

#[test]
fn random_loss_has_its_share_and_no_memory() {
    let all = delays(with_delay().with_loss(Loss::Random(0.3)), 20_000, ms(1));
    assert!((0.29..0.31).contains(&lost_share(&all)));
    let after_loss: Vec<_> =
        all.windows(2).filter(|pair| pair[0].is_none()).map(|pair| pair[1]).collect();
    assert!((0.28..0.32).contains(&lost_share(&after_loss)));
}

#[test]
fn loss_in_bursts_has_the_share_and_the_length_of_the_model() {
    let loss = Loss::Burst { p_enter: 0.01, p_leave: 0.2, loss: 1.0 };
    let all = delays(with_delay().with_loss(loss), 100_000, ms(1));
    // 0.01 / (0.01 + 0.2) of the time within a burst, each of 1 / 0.2 packets.
    assert!((0.043..0.053).contains(&lost_share(&all)), "{}", lost_share(&all));
    let bursts = all.windows(2).filter(|pair| pair[0].is_some() && pair[1].is_none()).count();
    let length = lost_share(&all) * all.len() as f64 / bursts as f64;
    assert!((4.6..5.4).contains(&length), "{length}");
}

#[test]
fn certain_loss_loses_everything_and_impossible_loss_nothing() {
    assert!(
        delays(with_delay().with_loss(Loss::Random(1.0)), 50, ms(1)).iter().all(Option::is_none)
    );
    let never = Loss::Burst { p_enter: 0.0, p_leave: 0.0, loss: 1.0 };
    assert!(delays(with_delay().with_loss(never), 50, ms(1)).iter().all(Option::is_some));
}

#[test]
fn jitter_is_spread_evenly_and_lets_nobody_overtake() {
    let config = with_delay().with_jitter(ms(20));
    let mut spread: Vec<Duration> = delays(config, 10_000, ms(100)).into_iter().flatten().collect();
    spread.sort();
    assert!(spread[0] >= ms(40) && spread[9_999] <= ms(60));
    assert!((ms(49)..ms(51)).contains(&spread[5_000]), "{:?}", spread[5_000]);
    let dense = delays(config, 1_000, ms(1));
    let arrivals = dense.iter().enumerate().map(|(n, delay)| ms(n as u64) + delay.unwrap());
    assert!(arrivals.is_sorted());
}

#[test]
fn reordered_packets_are_overtaken_and_hold_nobody_up() {
    let config = LinkConfig { reorder: 0.1, ..with_delay() };
    let all = delays(config, 10_000, ms(1));
    let late = all.iter().filter(|delay| **delay == Some(ms(40) + REORDER_DELAY)).count();
    assert!((900..1_100).contains(&late), "{late}");
    assert_eq!(all.iter().filter(|delay| **delay == Some(ms(40))).count(), 10_000 - late);
}

#[test]
fn a_bottleneck_sends_at_its_rate_and_drops_what_finds_its_queue_full() {
    let rate = Rate { bytes_per_second: 10_000, queue_bytes_max: 500 };
    let config = LinkConfig { rate: Some(rate), ..with_delay() };
    // 100 bytes take 10 ms. Of ten at once, the queue holds five, and each waits for those before.
    let burst = delays(config, 10, Duration::ZERO);
    let expected: Vec<_> = (1..=5).map(|n| Some(ms(40 + 10 * n))).collect();
    assert_eq!((&burst[..5], &burst[5..]), (&expected[..], &vec![None; 5][..]));
    // At half the rate nobody waits.
    assert_eq!(delays(config, 50, ms(20)), vec![Some(ms(50)); 50]);
    // At twice the rate, half are lost.
    let over = delays(config, 10_000, ms(5));
    assert!((0.49..0.51).contains(&lost_share(&over)), "{}", lost_share(&over));
    let blocked = LinkConfig { rate: Some(Rate { bytes_per_second: 0, ..rate }), ..config };
    assert_eq!(delays(blocked, 3, ms(1)), vec![None; 3]);
}

#[test]
fn a_link_that_is_down_carries_nothing_until_it_is_up_again() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut link = Link::new(with_delay());
    let now: Instant = origin();
    link.set_up(false);
    assert_eq!(link.carry(100, now, &mut rng), None);
    link.set_up(true);
    assert_eq!(link.carry(100, now, &mut rng), Some(now + ms(40)));
    link.set_loss(Loss::Random(1.0));
    assert_eq!(link.carry(100, now + secs(1), &mut rng), None);
}
