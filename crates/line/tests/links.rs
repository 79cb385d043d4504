//! What a link carries over a line, beside others, and after a change.

use std::sync::Arc;
use std::time::Duration;

use holepunch_line::{Driver, Flow, FlowReport, LineConfig, Loss, Report, Setup, run};
use noq_proto::congestion::{ControllerFactory, CubicConfig};

const SAMPLE: Duration = Duration::from_millis(10);
const MBIT: u64 = 1_000_000;

fn flow(start: Duration) -> Flow {
    Flow { congestion: None, start, window: None }
}

/// A line with a queue of one product of rate and round trip.
fn setup(mbit: u64, rtt: Duration, loss: f64, length: Duration) -> Setup {
    let bits_per_second = mbit * MBIT;
    let queue = bits_per_second as f64 / 8.0 * rtt.as_secs_f64();
    let loss = Loss(loss);
    let forth = LineConfig { bits_per_second, delay: rtt / 2, queue_bytes: queue as u64, loss };
    Setup {
        forth,
        back: forth,
        flows: vec![flow(Duration::ZERO)],
        length,
        driver: Driver::REAL,
        seed: 1,
        sample: SAMPLE,
        turns: Vec::new(),
    }
}

fn cubic() -> Arc<dyn ControllerFactory + Send + Sync> {
    let mut config = CubicConfig::default();
    config.initial_window(32 * 1200);
    Arc::new(config)
}

/// The share of a line of `mbit` that a flow has from one moment to another.
fn share(flow: &FlowReport, mbit: u64, from: Duration, to: Duration) -> f64 {
    let index = |at: Duration| (at.as_nanos() / SAMPLE.as_nanos()) as usize - 1;
    let bytes = flow.samples[index(to)] - flow.samples[index(from)];
    bytes as f64 * 8.0 / (to - from).as_secs_f64() / (mbit * MBIT) as f64
}

