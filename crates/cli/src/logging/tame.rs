//! Between the log and where it is written: names and reasons in it are somebody else's.

use std::io::{self, Write};

use holepunch_wire::text::{harmless, harmless_json};
use tracing_subscriber::fmt::MakeWriter;

use super::shown::Shown;

/// What a line of the log is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Text.
    Plain,
    /// Text in which the log itself sets colours.
    Coloured,
    /// A JSON object.
    Json,
}

/// A writer of whole lines, each in one call, that makes them harmless, and short what `before` has seen.
pub(super) fn tame<W>(writer: W, form: Form, before: Option<Shown>) -> Tame<W> {
    Tame { writer, form, before }
}

#[derive(Debug)]
pub(super) struct Tame<W> {
    writer: W,
    form: Form,
    before: Option<Shown>,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Tame<W> {
    type Writer = Tame<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Tame { writer: self.writer.make_writer(), form: self.form, before: self.before.clone() }
    }
}

impl<W: Write> Write for Tame<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nearly all lines of a busy server, which would else take a tenth of its time.
        if self.before.is_none() && is_plain(bytes) {
            self.writer.write_all(bytes)?;
            return Ok(bytes.len());
        }
        let text = String::from_utf8_lossy(bytes);
        let (line, end) = text.strip_suffix('\n').map_or((&*text, ""), |line| (line, "\n"));
        let mut shown = match self.form {
            Form::Plain => harmless(line, usize::MAX),
            Form::Coloured => between_colours(line),
            Form::Json => harmless_json(line),
        };
        if let Some(before) = &self.before {
            shown = before.shortened(&shown);
        }
        shown.push_str(end);
        self.writer.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether a line is of printable ASCII alone, which is as harmless as it stands.
fn is_plain(line: &[u8]) -> bool {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    text.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The line with its colours. Those are the log's own: in what is logged, it writes an ESC out.
fn between_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut shown = harmless(parts.next().unwrap_or_default(), usize::MAX);
    for part in parts {
        shown.push_str(if is_colour(part) { "\u{1b}" } else { r"\u{1b}" });
        shown.push_str(&harmless(part, usize::MAX));
    }
    shown
}

/// Whether what follows an ESC makes it Select Graphic Rendition (ECMA-48 §8.3.117).
fn is_colour(part: &str) -> bool {
    let numbers = part.strip_prefix('[').and_then(|rest| rest.split_once('m'));
    numbers.is_some_and(|(numbers, _)| numbers.bytes().all(|it| it.is_ascii_digit() || it == b';'))
}
