//! `lab-figures`: how long workers take to link, and behind which NATs they do.

mod figures;
mod first_byte;
mod matrix;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use holepunch_lab::{availability, multicall};

/// Measures how long two workers take to link
///
/// Without --matrix they are behind port-preserving NATs of the kernel. Each run has a new network (no
/// delay, no loss), a new rendezvous and two new workers. The second worker starts once the first
/// one's report is acknowledged. What is measured is the time from the second worker's report of its
/// UDP endpoint until both workers have logged the link.
///
/// With --matrix they are behind many pairs of NATs, on lines with 20 ms of delay, some of them with a
/// tenth of the packets lost. The NATs are checked first. What is measured is the time from the offer
/// until both workers have logged the link.
///
/// With --first-byte a file goes by a code, `send FILE` and `receive CODE`, on lines with 40 ms of delay, which is one way
/// to the rendezvous; half of the runs may take a second. HOLEPUNCH_LAB_BINARY names another `holepunch` to measure.
///
/// In each run the kernel's counters prove that the packets went from host to host.
#[derive(Debug, Parser)]
#[command(after_help = "Needs root, ip and nft. Measure a release build:\n  \
    cargo run --release -p holepunch-lab --bin lab-figures\n  \
    cargo run --release -p holepunch-lab --bin lab-figures -- --matrix\n  \
    cargo run --release -p holepunch-lab --bin lab-figures -- --first-byte\n\
    Exit codes: 0 as it has to be, 1 not so or a run failed, 2 usage.")]
struct Args {
    /// Number of runs, of each pair [default: 20, with --matrix 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Most milliseconds that half of the runs may take
    #[arg(long, value_name = "MS", default_value_t = 20.0, conflicts_with = "matrix")]
    p50_max_ms: f64,
    /// Most milliseconds that any run may take
    #[arg(long, value_name = "MS", default_value_t = 150.0, conflicts_with = "matrix")]
    worst_max_ms: f64,
    /// Run all pairs of NATs
    #[arg(long)]
    matrix: bool,
    /// Send a file by a code on lines of 40 ms, and measure from Enter of the receiver to the first byte written
    #[arg(long, conflicts_with = "matrix")]
    first_byte: bool,
    /// Only pairs whose name, as it is printed, contains this
    #[arg(long, value_name = "TEXT", requires = "matrix")]
    only: Option<String>,
    /// Print a JSON object at the end, and nothing before
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let args = Args::parse();
    // The reason is on standard error already.
    if availability::check().is_err() {
        return ExitCode::FAILURE;
    }
    let done = match (args.matrix, args.first_byte) {
        (true, _) => matrix::run_all(&args),
        (false, true) => first_byte::run_all(&args),
        (false, false) => figures::run_all(&args),
    };
    done.unwrap_or_else(|error| {
        say(std::io::stderr(), format_args!("lab-figures: {error}"));
        ExitCode::FAILURE
    })
}

pub(crate) fn say(mut to: impl Write, text: impl Display) {
    let _when_nobody_reads = writeln!(to, "{text}");
}
