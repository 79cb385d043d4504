//! Exit codes, and errors as a person reads them.

use std::fmt::Display;
use std::process::ExitCode;

use crate::output;

/// Something failed.
const FAILED: u8 = 1;
/// The command line or an environment variable is wrong.
const USAGE: u8 = 2;
/// Interrupted by the user: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked to.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    code: u8,
    text: String,
    /// The same for programs, where there is a word for it.
    cause: Option<&'static str>,
}

impl Failure {
    /// The command line or an environment variable is wrong.
    pub(crate) fn usage(why: impl Display) -> Self {
        Self { code: USAGE, text: why.to_string(), cause: None }
    }

    /// Something failed while the command ran.
    pub(crate) fn failed(why: impl Display) -> Self {
        Self { code: FAILED, text: why.to_string(), cause: None }
    }

    /// The user interrupted the command.
    pub(crate) fn interrupted() -> Self {
        Self { code: INTERRUPTED, text: "interrupted".to_owned(), cause: None }
    }

    /// With a word for programs.
    pub(crate) fn because(self, cause: &'static str) -> Self {
        Self { cause: Some(cause), ..self }
    }

    /// The word for programs.
    pub(crate) fn cause(&self) -> Option<&'static str> {
        self.cause
    }

    /// Whether nothing was begun, since the command line or an environment variable is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        self.code == USAGE
    }

    /// The error in words.
    pub(crate) fn why(&self) -> &str {
        &self.text
    }

    /// Prints the error and gives the exit code.
    pub(crate) fn print(&self) -> ExitCode {
        output::progress(format!("holepunch: {}", self.text));
        ExitCode::from(self.code)
    }
}

/// The exit code of a command line that cannot be parsed.
pub(crate) fn usage() -> ExitCode {
    ExitCode::from(USAGE)
}
