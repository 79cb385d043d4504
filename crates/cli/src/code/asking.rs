//! Asks for a code on a terminal, and completes its words.

use std::io::IsTerminal;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::{Code, words};
use crate::exit::Failure;
use crate::output;
use crate::screen::{Stream, can_redraw, is_terminal};
use crate::suspending::Suspending;

/// So often somebody may mistype a code.
const TRIES_MAX: usize = 5;

/// Completes the words of a code.
struct Words;

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or_default();
        let Some(between) = typed.rfind(['-', ' ']) else { return Ok((at, Vec::new())) };
        let begun = typed[between + 1..].to_ascii_lowercase();
        let words = if begun.is_empty() || typed.contains('@') {
            Vec::new()
        } else {
            words::beginning_with(&begun).map(str::to_owned).collect()
        };
        Ok((between + 1, words))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

/// What is asked for.
const WHAT: &str = "code, such as 7-guitar-fox";
/// The same where no rendezvous is known on this side.
const WHAT_WITH_RENDEZVOUS: &str = "no rendezvous is set here, so the code has to name one; code, such as \
                                    7-guitar-fox@rendezvous.example";
/// What is asked for, and what is said of a code that names no rendezvous, from the second time on.
const WHAT_AGAIN: &str = "code with its rendezvous, such as 7-guitar-fox@rendezvous.example";
const NAMES_NONE_AGAIN: &str = "this code names no rendezvous either";
/// Where words can be completed.
const COMPLETES: &str = " (Tab completes a word)";
/// What is said of a code that names none.
const NAMES_NONE: &str = "this code names no rendezvous, and none is set here: ask the other side for the code with \
                          its rendezvous, which it has printed, too";

/// Asks for a code, which has to name its rendezvous unless one is known here; `None` where nobody can be asked.
///
/// # Errors
/// Nobody answers, or not with a code.
pub(crate) fn ask(has_rendezvous: bool) -> Result<Option<Code>, Failure> {
    if !std::io::stdin().is_terminal() || !is_terminal(Stream::Err) {
        return Ok(None);
    }
    // The line is edited on standard output, which may be a file.
    let mut editor = can_redraw(Stream::Out).then(editor).transpose()?;
    let (mut what, mut names_none) =
        (if has_rendezvous { WHAT } else { WHAT_WITH_RENDEZVOUS }, NAMES_NONE);
    for _ in 0..TRIES_MAX {
        let line = match &mut editor {
            Some((editor, suspending)) => suspending.line(editor, &format!("{what}{COMPLETES}: ")),
            None => plain_line(what),
        };
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => {
                return Err(Failure::interrupted());
            }
            Err(error) => return Err(Failure::failed(format!("cannot read the code: {error}"))),
        };
        match line.parse::<Code>() {
            Ok(code) if !has_rendezvous && code.rendezvous().is_none() => {
                output::progress(std::mem::replace(&mut names_none, NAMES_NONE_AGAIN));
            }
            Ok(code) => return Ok(Some(code)),
            Err(why) => output::progress(why),
        }
        if !has_rendezvous {
            what = WHAT_AGAIN;
        }
    }
    Err(Failure::usage(format!("no code in {TRIES_MAX} tries")))
}

fn editor() -> Result<(Editor<Words, DefaultHistory>, Suspending), Failure> {
    let config = Config::builder().completion_type(CompletionType::List).build();
    let mut editor = Editor::with_config(config).map_err(Failure::failed)?;
    editor.set_helper(Some(Words));
    let suspending = Suspending::of(&mut editor);
    Ok((editor, suspending))
}

fn plain_line(what: &str) -> rustyline::Result<String> {
    let line = output::answer(&format!("{what}: "))?;
    if line.is_empty() { Err(ReadlineError::Eof) } else { Ok(line) }
}
