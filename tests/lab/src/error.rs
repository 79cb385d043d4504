//! What can go wrong in a laboratory.

use std::io;
use std::time::Duration;

/// Why an experiment came to no result, or to the wrong one.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A tool of the system cannot be run, or refuses.
    #[error("{command}: {why}")]
    Tool {
        /// The command line.
        command: String,
        /// What it says, or what the system says.
        why: String,
    },
    /// A program of ours cannot be run.
    #[error("cannot run {name}: {source}")]
    Program {
        /// Which one.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// A tool or a prober printed something that is not understood.
    #[error("{of} is not understood: {text}")]
    Output {
        /// Whose output.
        of: &'static str,
        /// Its beginning.
        text: String,
    },
    /// A NAT of the laboratory is not of its kind, so that no result would mean anything.
    #[error("the NAT of side {side} is not what it claims: {why}")]
    NotAsClaimed {
        /// Which side.
        side: usize,
        /// What was claimed, and what was seen.
        why: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {within:?}{ended}\n{logs}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// A remark when the program has ended, else empty.
        ended: &'static str,
        /// The last lines of all programs.
        logs: String,
    },
    /// The kernel's counters do not show what the workers say.
    #[error("not proven: {why}\n{evidence}")]
    NotProven {
        /// What is missing.
        why: String,
        /// All that was counted.
        evidence: String,
    },
}

impl LabError {
    /// A program cannot be run.
    pub(crate) fn program(name: &str, source: io::Error) -> Self {
        Self::Program { name: name.to_owned(), source }
    }

    /// Output that is not understood.
    pub(crate) fn output(of: &'static str, text: &str) -> Self {
        Self::Output { of, text: text.chars().take(400).collect() }
    }
}