fn whole(setup: &Setup, report: &Report) -> f64 {
    share(&report.flows[0], setup.forth.bits_per_second / MBIT, SAMPLE, setup.length)
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_packet_in_a_hundred_lost_costs_next_to_nothing() {
    let setup = setup(50, 40 * MS, 0.01, 5 * SECOND);
    let share = whole(&setup, &run(&setup));
    assert!(share > 0.85, "{share}");
}

#[test]
fn one_packet_in_fifty_lost_on_a_long_line_costs_little() {
    let setup = setup(50, 100 * MS, 0.02, 8 * SECOND);
    let share = whole(&setup, &run(&setup));
    assert!(share > 0.8, "{share}");
}

#[test]
fn a_line_without_losses_is_full_and_its_queue_seldom_overflows() {
    let setup = setup(50, 20 * MS, 0.0, 5 * SECOND);
    let report = run(&setup);
    let share = whole(&setup, &report);
    assert!(share > 0.9, "{share}");
    assert!(report.flows[0].dropped * 100 < report.flows[0].sent_packets, "{report:?}");
}

#[test]
fn a_short_queue_is_enough() {
    let mut setup = setup(50, 40 * MS, 0.001, 5 * SECOND);
    setup.forth.queue_bytes /= 8;
    let share = whole(&setup, &run(&setup));
    assert!(share > 0.85, "{share}");
}

#[test]
fn ends_that_a_busy_machine_wakes_late_fill_the_line() {
    for (mbit, rtt, jitter) in [(50, 10, 5), (50, 40, 10), (100, 20, 5)] {
        let mut setup = setup(mbit, rtt * MS, 0.0, 5 * SECOND);
        setup.driver.jitter = jitter * MS;
        let share = whole(&setup, &run(&setup));
        assert!(share > 0.85, "{mbit} Mbit/s, {rtt} ms, up to {jitter} ms late: {share}");
    }
}

#[test]
fn beside_a_flow_of_cubic_it_has_about_half() {
    for (rtt, after) in [(20, [0, 0]), (40, [0, 3]), (40, [3, 0])] {
        let mut setup = setup(20, rtt * MS, 0.0, 40 * SECOND);
        setup.flows[0].start = SECOND * after[0];
        setup.flows.push(Flow { congestion: Some(cubic()), ..flow(SECOND * after[1]) });
        let report = run(&setup);
        let share = share(&report.flows[0], 20, 10 * SECOND, 40 * SECOND);
        assert!((0.3..0.7).contains(&share), "{rtt} ms, {after:?}: {share}");
    }
}

#[test]
fn two_links_share_a_line() {
    let mut setup = setup(20, 40 * MS, 0.0, 30 * SECOND);
    setup.flows.push(flow(3 * SECOND));
    let report = run(&setup);
    let shares = [0, 1].map(|flow| share(&report.flows[flow], 20, 10 * SECOND, 30 * SECOND));
    assert!(shares.iter().all(|share| *share > 0.25), "{shares:?}");
    assert!(shares.iter().sum::<f64>() > 0.85, "{shares:?}");
}

#[test]
fn until_the_line_is_full_it_carries_no_less_than_with_cubic() {
    for (mbit, rtt) in [(50, 10), (50, 40), (500, 40), (50, 100), (500, 100)] {
        let setup = setup(mbit, rtt * MS, 0.0, SECOND);
        let mut slow = setup.clone();
        slow.flows[0].congestion = Some(cubic());
        let (link, cubic) = (run(&setup), run(&slow));
        // Twice what the path holds has come: from then on, queues and what was lost in them decide.
        let full = setup.forth.queue_bytes * 2;
        for (link, cubic) in link.flows[0].samples.iter().zip(&cubic.flows[0].samples) {
            if *cubic > full {
                break;
            }
            // One burst: what is paced a little differently comes a moment later.
            assert!(link + 15_000 >= cubic * 9 / 10, "{mbit} {rtt}: {link} {cubic}");
        }
        let [link, cubic] = [link, cubic].map(|report| report.flows[0].bytes());
        assert!(link * 10 >= cubic * 9, "{mbit} {rtt}: after a second, {link} {cubic}");
    }
}

#[test]
fn a_window_that_grows_with_what_is_read_holds_nothing_up_on_a_long_fast_line() {
    for loss in [0.0, 0.001] {
        let mut setup = setup(500, 200 * MS, loss, 3 * SECOND);
        let grows = run(&setup).flows[0].bytes();
        setup.flows[0].window = Some(64 * 1024 * 1024);
        let whole = run(&setup).flows[0].bytes();
        assert!(grows * 100 >= whole * 97, "{loss}: {grows} of {whole}");
    }
}

#[test]
fn a_line_that_becomes_slower_is_followed() {
    let mut setup = setup(50, 40 * MS, 0.001, 12 * SECOND);
    setup.turns.push((4 * SECOND, 10 * MBIT));
    let report = run(&setup);
    let share = share(&report.flows[0], 10, 8 * SECOND, 12 * SECOND);
    assert!(share > 0.85, "{share}");
    assert!(report.flows[0].dropped * 5 < report.flows[0].sent_packets, "{report:?}");
}

#[test]
fn a_line_that_becomes_faster_is_followed() {
    let mut setup = setup(10, 40 * MS, 0.001, 10 * SECOND);
    setup.forth.queue_bytes *= 4;
    setup.turns.push((4 * SECOND, 40 * MBIT));
    let report = run(&setup);
    let share = share(&report.flows[0], 40, 7 * SECOND, 10 * SECOND);
    assert!(share > 0.8, "{share}");
}

#[test]
fn what_is_lost_at_random_is_the_same_with_the_same_seed() {
    let setup = setup(20, 40 * MS, 0.01, 2 * SECOND);
    let [one, other] = [0, 1].map(|_| run(&setup).flows[0].bytes());
    assert!(one.abs_diff(other) * 50 < one, "{one} {other}");
}
