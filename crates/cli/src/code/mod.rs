//! A code: what one person tells another, so that the programs of the two meet and nobody else's does.
//!
//! `7-guitar-fox` is the room of the number 7 and the room secret `guitar fox`. A secret of two words can be guessed
//! with one of 4 million guesses. Each guess costs a session of which both sides hear, so the one that made the code up
//! bears three of them, and waits an hour.

mod asking;
mod words;

use std::fmt;
use std::io::{ErrorKind, Read};
use std::str::FromStr;
use std::time::Duration;

use holepunch_wire::session::RoomName;
use holepunch_worker::{RendezvousUrl, RoomSecret, SESSION_GUESSES_MAX};

use crate::exit::Failure;
use crate::settings::Environment;

pub(crate) use asking::ask;
pub(crate) use words::{WORD_BITS, WORDS_MAX, random, random_hex, random_words};

/// So long a code is good.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(60 * 60);
/// So many wrong guesses end a code.
pub(crate) const GUESSES_MAX: u32 = 3;
/// So often all peers together see whether a guess was right, also in sessions at the same time: in three sessions, as
/// often as in each.
pub(crate) const GUESSES_SHOWN_MAX: u32 = SESSION_GUESSES_MAX * GUESSES_MAX;
/// Words of a code where nothing else is said, and the fewest.
pub(crate) const WORDS: u16 = 2;
/// Letters of two words, at most: with a number of three digits, a code has 20 characters.
const LETTERS_MAX: usize = 15;
/// Digits of a number, at most.
const DIGITS_MAX: usize = 9;
/// Longest code that is read, in bytes: the words of the longest one, and a URL.
const BYTES_MAX: usize = 1024;

/// How many digits the number has that is tried, one attempt after the other: short ones are taken first, and a number
/// that is taken is nobody's to wait for.
const DIGITS: [u32; 12] = [1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 9];

/// A room and its secret, and where the room is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    number: String,
    words: Vec<&'static str>,
    /// The rendezvous, where the code names one.
    rendezvous: Option<String>,
    /// Whether it is named without a scheme, which means `https`.
    is_bare: bool,
}

/// Why a text is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodeError {
    #[error(
        "expected a code, such as 7-guitar-fox, and {0:?} {1}; look at it again, or ask the other side to read it out once more"
    )]
    Form(String, &'static str),
    #[error(
        "{0:?} is not a word of codes; look at it again, or ask the other side to read it out once more"
    )]
    Word(String),
    #[error("what stands behind `@` is no rendezvous: {0}")]
    Rendezvous(String),
}

impl Code {
    /// A fresh one with so many words, for the attempt of this number; none where every attempt was made.
    pub(crate) fn make(attempt: usize, words: u16) -> Option<Result<Self, Failure>> {
        let digits = *DIGITS.get(attempt)?;
        let make = || {
            let number = random_number(digits)?.to_string();
            let words = random_words(words, LETTERS_MAX)?;
            Ok(Self { number, words, rendezvous: None, is_bare: false })
        };
        Some(make())
    }

    /// Whether a text looks like a code, and like nothing else: a folder of such a name is `./7-a-b`.
    pub(crate) fn is_like(text: &str) -> bool {
        let (code, _) = text.split_once('@').unwrap_or((text, ""));
        let mut parts = code.split('-');
        let number = parts.next().unwrap_or_default();
        let is_number = !number.is_empty()
            && number.len() <= DIGITS_MAX
            && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_word =
            |word: &str| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
        let words: Vec<&str> = parts.collect();
        let has_form =
            is_number && words.len() >= usize::from(WORDS) && words.into_iter().all(is_word);
        // With blanks, as somebody has it in quotes, it has to be one.
        has_form || text.parse::<Self>().is_ok()
    }

