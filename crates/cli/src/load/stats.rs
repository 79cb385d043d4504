//! What was measured, and whether the measurer was in its own way.

use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::table::table;

/// The kernel counts CPU time in such ticks (`USER_HZ`, the same on every Linux architecture).
const TICKS_PER_SECOND: f64 = 100.0;
/// How often the generator looks how late it is.
const LAG_PROBE_EVERY: Duration = Duration::from_millis(10);
/// A generator that is so late in one of a hundred looks is itself the bottleneck.
const LAG_P99_MAX_MS: f64 = 25.0;
/// Or one that uses so much of its processors.
const CPU_SHARE_MAX: f64 = 0.9;

/// Times, to three digits.
#[derive(Debug)]
pub(super) struct Sample(Histogram<u64>);

impl Default for Sample {
    fn default() -> Self {
        Self(Histogram::new(3).expect("invariant: three digits are a valid precision"))
    }
}

impl Sample {
    pub(super) fn add(&mut self, time: Duration) {
        // (`saturating_record` would clamp to the range that the histogram has so far.)
        let recorded = self.0.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if let Err(error) = recorded {
            tracing::warn!(%error, "a time was left out");
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.0.add(&other.0).is_err() {
            tracing::warn!("times out of range were left out");
        }
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        Duration::from_micros(self.0.value_at_quantile(quantile)).as_secs_f64() * 1000.0
    }

    pub(super) fn times(&self, what: &'static str) -> Times {
        Times {
            what,
            count: self.0.len(),
            p50_ms: self.quantile_ms(0.5),
            p99_ms: self.quantile_ms(0.99),
            max_ms: self.quantile_ms(1.0),
        }
    }
}

/// A row of the result.
#[derive(Debug, Serialize)]
pub(super) struct Times {
    what: &'static str,
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Watches this process while it measures.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    cpu: Option<f64>,
    lag: JoinHandle<()>,
    late: std::sync::Arc<std::sync::Mutex<Sample>>,
}

impl Meter {
    pub(super) fn start() -> Self {
        let late = std::sync::Arc::new(std::sync::Mutex::new(Sample::default()));
        let sink = std::sync::Arc::clone(&late);
        let lag = tokio::spawn(async move {
            loop {
                let due = Instant::now() + LAG_PROBE_EVERY;
                tokio::time::sleep_until(due.into()).await;
                if let Ok(mut late) = sink.lock() {
                    late.add(due.elapsed());
                }
            }
        });
        Self { started: Instant::now(), cpu: cpu_seconds("self"), lag, late }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn stop(self) -> Generator {
        self.lag.abort();
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu_cores =
            cpu_seconds("self").zip(self.cpu).map(|(now, before)| (now - before) / seconds);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lag_p99_ms = self.late.lock().map_or(0.0, |late| late.quantile_ms(0.99));
        let too_busy = cpu_cores.is_some_and(|used| {
            #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 processors")]
            let all = cores as f64;
            used >= CPU_SHARE_MAX * all
        });
        let is_bottleneck = too_busy || lag_p99_ms > LAG_P99_MAX_MS;
        Generator { cpu_cores, cores, lag_p99_ms, is_bottleneck }
    }
}

/// CPU time of a process so far (utime and stime of `/proc/PID/stat`, proc(5)).
fn cpu_seconds(process: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the program's name, which may contain anything but ends with the last ')'.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Watches the server, where that is a process of this machine.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Server {
    /// Process of the server, on this machine, whose CPU time is told
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
}

impl Server {
    /// Its CPU time so far.
    pub(super) fn cpu_seconds(self) -> Option<f64> {
        cpu_seconds(&self.server_pid?.to_string())
    }
}

/// What the server has used.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    cpu_seconds: f64,
    /// Things done in one second of CPU time.
    done_per_cpu_second: f64,
}

/// How busy the load generator itself was.
#[derive(Debug, Serialize)]
pub(super) struct Generator {
    /// Processors in use, on average; `null` where the system does not tell.
    cpu_cores: Option<f64>,
    cores: usize,
    /// How late its own timers were.
    lag_p99_ms: f64,
    /// Whether the figures say more of the generator than of the server.
    is_bottleneck: bool,
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) load: &'static str,
    pub(super) workers: usize,
    pub(super) seconds: f64,
    /// Things done, and how many of them a second.
    pub(super) done: u64,
    pub(super) per_second: f64,
    /// Megabits of payload in a second, where it was that which was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mbit_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<Served>,
    pub(super) times: Vec<Times>,
    /// What went wrong, and how often; the first few reasons.
    pub(super) failures: usize,
    pub(super) reasons: Vec<String>,
    pub(super) generator: Generator,
}

