//! What a terminal takes: how wide it is, and whether it wants colours. Both are decided here alone.

use std::ffi::OsStr;
use std::io::IsTerminal;

use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Narrower than this, or without a width, a terminal breaks lines by itself.
const COLUMNS_MIN: u16 = 20;
/// Words that stay on one line have this between them until they are printed.
const TOGETHER: char = '\u{a0}';

/// Where something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output: results.
    Out,
    /// Standard error: what is for people.
    Err,
}

/// How wide the terminal is at this moment; `None` where it is none, or does not say: nothing is wrapped then.
pub(crate) fn columns(stream: Stream) -> Option<usize> {
    if !is_terminal(stream) {
        return None;
    }
    let size = match stream {
        Stream::Out => rustix::termios::tcgetwinsize(std::io::stdout()),
        Stream::Err => rustix::termios::tcgetwinsize(std::io::stderr()),
    };
    let columns = size.ok()?.ws_col;
    (columns >= COLUMNS_MIN).then_some(usize::from(columns))
}

pub(crate) fn is_terminal(stream: Stream) -> bool {
    match stream {
        Stream::Out => std::io::stdout().is_terminal(),
        Stream::Err => std::io::stderr().is_terminal(),
    }
}

/// Whether what is printed there has colours: on a terminal that has them, unless somebody wants none
/// (<https://no-color.org>).
pub(crate) fn has_colours(stream: Stream) -> bool {
    is_terminal(stream) && colours_are_wanted()
}

/// Whether lines can be drawn anew there: bars of progress, and a line that is edited.
pub(crate) fn can_redraw(stream: Stream) -> bool {
    is_terminal(stream) && !is_dumb(std::env::var_os("TERM").as_deref())
}

/// Whether nobody has said that there should be no colours.
pub(crate) fn colours_are_wanted() -> bool {
    let variable = |name| std::env::var_os(name);
    wants_colours(variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
}

fn wants_colours(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && !is_dumb(term)
}

fn is_dumb(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| term == "dumb")
}

/// The text as words that stay on one line where one has room for them: a command, say.
pub(crate) fn together(text: &str) -> String {
    text.replace(' ', &TOGETHER.to_string())
}

/// A line as it is printed: within so many columns, where that is known, broken between words alone. A word that is longer,
/// such as a URL, is left to the terminal, which breaks it without a line break that would be copied with it.
pub(crate) fn wrapped(line: &str, columns: Option<usize>) -> String {
    let text = match columns {
        Some(columns) if display_width(line) > columns => {
            let indent = " ".repeat(indent(line, columns));
            textwrap::wrap(line, options(columns).subsequent_indent(&indent)).join("\n")
        }
        Some(_) | None => line.to_owned(),
    };
    text.replace(TOGETHER, " ")
}

/// A command for a shell, indented, within so many columns, where that is known: it goes on behind a backslash, never within a
/// word or quotes.
pub(crate) fn command(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return format!("  {text}") };
    let mut quoted = false;
    let whole = text.chars().map(|it| {
        quoted ^= it == '\'';
        if quoted && it == ' ' { TOGETHER } else { it }
    });
    let whole: String = whole.collect();
    let indents = options(columns - " \\".len()).initial_indent("  ").subsequent_indent("    ");
    textwrap::wrap(&whole, indents).join(" \\\n").replace(TOGETHER, " ")
}

/// The lines of a cell of so many columns.
pub(crate) fn cell(text: &str, columns: usize) -> Vec<String> {
    textwrap::wrap(text, options(columns)).into_iter().map(std::borrow::Cow::into_owned).collect()
}

fn options<'a>(columns: usize) -> Options<'a> {
    Options::new(columns)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
}

/// Where the second line of a long one begins: under the text behind a label or a time that stands for itself, else a
/// little further in than the first.
fn indent(line: &str, columns: usize) -> usize {
    let own = line.len() - line.trim_start_matches(' ').len();
    let label = line[own..].find("  ").map(|at| {
        let gap = line[own + at..].len() - line[own + at..].trim_start_matches(' ').len();
        display_width(&line[..own + at]) + gap
    });
    label.filter(|at| *at <= columns / 3).unwrap_or(own + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_and_a_dumb_terminal_have_no_colours() {
        let wants = |no_color: Option<&str>, term: Option<&str>| {
            wants_colours(no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(wants(None, None) && wants(None, Some("xterm")));
        assert!(wants(Some(""), Some("xterm")), "an empty variable counts as not set");
        assert!(!wants(Some("1"), Some("xterm")) && !wants(Some("0"), None));
        assert!(!wants(None, Some("dumb")));
    }

    #[test]
    fn a_long_line_is_broken_between_words_and_a_long_word_never() {
        let url = "https://a-rather-long-name.rendezvous.example/with/a/path-that-goes-on";
        let line = format!("the code is at {url} and nowhere else, as far as anybody has heard");
        let text = wrapped(&line, Some(40));
        assert_eq!(
            text,
            format!("the code is at\n  {url}\n  and nowhere else, as far as anybody\n  has heard")
        );
        assert_eq!(wrapped(&line, None), line, "no terminal");
        assert_eq!(wrapped(&line, Some(200)), line);
    }

    #[test]
    fn what_follows_a_label_stays_beside_it() {
        let line = "      12.3 ms  the peer's checks arrive by another way";
        assert_eq!(
            wrapped(line, Some(46)),
            "      12.3 ms  the peer's checks arrive by\n               another way"
        );
        let line = "  - two  words that have come a bit too far from the margin";
        assert!(
            wrapped(line, Some(40)).contains("\n         far from"),
            "{}",
            wrapped(line, Some(40))
        );
    }

    #[test]
    fn a_command_stays_on_its_line() {
        let line = format!("on the other side:  {}", together("holepunch chat 7-guitar-fox"));
        let expected = "on the other side:\n  holepunch chat 7-guitar-fox";
        assert_eq!(wrapped(&line, Some(40)), expected);
        assert_eq!(wrapped(&line, None), "on the other side:  holepunch chat 7-guitar-fox");
    }

    #[test]
    fn a_command_that_is_too_long_goes_on_behind_a_backslash_and_never_within_quotes() {
        let text = "ROOM=tea ROOM_SECRET='one two three four' holepunch send FILE";
        assert_eq!(command(text, None), format!("  {text}"));
        assert_eq!(
            command(text, Some(40)),
            "  ROOM=tea \\\n    ROOM_SECRET='one two three four' \\\n    holepunch send FILE"
        );
    }

    #[test]
    fn wide_characters_count_twice() {
        let text = wrapped(&"漢字 ".repeat(8), Some(20));
        assert!(text.lines().all(|line| display_width(line) <= 20), "{text}");
    }
}