    /// Whether a text looks like a part of a code: a number with fewer words than one has, or words without their number.
    pub(crate) fn is_part(text: &str) -> bool {
        let parts: Vec<&str> = text.split('-').collect();
        let Some((first, rest)) = parts.split_first() else { return false };
        let is_number = (1..=DIGITS_MAX).contains(&first.len())
            && first.bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            return rest.len() <= usize::from(WORDS)
                && rest.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
        }
        parts.len() >= usize::from(WORDS)
            && parts.iter().all(|word| words::find(&word.to_ascii_lowercase()).is_some())
    }

    /// The room in which the two meet.
    pub(crate) fn room(&self) -> RoomName {
        RoomName::new(&format!("code-{}", self.number))
            .expect("invariant: a number is short and has no control characters")
    }

    /// What the rendezvous is not told.
    pub(crate) fn secret(&self) -> RoomSecret {
        RoomSecret::new(&self.words.join(" "))
    }

    /// The rendezvous that it names.
    pub(crate) fn rendezvous(&self) -> Option<&str> {
        self.rendezvous.as_deref()
    }

    /// Likewise, where it is named without a scheme.
    pub(crate) fn bare_rendezvous(&self) -> Option<&str> {
        self.rendezvous().filter(|_| self.is_bare)
    }

    /// The same with the rendezvous that it is for.
    pub(crate) fn at(&self, rendezvous: &RendezvousUrl) -> Self {
        let rendezvous = rendezvous.public();
        // As it is printed.
        let is_bare = rendezvous.starts_with("https://");
        Self { rendezvous: Some(rendezvous), is_bare, ..self.clone() }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.words.join("-"))?;
        self.rendezvous
            .as_ref()
            .map_or(Ok(()), |at| write!(f, "@{}", at.strip_prefix("https://").unwrap_or(at)))
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// As it is printed, or as somebody types what was read out: with spaces, in capitals, or with the first four
    /// letters of a word, by which each differs from all others.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let (code, at) = match text.trim().split_once('@') {
            Some((code, at)) => (code, Some(at.trim())),
            None => (text.trim(), None),
        };
        let code = code.to_ascii_lowercase();
        let is_between = |c: char| c == '-' || c.is_whitespace();
        let mut parts = code.split(is_between).filter(|part| !part.is_empty());
        let number = parts.next().unwrap_or_default().trim_start_matches('0');
        let words: Vec<&str> = parts.collect();
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let fault = if !is_number {
            Some("does not begin with a number")
        } else if number.len() > DIGITS_MAX {
            Some("begins with too long a number")
        } else if words.len() < usize::from(WORDS) {
            Some("ends before its second word")
        } else if words.len() > usize::from(WORDS_MAX) {
            Some("has too many words")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(CodeError::Form(text.trim().to_owned(), fault));
        }
        let word = |typed: &str| words::find(typed).ok_or(CodeError::Word(typed.to_owned()));
        let rendezvous = at.map(|at| {
            let url = if at.contains("://") { at.to_owned() } else { format!("https://{at}") };
            let parsed = url.parse::<RendezvousUrl>();
            parsed.map(|_| url).map_err(|why| CodeError::Rendezvous(why.to_string()))
        });
        Ok(Self {
            number: number.to_owned(),
            words: words.into_iter().map(word).collect::<Result<_, _>>()?,
            rendezvous: rendezvous.transpose()?,
            is_bare: at.is_some_and(|at| !at.contains("://")),
        })
    }
}

/// The code that the command line or the environment has; `-` stands for a line of standard input, so that a code
/// need not show in the list of processes.
pub(crate) fn given(
    text: Option<String>,
    environment: &Environment,
) -> Result<Option<Code>, Failure> {
    let text = match text {
        Some(text) if text == "-" => Some(first_line_of_input()?),
        text => text,
    };
    let from_line = text.as_ref().map(|text| text.parse().map_err(Failure::usage)).transpose()?;
    environment.setting("CODE", from_line, &["CODE"])
}

/// A line of standard input, and nothing of what stands behind it.
pub(crate) fn first_line_of_input() -> Result<String, Failure> {
    first_line(Unbuffered)
}

/// Standard input byte by byte: what stands behind the code is the program's.
struct Unbuffered;

impl Read for Unbuffered {
    #[cfg(unix)]
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(std::io::stdin(), buffer)?)
    }

    #[cfg(not(unix))]
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::io::stdin().read(buffer)
    }
}

fn first_line(mut input: impl Read) -> Result<String, Failure> {
    let cannot =
        |why: &dyn fmt::Display| Failure::failed(format!("cannot read standard input: {why}"));
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < BYTES_MAX {
        match input.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend(byte),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(cannot(&error)),
        }
    }
    String::from_utf8(line).map_err(|error| cannot(&error))
}

/// A number of so many digits, the first of which is not 0.
fn random_number(digits: u32) -> Result<u64, Failure> {
    let lowest = 10_u64.pow(digits.saturating_sub(1));
    let bytes = random(8)?.try_into().map_err(|_| Failure::failed("no random numbers"))?;
    // The numbers are far fewer than 2^64: that some are more likely by one part in 10^10 tells nobody anything.
    Ok(lowest + u64::from_le_bytes(bytes) % (9 * lowest))
}

#[cfg(test)]
mod tests;
