//! What somebody who looks on has read already, and is shown in short.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::ids::Ids;

/// A text that has more characters takes more than a row of a usual terminal.
const LONG_CHARS: usize = 120;
/// So much of one that stands further above is shown again.
const BEGINNING_CHARS: usize = 70;
/// So many long texts are known: those of a worker that is in trouble are a few.
const KNOWN_MAX: usize = 64;

/// The ids and the long texts that were shown. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    ids: Ids,
    texts: Arc<Mutex<VecDeque<String>>>,
}

impl Shown {
    /// The line with each id, and each long text, that was shown before by its beginning.
    pub(super) fn shortened(&self, line: &str) -> String {
        let line = self.ids.shortened(line);
        // Before the first blank stands the time. Fields end with quotes, and what has a colour with an ESC.
        let Some((time, rest)) = line.split_once(' ') else { return line };
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = rest.split_inclusive(['"', '\u{1b}']).map(|part| once(&mut texts, part));
        format!("{time} {}", parts.collect::<String>())
    }
}

/// A text as it is, or its beginning, and the delimiter at its end, where it is long and known.
fn once(known: &mut VecDeque<String>, text: &str) -> String {
    if text.chars().count() <= LONG_CHARS {
        return text.to_owned();
    }
    if known.iter().any(|it| it == text) {
        let delimiter = text.rfind(['"', '\u{1b}']).map_or("", |at| &text[at..]);
        let end = text.char_indices().nth(BEGINNING_CHARS).map_or(text.len(), |(at, _)| at);
        return match text[end..].find(' ') {
            Some(more) => format!("{} … (as before){delimiter}", &text[..end + more]),
            None => text.to_owned(),
        };
    }
    known.truncate(KNOWN_MAX - 1);
    known.push_front(text.to_owned());
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_whole_the_first_time_and_short_after_that() {
        let shown = Shown::default();
        let why = "the server says what it wants ".repeat(8);
        let line = |time, in_ms| format!("{time}  WARN lost why=\"{why}\" retry_in_ms={in_ms}");
        assert_eq!(shown.shortened(&line("12:00:01", 500)), line("12:00:01", 500));
        let again = shown.clone().shortened(&line("12:00:02", 900));
        assert!(again.starts_with("12:00:02  WARN lost why=\"the server says"), "{again}");
        assert!(again.ends_with(" … (as before)\" retry_in_ms=900"), "{again}");
        assert!(again.chars().count() < 140, "{again}");
        let whole = format!("12:00:02 ERROR {}", "a-url-in-one-piece/".repeat(8));
        assert_eq!([(); 2].map(|()| shown.shortened(&whole)), [whole.clone(), whole]);
        let message = |time| format!("{time} ERROR no endpoint: {why}");
        assert_eq!(shown.shortened(&message("12:00:03")), message("12:00:03"));
        let again = shown.shortened(&message("12:00:04"));
        assert!(again.starts_with("12:00:04 ERROR no endpoint: the server says"), "{again}");
        assert!(again.ends_with(" … (as before)"), "{again}");
        let dim = |text: &str| format!("\u{1b}[2m{text}\u{1b}[0m");
        let line = |time| {
            let before = ["12", "34", "56", "78"].map(|it| dim(&it.repeat(9))).concat();
            format!("{} {before}: no endpoint: {why}{}{}", dim(time), dim("in_ms"), dim("=0"))
        };
        assert_eq!(shown.shortened(&line("12:00:05")), line("12:00:05"));
        let again = shown.shortened(&line("12:00:06"));
        let (before, behind) = again.split_once(" … (as before)").unwrap();
        assert!(before.contains(": no endpoint: the server says"), "{again}");
        assert!(line("12:00:06").ends_with(behind) && behind.contains("in_ms"), "{again}");
    }

    #[test]
    fn a_short_line_and_one_that_was_long_ago_are_whole() {
        let shown = Shown::default();
        let text = |number: usize| format!("12:00:00 INFO {number} {}", "ä ".repeat(LONG_CHARS));
        for number in (0..=KNOWN_MAX).chain([0]) {
            assert_eq!(shown.shortened(&text(number)), text(number));
        }
        for _ in 0..2 {
            assert_eq!(shown.shortened("12:00:00  INFO short"), "12:00:00  INFO short");
        }
    }
}
