//! What is printed: results on standard output, progress on standard error.
//!
//! Much of it tells what the rendezvous or a peer has said. So all of it is made harmless here, where it
//! leaves the program, and not in each of the places that put a sentence together.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use holepunch_programs::{harmless, harmless_json};

use crate::exit::Failure;

/// Why standard output has not taken a result: the first time. One for the process, as standard output is.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints a result, which may have several lines. Where it cannot be written, the command fails in its end
/// ([`lost`]).
pub(crate) fn line(text: impl Display) {
    let lines: Vec<_> = text.to_string().split('\n').map(one_line).collect();
    own(lines.join("\n"));
}

/// Prints a text with colours as it stands. All of it has to be this program's own.
pub(crate) fn own(text: impl Display) {
    checked(writeln!(std::io::stdout(), "{text}"));
}

/// Prints a document of this program's own: what a shell or another program reads.
pub(crate) fn bytes(document: &[u8]) {
    let mut out = std::io::stdout();
    checked(out.write_all(document).and_then(|()| out.flush()));
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
pub(crate) fn progress(text: impl Display) {
    let _when_nobody_reads = writeln!(std::io::stderr(), "{}", one_line(text));
}

/// Prints a question on standard error; the answer follows on the same line.
pub(crate) fn prompt(text: &str) {
    let mut err = std::io::stderr();
    let _when_nobody_reads = write!(err, "{text}").and_then(|()| err.flush());
}

/// `1 file`, `2 files`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// The text on one line, so that a line break of somebody else's begins none.
pub(crate) fn one_line(text: impl Display) -> String {
    harmless(&text.to_string(), usize::MAX)
}

/// Prints a value as JSON in one line.
pub(crate) fn json_line(value: &impl serde::Serialize) {
    document(serde_json::to_string(value));
}

/// The last object of a program that has failed.
#[derive(Debug, serde::Serialize)]
struct Failed<'a> {
    r#type: &'a str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
}

/// Prints why a program has failed, where its other results are JSON. A command line that is wrong has none.
pub(crate) fn json_failure<T>(json: bool, outcome: &Result<T, Failure>) {
    if let Err(failure) = outcome
        && json
        && !failure.is_usage()
    {
        let (error, error_code) = (failure.why(), failure.cause());
        json_line(&Failed { r#type: "failed", error, error_code });
    }
}

/// Prints a value as one JSON object.
pub(crate) fn json(value: &impl serde::Serialize) {
    document(serde_json::to_string_pretty(value));
}

fn document(text: serde_json::Result<String>) {
    match text {
        Ok(text) => own(safe_document(&text)),
        Err(error) => progress(format!("cannot write JSON: {error}")),
    }
}

/// A document means the same afterwards; between its lines stand its own line breaks alone, those of strings
/// are escaped already.
fn safe_document(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(harmless_json).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets the title, clears the screen, turns text around; the same in C1; and a line of its own.
    const HOSTILE: &str = "\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{202e}\u{9b}31m\r\nholepunch: done";

    #[test]
    fn what_others_say_stays_on_its_line_and_does_nothing() {
        let expected = r"\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{202e}\u{9b}31m\u{d}\u{a}holepunch: done";
        assert_eq!(one_line(HOSTILE), expected);
    }

    #[test]
    fn a_json_document_is_as_harmless_and_means_the_same() {
        let value = serde_json::json!({ "reason": HOSTILE, "lines": ["a\nb"] });
        for text in [serde_json::to_string(&value), serde_json::to_string_pretty(&value)] {
            let shown = safe_document(&text.unwrap());
            assert!(!shown.contains(|it: char| it != '\n' && it.is_control()), "{shown}");
            assert!(!shown.contains('\u{202e}'), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
