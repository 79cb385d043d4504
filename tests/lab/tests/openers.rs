//! Two kernels that accept packets from outside, near each other: an opener that goes one router too far reaches the
//! peer's NAT before it has opened.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::pairs::{Expected, Pair};
use holepunch_lab::{Conditions, NatKind, availability, multicall, trial};
use libtest_mimic::{Arguments, Failed};

/// Routers between the two NATs: one in the middle, and these on the two lines.
const BETWEEN: [[u8; 2]; 4] = [[0, 0], [0, 1], [1, 1], [1, 2]];
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(10)];
/// Runs of each case, unless this names another number.
const RUNS: u32 = 2;
const RUNS_SETTING: &str = "HOLEPUNCH_LAB_RUNS";
/// The NAT of the second one is known after a second, and what was planned before may have been in vain.
const LINKED_WITHIN: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let arguments = Arguments::from_args();
    let cases = BETWEEN.into_iter().flat_map(|hops| DELAYS.map(|delay| (hops, delay)));
    let trials = cases.map(|(hops, delay)| {
        let between: u8 = 1 + hops.iter().sum::<u8>();
        let name = format!("{between}_routers_between_and_{}_ms", delay.as_millis());
        trial(&name, availability::check, move || links(hops, delay))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn runs() -> u32 {
    let named = std::env::var(RUNS_SETTING).ok().and_then(|text| text.parse().ok());
    named.unwrap_or(RUNS)
}

fn links(hops: [u8; 2], delay: Duration) -> Result<(), Failed> {
    let conditions = hops.map(|hops| Conditions::with_delay(delay).with_hops(hops));
    let pair = Pair { kinds: [NatKind::KernelRemap; 2], conditions, expected: Expected::Plain };
    for run in 1..=runs() {
        let linked = pair.run()?.linked.ok_or("the two are not linked")?;
        let took = linked.time_to_link();
        if took > LINKED_WITHIN {
            return Err(format!("run {run}: linked after {took:?}").into());
        }
    }
    Ok(())
}
