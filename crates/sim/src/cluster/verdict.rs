//! What must hold.

use std::fmt;
use std::time::Duration;

/// What did not hold, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// After the beginning of the history.
    pub after: Duration,
    /// What.
    pub what: String,
    /// What happened before, the last at the end.
    pub log: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log {
            writeln!(f, "{line}")?;
        }
        write!(f, "{:.3} s: {}", self.after.as_secs_f64(), self.what)
    }
}

impl std::error::Error for Broken {}
