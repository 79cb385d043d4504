//! What is printed: results on standard output, progress on standard error.
//!
//! Much of it tells what the rendezvous or a peer has said. So all of it is made harmless here, where it
//! leaves the program, and not in each of the places that put a sentence together. Here, too, a long line is broken
//! between words where a terminal is too narrow for it.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use holepunch_wire::text::{harmless, harmless_json};

use crate::exit::Failure;
use crate::screen::{self, Stream, columns, is_terminal};

/// Why standard output has not taken a result: the first time. One for the process, as standard output is.
static LOST: OnceLock<String> = OnceLock::new();

/// Whether the terminal's last line holds something that does not end it: a question, or the `^C` of the terminal.
static LINE_IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Prints text above a line that is being edited.
pub(crate) type Above = Arc<dyn Fn(String) + Send + Sync>;

/// Where everything is printed while somebody edits a line on the terminal.
static ABOVE: Mutex<Option<Above>> = Mutex::new(None);

/// From now on everything is printed so, or as ever.
pub(crate) fn print_above(above: Option<Above>) {
    *ABOVE.lock().unwrap_or_else(PoisonError::into_inner) = above;
}

/// The terminal has shown something that does not end its line: what comes next begins a new one.
pub(crate) fn line_is_open() {
    LINE_IS_OPEN.store(true, Ordering::SeqCst);
}

/// The terminal's last line has been cleared or ended.
pub(crate) fn line_is_ended() {
    LINE_IS_OPEN.store(false, Ordering::SeqCst);
}

/// Writes a text that ends with its last line.
fn write(stream: Stream, text: &str) -> std::io::Result<()> {
    let above = ABOVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if is_terminal(stream) && LINE_IS_OPEN.swap(false, Ordering::SeqCst) {
        let _when_nobody_reads = std::io::stderr().write_all(b"\n");
    }
    match (above, stream) {
        (Some(above), _) => above(text.to_owned()),
        (None, Stream::Out) => std::io::stdout().write_all(text.as_bytes())?,
        (None, Stream::Err) => std::io::stderr().write_all(text.as_bytes())?,
    }
    Ok(())
}

/// Standard error for the log, which hands over whole lines.
#[derive(Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(Stream::Err, &String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Prints a result, which may have several lines. Where it cannot be written, the command fails in its end
/// ([`lost`]).
pub(crate) fn line(text: impl Display) {
    let columns = columns(Stream::Out);
    let text = text.to_string();
    let lines = text.split('\n').map(|line| screen::wrapped(&one_line(line), columns));
    own(lines.collect::<Vec<_>>().join("\n"));
}

/// Prints a table, which has been fitted to the terminal.
pub(crate) fn table(text: &str) {
    own(text.trim_end().split('\n').map(one_line).collect::<Vec<_>>().join("\n"));
}

/// Prints a command for a shell, indented. Where the terminal is too narrow, it goes on behind a backslash.
pub(crate) fn command(text: &str) {
    own(screen::command(&one_line(text), columns(Stream::Out)));
}

/// Prints a text with colours as it stands. All of it has to be this program's own.
pub(crate) fn own(text: impl Display) {
    checked(write(Stream::Out, &format!("{text}\n")));
}

/// Prints a document of this program's own: what a shell or another program reads.
pub(crate) fn bytes(document: &[u8]) {
    let mut out = std::io::stdout();
    checked(out.write_all(document).and_then(|()| out.flush()));
}

/// Prints a text of this program's own, with colours, in the width of the terminal.
pub(crate) fn fitted(text: &str) {
    let columns = columns(Stream::Out);
    own(text.split('\n').map(|line| screen::wrapped(line, columns)).collect::<Vec<_>>().join("\n"));
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
    let text = screen::wrapped(&one_line(text), columns(Stream::Err));
    let _when_nobody_reads = write(Stream::Err, &format!("{text}\n"));
}

/// Asks on standard error, and reads the answer on the same line; it is empty at the end of what is typed.
pub(crate) fn answer(question: &str) -> std::io::Result<String> {
    let mut err = std::io::stderr();
    let _when_nobody_reads = write!(err, "{question}").and_then(|()| err.flush());
    line_is_open();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if line.ends_with('\n') {
        line_is_ended();
    }
    Ok(line)
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
