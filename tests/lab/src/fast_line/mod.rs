//! A fast line in user space: delay, loss, a rate and a queue, for gigabits.
//!
//! The kernel's `netem` does the same, where there is one. The line is a process between two TUN devices, which are
//! made in its own namespace and then moved into those that it joins. As at a card, what TCP, or UDP's segmentation, has put
//! together is cut into packets of the device's MTU before it comes to the line, so that rate, loss and queue count packets;
//! and packets that come out together are put together again.
//!
//! - [`settings`] what a direction does. `lane`, the logic, has no clock and no sockets: it says when a packet arrives,
//!   if it does.
//! - `device` takes apart and puts together.
//! - `pump` moves the packets of one direction, in a thread of its own.
//! - [`network`] puts a line between two hosts, with a rendezvous' place behind one of them.
//!
//! The process prints its counters, a JSON object in a line, whenever it reads a line; it ends with its input.

mod device;
mod lane;
pub mod network;
mod pump;
pub mod settings;
mod tally;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use lane::Lane;
use pump::Pump;
use settings::LaneSettings;
pub use tally::LaneCounts;
use tally::Tally;

/// First argument of the binary when it is to be a line.
pub(crate) const ENTRY: &str = "lab-fast-line";
/// What a line says once it has its devices.
pub(crate) const READY: &str = "line is ready";
/// The devices, as they are called in the line's namespace: the first one belongs to host 0.
pub(crate) const DEVICES: [&str; 2] = ["end0", "end1"];

/// Runs the line's command line: four words for each direction, the one from host 0 first, and a seed.
pub(crate) fn main(words: &[String]) -> ExitCode {
    let ended = match parse(words) {
        Some((settings, seed)) => run(settings, seed),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "wrong words")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the line has failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Option<([LaneSettings; 2], u64)> {
    let (seed, words) = words.split_last()?;
    let (there, back) = words.split_at_checked(words.len() / 2)?;
    let settings = [LaneSettings::of_words(there)?, LaneSettings::of_words(back)?];
    Some((settings, seed.parse().ok()?))
}

/// The words that [`parse`] takes.
pub(crate) fn words(settings: [LaneSettings; 2], seed: u64) -> Vec<String> {
    let lanes = settings.iter().flat_map(LaneSettings::words);
    lanes.chain([seed.to_string()]).collect()
}

fn run(settings: [LaneSettings; 2], seed: u64) -> io::Result<()> {
    let [(from0, to0), (from1, to1)] = [device::attach(DEVICES[0])?, device::attach(DEVICES[1])?];
    let mut tallies = Vec::new();
    for ((settings, seed), (from, to)) in
        settings.into_iter().zip([seed, !seed]).zip([(from0, to1), (from1, to0)])
    {
        let tally = Arc::new(Tally::default());
        tallies.push(Arc::clone(&tally));
        let pump = Pump::new(from, to, Lane::new(settings, seed), tally);
        thread::spawn(move || {
            let ended = pump.run();
            // The other direction alone would be no line.
            say(&format!("the line has ended: {ended:?}"));
            std::process::exit(1);
        });
    }
    say(READY);
    for line in io::stdin().lock().lines() {
        line?;
        let counts: Vec<LaneCounts> = tallies.iter().map(|tally| tally.counts()).collect();
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &counts)?;
        writeln!(out)?;
    }
    Ok(())
}

fn say(text: &str) {
    let _when_nobody_reads = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_understands_its_own_words() {
        let settings = [1, 500].map(|mbit| {
            LaneSettings::with_queue_of_bdp(mbit * 1_000_000, Duration::from_millis(100), 0.01)
        });
        assert_eq!(parse(&words(settings, 9)), Some((settings, 9)));
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&words(settings, 9)[1..]), None);
    }
}
