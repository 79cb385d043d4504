//! A program over a link, in a host.

use std::time::Duration;

use serde_json::Value;

use crate::error::LabError;
use crate::logs::Line;
use crate::process::Process;

/// A program that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Program(Process);

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` where a signal has ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// The last lines of its log, for people.
    pub tail: String,
}

impl Program {
    pub(crate) fn new(process: Process) -> Self {
        Self(process)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not come within that time.
    pub fn end(mut self, within: Duration) -> Result<Ended, LabError> {
        let code = self.0.end(within)?.code();
        Ok(Ended { code, out: self.0.output(), tail: self.0.tail() })
    }

    /// All lines of its log so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.0.lines()
    }

    /// Waits until `pick` finds what it looks for in its log.
    ///
    /// # Errors
    /// It does not within that time.
    pub fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        self.0.wait_for(what, within, pick)
    }

    /// The same among the lines of its standard output.
    ///
    /// # Errors
    /// It does not within that time.
    pub fn wait_for_output<T>(
        &self,
        what: &str,
        within: Duration,
        pick: impl FnMut(&[Line]) -> Option<T>,
    ) -> Result<T, LabError> {
        self.0.wait_for_output(what, within, pick)
    }
}

impl Ended {
    /// What it has printed, as JSON: one object over many lines, or the last of many lines.
    ///
    /// # Errors
    /// It has not ended with 0, or has printed no such thing.
    pub fn json(&self) -> Result<Value, LabError> {
        let last = self.out.lines().last().unwrap_or_default();
        let whole = serde_json::from_str(&self.out).or_else(|_| serde_json::from_str(last));
        match (self.code, whole) {
            (Some(0), Ok(json)) => Ok(json),
            (code, _) => {
                let why = format!("a program has ended with {code:?}");
                Err(LabError::NotProven { why, evidence: self.out.clone() + &self.tail })
            }
        }
    }
}
