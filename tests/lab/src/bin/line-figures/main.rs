//! `line-figures`: what links and the kernel's TCP carry over the same line.

mod cell;
mod contender;
mod report;
mod shared;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use holepunch_lab::{availability, multicall};

use cell::{Cell, Measured};
use contender::Contender;

/// Measures how much arrives over a line with delay, loss, a rate and a queue
///
/// Two hosts are joined by a line in user space: half of the round trip each way, the loss each way, and before each
/// direction a queue of one bandwidth-delay product, but at least 64 KiB. For each line the kernel's TCP with BBR, with
/// Cubic, and `holepunch pipe` are measured one after another, each alone and with everything in it new. What counts is
/// the bytes that the receiver has in the time from the first one on, start-up included.
#[derive(Debug, Parser)]
#[command(
    after_help = "Needs root, ip, chrt and setpriv, and the kernel's bbr. Measure a release build:\n  \
    cargo run --release -p holepunch-lab --bin line-figures -- --loss 0,1 --rtt-ms 40 --rate-mbit 500\n\
    A figure with ! is of a line that this machine has not kept up with: it means nothing.\n\
    Exit codes: 0 all was measured, 1 something was not, or was of no meaning, 2 usage."
)]
struct Args {
    /// Packets of a hundred that are lost, each on its own
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', default_value = "0,0.1,1,2", value_parser = percent)]
    loss: Vec<f64>,
    /// Round trips of the line
    #[arg(long, value_name = "MS,…", value_delimiter = ',', default_value = "10,40,100,200",
        value_parser = clap::value_parser!(u64).range(0..=4000))]
    rtt_ms: Vec<u64>,
    /// Million bits in a second, of packets with their IP headers
    #[arg(long, value_name = "MBIT,…", value_delimiter = ',', default_value = "50,500",
        value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate_mbit: Vec<u64>,
    /// How long each of them is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds for each line, every other one in the opposite order; medians are shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Who is measured
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "bbr,cubic,holepunch"
    )]
    with: Vec<Contender>,
    /// Another program to be measured as well, called as `PATH relay IP`, `PATH listen URL` and
    /// `PATH dial URL ID 7842 SECONDS 20`; these print `READY`, `ID …` and `REPORT …`, and `RESULT … bulk_mbit=…`
    #[arg(long, value_name = "PATH")]
    peer_command: Option<PathBuf>,
    /// Measure holepunch and one TCP flow with Cubic at the same time, too: the shares in the later half
    #[arg(long)]
    beside_cubic: bool,
    /// Print a JSON object at the end, and nothing before
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err("not from 0 to 100".to_owned()) }
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
    if !args.json {
        say(std::io::stdout(), report::header(&args));
    }
    let mut all = Vec::new();
    for cell in cells(&args) {
        let measured = Measured::of(cell, &args);
        for failure in &measured.failures {
            say(std::io::stderr(), format_args!("line-figures: {cell}: {failure}"));
        }
        if !args.json {
            say(std::io::stdout(), report::row(&args, &measured));
        }
        all.push(measured);
    }
    if args.json {
        say(std::io::stdout(), format_args!("{:#}", report::json(&args, &all)));
    }
    ExitCode::from(u8::from(!all.iter().all(Measured::is_good)))
}

/// All lines, in the order of the table.
fn cells(args: &Args) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &rate_mbit in &args.rate_mbit {
        for &rtt_ms in &args.rtt_ms {
            let lines = args.loss.iter().map(|&loss| Cell { rate_mbit, rtt_ms, loss });
            cells.extend(lines);
        }
    }
    cells
}

pub(crate) fn say(mut to: impl Write, text: impl Display) {
    let _when_nobody_reads = writeln!(to, "{text}");
}
