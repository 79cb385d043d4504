//! Prints how much of a line a link carries.
#![allow(clippy::print_stdout, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use holepunch_line::{Driver, Flow, LineConfig, Loss, Setup, run};
use noq_proto::congestion::{Bbr3Config, ControllerFactory, CubicConfig};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "link")]
    congestion: String,
    #[arg(long, value_delimiter = ',', default_value = "0,0.001,0.01,0.02")]
    loss: Vec<f64>,
    #[arg(long, value_delimiter = ',', default_value = "10,40,100,200")]
    rtt_ms: Vec<u64>,
    #[arg(long, value_delimiter = ',', default_value = "50,500")]
    mbit: Vec<u64>,
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Queue, in BDP
    #[arg(long, default_value_t = 1.0)]
    queue: f64,
    #[arg(long)]
    beside_cubic: bool,
    #[arg(long)]
    states: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 0)]
    start_ms: u64,
    #[arg(long, default_value_t = 0)]
    cubic_start_ms: u64,
}

type Factory = Option<Arc<dyn ControllerFactory + Send + Sync>>;

fn factory(name: &str) -> Factory {
    match name {
        "cubic" => {
            let mut config = CubicConfig::default();
            config.initial_window(32 * 1200);
            Some(Arc::new(config))
        }
        "bbr3" => {
            let mut config = Bbr3Config::default();
            config.initial_window(32 * 1200);
            Some(Arc::new(config))
        }
        "ours" => Some(Arc::new(holepunch_congestion::BbrConfig { initial_window: 32 * 1200 })),
        _ => None,
    }
}

fn main() {
    let args = Args::parse();
    for mbit in &args.mbit {
        for rtt in &args.rtt_ms {
            for loss in &args.loss {
                let rate = mbit * 1_000_000;
                let queue = (rate as f64 / 8.0 * *rtt as f64 / 1e3 * args.queue) as u64;
                let line = LineConfig {
                    bits_per_second: rate,
                    delay: Duration::from_micros(rtt * 500),
                    queue_bytes: queue.max(15_000),
                    loss: Loss(*loss),
                };
                let mut flows =
                    vec![Flow { congestion: factory(&args.congestion), start: Duration::from_millis(args.start_ms) }];
                if args.beside_cubic {
                    flows.push(Flow { congestion: factory("cubic"), start: Duration::from_millis(args.cubic_start_ms) });
                }
                let start = std::time::Instant::now();
                let report = run(&Setup {
                    forth: line,
                    back: LineConfig { queue_bytes: 10_000_000, ..line },
                    flows,
                    length: Duration::from_secs(args.seconds),
                    driver: Driver::REAL,
                    seed: args.seed,
                    sample: Duration::from_millis(250),
                    turns: vec![],
                });
                print!("{mbit:4} Mbit/s {rtt:3} ms loss {loss:5}:");
                for flow in &report.flows {
                    let n = flow.samples.len();
                    let share = |bytes: u64, of: f64| bytes as f64 * 8.0 / of / rate as f64;
                    let late = flow.samples[n - 1] - flow.samples[n / 2 - 1];
                    print!(
                        "  {:.3} (2nd half {:.3}, 1s {:.3}) lost {:.4} sent {} drop {} back {} wakes {} {}",
                        share(flow.bytes(), args.seconds as f64),
                        share(late, args.seconds as f64 / 2.0),
                        share(flow.samples[3], 1.0),
                        flow.lost_packets as f64 / flow.sent_packets as f64,
                        flow.sent_packets,
                        flow.dropped,
                        flow.datagrams_back,
                        flow.wakes,
                        flow.ended.as_deref().unwrap_or("")
                    );
                }
                println!("  [{:.1} s]", start.elapsed().as_secs_f64());
                if args.states {
                    let mut before = 0;
                    for (sample, state) in
                        report.flows[0].samples.iter().zip(&report.flows[0].states)
                    {
                        println!("{:.2} {state}", (sample - before) as f64 * 32.0 / rate as f64);
                        before = *sample;
                    }
                }
            }
        }
    }
}
