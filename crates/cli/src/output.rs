//! Results on standard output.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use crate::exit::Failure;

/// Why standard output has not taken a result: the first time. One for the process, as standard output is.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints a line. Where it cannot be written, the command fails in its end ([`lost`]).
pub(crate) fn line(text: impl std::fmt::Display) {
    checked(writeln!(std::io::stdout(), "{text}"));
}

/// Keeps why something could not be written. A reader that has gone away (`| head`) is no reason to fail.
pub(crate) fn checked(written: std::io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _the_first_counts = LOST.set(format!("cannot write the output: {error}"));
    }
}

/// Why a part of the result is lost, where one is.
pub(crate) fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Prints a line of progress: on standard error, so that standard output stays the result's.
pub(crate) fn progress(text: impl std::fmt::Display) {
    let _when_nobody_reads = writeln!(std::io::stderr(), "{text}");
}

/// Prints a value as JSON in one line.
pub(crate) fn json_line(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(text),
        Err(error) => progress(format!("cannot write JSON: {error}")),
    }
}

/// The last object of a program that has failed.
#[derive(Debug, serde::Serialize)]
struct Failed<'a> {
    r#type: &'a str,
    error: &'a str,
}

/// Prints why a program has failed, where its other results are JSON. A command line that is wrong has none.
pub(crate) fn json_failure<T>(json: bool, outcome: &Result<T, Failure>) {
    if let Err(failure) = outcome
        && json
        && !failure.is_usage()
    {
        json_line(&Failed { r#type: "failed", error: failure.why() });
    }
}

/// Prints a value as one JSON object.
pub(crate) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => progress(format!("cannot write JSON: {error}")),
    }
}
