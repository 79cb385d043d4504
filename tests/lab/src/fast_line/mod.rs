//! A fast line in user space: delay, loss, a rate and a queue, for gigabits.
//!
//! The kernel's `netem` does the same, where there is one. The line is a process between two TUN devices, which are
//! made in its own namespace and then moved into those that it joins. Offload ends at a TUN device: the kernel cuts
//! what TCP, or UDP's segmentation, has put together into packets of the device's MTU, so that rate, loss and queue
//! count packets, as they do on a real line.
//!
//! - [`settings`] what a direction does. `lane`, the logic, has no clock and no sockets: it says when a packet arrives,
//!   if it does.
//! - `pump` moves the packets of one direction, in a thread of its own.
//! - [`network`] puts a line between two hosts, with a rendezvous' place behind one of them.
//!
//! The process prints its counters, a JSON object in a line, whenever it reads a line; it ends with its input.

mod lane;
pub mod network;
mod pump;
pub mod settings;
mod tally;

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio_tun::Tun;

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

/// A device and the runtime that waits for it.
fn attach(name: &str) -> io::Result<(Arc<Tun>, Runtime)> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let mut tuns = Tun::builder().name(name).build().map_err(io::Error::other)?;
    let tun = tuns.pop().ok_or_else(|| io::Error::other("no device"))?;
    drop(guard);
    Ok((Arc::new(tun), runtime))
}

fn run(settings: [LaneSettings; 2], seed: u64) -> io::Result<()> {
    let [(end0, runtime0), (end1, runtime1)] = [attach(DEVICES[0])?, attach(DEVICES[1])?];
    let directions = [
        (Arc::clone(&end0), Arc::clone(&end1), runtime0),
        (Arc::clone(&end1), Arc::clone(&end0), runtime1),
    ];
    let mut tallies = Vec::new();
    for ((settings, seed), (from, to, runtime)) in
        settings.into_iter().zip([seed, !seed]).zip(directions)
    {
        let tally = Arc::new(Tally::default());
        tallies.push(Arc::clone(&tally));
        let lane = Lane::new(settings, seed);
        let pump = Pump { from, to, lane, tally, under_way: VecDeque::new() };
        thread::spawn(move || {
            let ended = pump.run(&runtime);
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