/// Reasons that a summary shows.
const REASONS_MAX: usize = 5;

impl Summary {
    pub(super) fn new(
        load: &'static str,
        workers: usize,
        done: u64,
        took: Duration,
        generator: Generator,
    ) -> Self {
        let seconds = took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "no run does 2^52 things")]
        let per_second = if seconds > 0.0 { done as f64 / seconds } else { 0.0 };
        let (times, reasons) = (Vec::new(), Vec::new());
        Self {
            load,
            workers,
            seconds,
            done,
            per_second,
            mbit_per_second: None,
            server: None,
            times,
            failures: 0,
            reasons,
            generator,
        }
    }

    /// The server has used so much CPU time between the two moments.
    pub(super) fn note_server(&mut self, before: Option<f64>, after: Option<f64>) {
        let used = before.zip(after).map(|(before, after)| after - before);
        self.server = used.map(|cpu_seconds| {
            #[expect(clippy::cast_precision_loss, reason = "no run does 2^52 things")]
            let done = self.done as f64;
            // A tick at least.
            let done_per_cpu_second = done / cpu_seconds.max(1.0 / TICKS_PER_SECOND);
            Served { cpu_seconds, done_per_cpu_second }
        });
    }

    pub(super) fn failed(&self) -> bool {
        self.failures > 0
    }

    /// Counts failures and keeps the first few different reasons.
    pub(super) fn note_failures(&mut self, all: &[String]) {
        self.failures += all.len();
        for reason in all {
            if self.reasons.len() < REASONS_MAX && !self.reasons.contains(reason) {
                self.reasons.push(reason.clone());
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |times: &Times| {
            vec![
                times.what.to_owned(),
                times.count.to_string(),
                format!("{:.2} ms", times.p50_ms),
                format!("{:.2} ms", times.p99_ms),
                format!("{:.2} ms", times.max_ms),
            ]
        };
        let rows: Vec<Vec<String>> = self.times.iter().map(row).collect();
        f.write_str(&table(&["time of", "count", "p50", "p99", "max"], &rows))?;
        writeln!(
            f,
            "{}: {} workers, {} done in {:.3} s, {:.0} a second, {} failures",
            self.load, self.workers, self.done, self.seconds, self.per_second, self.failures
        )?;
        if let Some(rate) = self.mbit_per_second {
            writeln!(f, "{rate:.0} Mbit/s of payload")?;
        }
        if let Some(Served { cpu_seconds, done_per_cpu_second }) = &self.server {
            writeln!(f, "server: {cpu_seconds:.2} s of CPU, {done_per_cpu_second:.0} in each")?;
        }
        for reason in &self.reasons {
            writeln!(f, "failure: {reason}")?;
        }
        let Generator { cpu_cores, cores, lag_p99_ms, is_bottleneck } = &self.generator;
        let cpu = cpu_cores.map_or("unknown".to_owned(), |used| format!("{used:.2}"));
        write!(
            f,
            "generator: {cpu} of {cores} processors, timers late by {lag_p99_ms:.1} ms (p99)"
        )?;
        if *is_bottleneck {
            write!(
                f,
                "\nTHE GENERATOR ITSELF IS THE BOTTLENECK: the server can do more than this shows"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_keeps_times_of_every_size() {
        let mut sample = Sample::default();
        for ms in [1, 20, 300, 4000, 50_000] {
            sample.add(Duration::from_millis(ms));
        }
        let mut all = Sample::default();
        all.merge(&sample);
        let times = all.times("test");
        assert_eq!(times.count, 5);
        assert!((299.0..302.0).contains(&times.p50_ms), "{times:?}");
        assert!((49_900.0..50_200.0).contains(&times.max_ms), "{times:?}");
    }

    #[tokio::test]
    async fn a_generator_that_is_late_says_so() {
        let meter = Meter::start();
        tokio::task::yield_now().await;
        // The one thread of this test's runtime is busy, so the meter's timer cannot fire.
        std::thread::sleep(Duration::from_millis(100));
        tokio::time::sleep(LAG_PROBE_EVERY).await;
        let generator = meter.stop();
        assert!(generator.is_bottleneck, "{generator:?}");
    }
}
