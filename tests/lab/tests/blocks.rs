//! Two kernels that take ports from blocks of 64, which begin anywhere, and use them again for other destinations.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::pairs::{Expected, Pair};
use holepunch_lab::{Conditions, Lab, NatKind, availability, multicall, trial};
use libtest_mimic::{Arguments, Failed};

/// The first ports of the blocks; neither is a multiple of 64.
const FIRST: [u16; 2] = [35_935, 50_001];
const NEAR: Duration = Duration::from_millis(10);
/// Runs of each case, unless this names another number.
const RUNS: u32 = 2;
const RUNS_SETTING: &str = "HOLEPUNCH_LAB_RUNS";

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let arguments = Arguments::from_args();
    let trials = vec![
        trial("two_blocks_10_ms_apart", availability::check, || {
            links(Conditions::with_delay(NEAR))
        }),
        trial("two_blocks_without_delay", availability::check, || links(Conditions::IDEAL)),
        trial("a_block_of_the_kernel_is_what_it_claims", availability::check, || {
            Ok(Lab::build(&FIRST.map(NatKind::SymmetricBlock))?.check_nats()?)
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn runs() -> u32 {
    let named = std::env::var(RUNS_SETTING).ok().and_then(|text| text.parse().ok());
    named.unwrap_or(RUNS)
}

fn links(conditions: Conditions) -> Result<(), Failed> {
    let kinds = FIRST.map(NatKind::SymmetricBlock);
    let pair = Pair { kinds, conditions: [conditions; 2], expected: Expected::Search };
    for run in 1..=runs() {
        let outcome = pair.run().map_err(|error| format!("run {run}: {error}"))?;
        if outcome.linked.is_none() {
            return Err(format!("run {run}: the two are not linked").into());
        }
    }
    Ok(())
}
