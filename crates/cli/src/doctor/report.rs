//! All checks: printed as they end, and counted.

use std::time::{Duration, Instant};

use holepunch_worker::milliseconds;
use serde::Serialize;

use super::check::{Check, Name, Status};
use crate::output::{self, counted};

/// A check that takes longer is told to be under way.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// The result as far as it is known.
#[derive(Debug)]
pub(super) struct Report {
    began: Instant,
    json: bool,
    /// As a person knows it, without a password; `None` where none is named.
    pub(super) rendezvous: Option<String>,
    checks: Vec<Check>,
}

/// The result as a program reads it.
#[derive(Debug, Serialize)]
struct Document<'a> {
    rendezvous: Option<&'a str>,
    /// Whether there is no fault.
    ok: bool,
    faults: u64,
    warnings: u64,
    elapsed_ms: f64,
    checks: &'a [Check],
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { began: Instant::now(), json, rendezvous: None, checks: Vec::new() }
    }

    /// The next line of the result.
    pub(super) fn push(&mut self, check: Check) {
        if !self.json {
            output::line(output::one_line(check.behind(&self.checks)));
        }
        self.checks.push(check);
    }

    /// The next line, which others need.
    pub(super) fn need(&mut self, check: Check) -> Result<(), Name> {
        let (name, is_usable) = (check.check, check.is_usable());
        self.push(check);
        if is_usable { Ok(()) } else { Err(name) }
    }

    fn count(&self, status: Status) -> u64 {
        self.checks.iter().filter(|check| check.status == status).count() as u64
    }

    /// Prints what is left; whether there is no fault.
    pub(super) fn end(&self) -> bool {
        let (faults, warnings) = (self.count(Status::Fault), self.count(Status::Warning));
        let elapsed = self.began.elapsed();
        if self.json {
            output::json(&Document {
                rendezvous: self.rendezvous.as_deref(),
                ok: faults == 0,
                faults,
                warnings,
                elapsed_ms: milliseconds(elapsed),
                checks: &self.checks,
            });
        } else {
            let (faults, warnings) = (counted(faults, "fault"), counted(warnings, "warning"));
            output::line(format!("{faults}, {warnings}, after {:.1} s", elapsed.as_secs_f64()));
        }
        faults == 0
    }
}

/// Runs a check, and says that it is under way where it takes long.
pub(super) async fn watch<T>(name: Name, checking: impl Future<Output = T>) -> T {
    let mut checking = std::pin::pin!(checking);
    tokio::select! {
        done = &mut checking => return done,
        () = tokio::time::sleep(TOLD_AFTER) => {}
    }
    output::progress(format!("{name}: under way, for {} s at most", name.limit().as_secs()));
    checking.await
}
