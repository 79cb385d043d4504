//! Results on standard output.

use std::io::Write;

/// Prints a line. A reader that has gone away (`| head`) is no reason to fail.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _when_nobody_reads = writeln!(std::io::stdout(), "{text}");
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

/// Prints a value as one JSON object.
pub(crate) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => progress(format!("cannot write JSON: {error}")),
    }
}
