//! Prints how much of a line one transfer over a link carries, or one beside a flow of Cubic.
//!
//!     cargo run --release -p holepunch-line --example grid
//!     cargo run --release -p holepunch-line --example grid -- --loss 0 --beside-cubic --seconds 40
//!     cargo run --release -p holepunch-line --example grid -- --congestion cubic --mbit 50
#![expect(clippy::print_stdout, reason = "a command")]

use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use holepunch_line::{Driver, Flow, FlowReport, LineConfig, Loss, Setup, run};
use noq_proto::congestion::{Bbr3Config, ControllerFactory, CubicConfig};

/// What links begin with, whatever controls them.
const INITIAL_WINDOW_BYTES: u64 = 32 * 1200;
const SAMPLE: Duration = Duration::from_millis(250);
/// A queue is no shorter than ten packets.
const QUEUE_BYTES_MIN: f64 = 15_000.0;
/// Acknowledgements find a queue that does not overflow.
const BACK_QUEUE_BYTES: u64 = 10_000_000;

#[derive(Clone, Copy, ValueEnum)]
enum Congestion {
    /// What links have
    Link,
    /// The library's Cubic
    Cubic,
    /// The library's BBR
    Bbr3,
}

#[derive(Parser)]
struct Args {
    /// Who controls the sender
    #[arg(long, value_enum, default_value_t = Congestion::Link)]
    congestion: Congestion,
    /// Shares of packets that are lost at random, in both directions
    #[arg(long, value_delimiter = ',', default_value = "0,0.001,0.01,0.02")]
    loss: Vec<f64>,
    /// Round trips without a queue
    #[arg(long, value_delimiter = ',', default_value = "10,40,100,200")]
    rtt_ms: Vec<f64>,
    /// Rates of the line
    #[arg(long, value_delimiter = ',', default_value = "50,500")]
    mbit: Vec<u64>,
    /// Length of a transfer, from the first packet of the handshake on
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// The queue, in products of rate and round trip
    #[arg(long, default_value_t = 1.0)]
    queue: f64,
    /// A flow of Cubic begins at the same moment
    #[arg(long)]
    beside_cubic: bool,
    /// When the flow of Cubic begins
    #[arg(long, default_value_t = 0)]
    cubic_after_ms: u64,
    /// When the flow of the link begins
    #[arg(long, default_value_t = 0)]
    after_ms: u64,
    /// The machine is busy: a process runs so long, then does not run so long
    #[arg(long, num_args = 2, value_names = ["RUNS", "PAUSES"])]
    busy_ms: Vec<u64>,
    /// The machine is busy: an end that sleeps is woken late by up to this, at random
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// Which packets are lost
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tell the controller's state four times a second
    #[arg(long)]
    states: bool,
}

fn factory(congestion: Congestion) -> Option<Arc<dyn ControllerFactory + Send + Sync>> {
    match congestion {
        Congestion::Link => None,
        Congestion::Cubic => {
            let mut config = CubicConfig::default();
            config.initial_window(INITIAL_WINDOW_BYTES);
            Some(Arc::new(config))
        }
        Congestion::Bbr3 => {
            let mut config = Bbr3Config::default();
            config.initial_window(INITIAL_WINDOW_BYTES);
            Some(Arc::new(config))
        }
    }
}

fn setup(args: &Args, mbit: u64, rtt_ms: f64, loss: f64) -> Setup {
    let bits_per_second = mbit * 1_000_000;
    let product = bits_per_second as f64 / 8.0 * rtt_ms / 1e3;
    let forth = LineConfig {
        bits_per_second,
        delay: Duration::from_secs_f64(rtt_ms / 2e3),
        queue_bytes: (product * args.queue).max(QUEUE_BYTES_MIN) as u64,
        loss: Loss(loss),
    };
    let flow = |congestion, after| Flow {
        congestion: factory(congestion),
        start: Duration::from_millis(after),
        window: None,
    };
    let mut flows = vec![flow(args.congestion, args.after_ms)];
    if args.beside_cubic {
        flows.push(flow(Congestion::Cubic, args.cubic_after_ms));
    }
    let mut driver = Driver { jitter: Duration::from_millis(args.jitter_ms), ..Driver::REAL };
    if let [runs, pauses] = args.busy_ms[..] {
        driver.runs = Duration::from_millis(runs);
        driver.pauses = Duration::from_millis(pauses);
    }
    Setup {
        forth,
        back: LineConfig { queue_bytes: BACK_QUEUE_BYTES, ..forth },
        flows,
        length: Duration::from_secs_f64(args.seconds),
        driver,
        seed: args.seed,
        sample: SAMPLE,
        turns: Vec::new(),
    }
}

/// The shares of the line in all the time and in its second half; the packets lost of a hundred; what went wrong.
fn line_of(report: &FlowReport, rate: f64) -> String {
    let share = |bytes: u64, samples: usize| {
        bytes as f64 * 8.0 / (samples as f64 * SAMPLE.as_secs_f64()) / rate
    };
    let all = report.samples.len();
    let half = all / 2;
    let late = report.bytes() - report.samples[all - half - 1];
    let lost = report.lost_packets as f64 / report.sent_packets.max(1) as f64 * 100.0;
    format!(
        "{:.3} | {:.3} | {lost:.2} % | {} ",
        share(report.bytes(), all),
        share(late, half),
        report.ended.as_deref().unwrap_or_default()
    )
}

fn print_states(report: &FlowReport, rate: f64) {
    let mut before = 0;
    for (sample, state) in report.samples.iter().zip(&report.states) {
        let share = (sample - before) as f64 * 8.0 / SAMPLE.as_secs_f64() / rate;
        println!("{share:.3} {state}");
        before = *sample;
    }
}

fn main() {
    let args = Args::parse();
    println!("| Mbit/s | RTT, ms | loss | share | 2nd half | lost | |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for mbit in &args.mbit {
        for rtt_ms in &args.rtt_ms {
            for loss in &args.loss {
                let report = run(&setup(&args, *mbit, *rtt_ms, *loss));
                let rate = *mbit as f64 * 1e6;
                for flow in &report.flows {
                    println!("| {mbit} | {rtt_ms} | {loss} | {}|", line_of(flow, rate));
                }
                if args.states {
                    print_states(&report.flows[0], rate);
                }
            }
        }
    }
}
