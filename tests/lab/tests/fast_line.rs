//! The fast line itself, by its counters and by what the programs on it say.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use holepunch_lab::fast_line::network::LineNetwork;
use holepunch_lab::fast_line::settings::LaneSettings;
use holepunch_lab::{availability, multicall, trial};
use libtest_mimic::{Arguments, Failed};

/// A machine that is busy may take its time.
const WITHIN: Duration = Duration::from_secs(90);
/// What is waited for is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const DELAY: Duration = Duration::from_millis(150);

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    // One after another: each fills a line.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let trials = vec![
        trial("a_line_delays_and_keeps_its_rate_and_its_queue", availability::check, shapes),
        trial("a_line_loses_what_it_is_told_to", availability::check, loses),
        trial("a_link_goes_over_a_line_alone", availability::check, carries_a_link),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why().into()) }
}

fn shapes() -> Outcome {
    let there = LaneSettings {
        bits_per_second: 20_000_000,
        delay: DELAY,
        loss: 0.0,
        queue_bytes_max: 64 * 1024,
    };
    let back = LaneSettings { delay: 2 * DELAY, ..there };
    let network = LineNetwork::build([there, back])?;
    let before = Instant::now();
    let flow = network.tcp("cubic", Duration::from_secs(3))?;
    // The SYN, its answer and the acknowledgement.
    let handshake = flow.began().duration_since(before);
    require(handshake >= 4 * DELAY, || format!("a handshake of {handshake:?}"))?;
    let arrived = flow.arrivals()?.between(Duration::ZERO, WITHIN);
    let counts = network.counts()?;
    let most = f64::from(20_000_000 / 8) * before.elapsed().as_secs_f64();
    let [passed, answers] = counts.map(|lane| lane.passed_bytes);
    require(arrived > 0 && arrived <= passed, || format!("{arrived} arrived: {counts:?}"))?;
    require(passed as f64 <= most, || format!("at most {most:.0} bytes: {counts:?}"))?;
    // A tenth of what the line carries in the time of the flow.
    require(passed > 20_000_000 / 8 * 3 / 10 && answers > 0, || format!("too few: {counts:?}"))?;
    // Cubic slows down when the queue is full, and not before.
    let [there, back] = counts;
    require(there.queue_dropped > 0 && there.lost + back.lost == 0, || format!("{counts:?}"))?;
    require(there.failed + back.failed + network.overruns()? == 0, || format!("{counts:?}"))?;
    drop(network);
    nothing_is_left()
}

/// The line's devices are gone with its process, and the namespaces of this process with the network.
fn nothing_is_left() -> Outcome {
    let listed = Command::new("ip").args(["netns", "list"]).output()?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let own = format!("holepunch-lab-{}-", std::process::id());
    let is_left = |name: &str| name.starts_with(&own) && name.contains("-fast-");
    require(!names.lines().any(is_left), || names.clone())
}

fn loses() -> Outcome {
    let lossy = LaneSettings {
        bits_per_second: 100_000_000,
        delay: Duration::from_millis(1),
        loss: 0.1,
        queue_bytes_max: 1 << 20,
    };
    let network = LineNetwork::build([lossy, LaneSettings { loss: 0.0, ..lossy }])?;
    // BBR goes on sending whatever is lost.
    network.tcp("bbr", Duration::from_secs(3))?.arrivals()?;
    let counts = network.counts()?;
    let [there, back] = counts;
    require(there.offered > 1000 && there.lost > 0 && back.lost == 0, || format!("{counts:?}"))?;
    // Five standard deviations of so many packets.
    let share = there.lost as f64 / (there.offered - there.queue_dropped) as f64;
    let bound = 5.0 * (0.1 * 0.9 / there.offered as f64).sqrt();
    require((share - 0.1).abs() < bound, || format!("{share} ± {bound}: {counts:?}"))
}

fn carries_a_link() -> Outcome {
    let lane = LaneSettings::with_queue_of_bdp(50_000_000, Duration::from_millis(40), 0.001);
    let network = LineNetwork::build([lane; 2])?;
    let rendezvous = network.rendezvous()?;
    let flow = network.pipe(&rendezvous)?;
    flow.begun()?;
    let arrived = || flow.arrivals().between(Duration::ZERO, WITHIN * 2);
    let deadline = Instant::now() + WITHIN;
    while arrived() < 1_000_000 {
        require(Instant::now() < deadline, || format!("{} bytes: {}", arrived(), flow.tails()))?;
        std::thread::park_timeout(LOOK_EVERY);
    }
    let (arrived, [there, back]) = (arrived(), network.counts()?);
    // There is neither a relay nor another way.
    require(there.udp_bytes > arrived && back.udp_bytes > 0, || format!("{there:?} {back:?}"))
}
