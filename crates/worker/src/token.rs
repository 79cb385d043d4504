//! The token that lets a worker in, where the rendezvous wants one.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// Longest token, in bytes: as a rendezvous takes it.
const TOKEN_BYTES_MAX: usize = 4096;

/// A token, as whoever runs the rendezvous gives it out: a JWT. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Text(Arc<str>),
    File(Arc<Path>),
}

/// A text that is no token. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a token (a JWT): three parts of letters, digits, - and _ with dots between them, of {TOKEN_BYTES_MAX} bytes at most"
)]
pub struct TokenError;

impl Token {
    /// The token itself.
    ///
    /// # Errors
    /// The text is none.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        checked(text).map(|text| Self(Place::Text(text.into())))
    }

    /// The one in the first line of a file, which is read at each connection: it may be another one by then.
    #[must_use]
    pub fn of_file(path: impl AsRef<Path>) -> Self {
        Self(Place::File(path.as_ref().into()))
    }

    /// The text, for whoever stores it.
    ///
    /// # Errors
    /// It is in a file, and cannot be read.
    pub fn reveal(&self) -> io::Result<String> {
        self.read().map(|text| (*text).to_owned())
    }

    /// The text, for a request.
    pub(crate) fn read(&self) -> io::Result<Arc<str>> {
        match &self.0 {
            Place::Text(text) => Ok(Arc::clone(text)),
            Place::File(path) => first_line(path).map_err(|error| {
                let why = format!("cannot take the token from {}: {error}", path.display());
                io::Error::new(error.kind(), why)
            }),
        }
    }

    /// Whether the next connection may have another one.
    pub(crate) fn may_change(&self) -> bool {
        matches!(self.0, Place::File(_))
    }
}

fn checked(text: &str) -> Result<&str, TokenError> {
    let text = text.trim();
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let dots = text.bytes().filter(|byte| *byte == b'.').count();
    if dots == 2 && text.len() <= TOKEN_BYTES_MAX && text.bytes().all(is_good) {
        Ok(text)
    } else {
        Err(TokenError)
    }
}

fn first_line(path: &Path) -> io::Result<Arc<str>> {
    let mut line = String::new();
    BufReader::new(File::open(path)?.take(2 * TOKEN_BYTES_MAX as u64)).read_line(&mut line)?;
    let token = checked(&line).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    Ok(token.into())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_three_parts_and_is_never_shown() {
        let token = Token::new(" eyA.secret.x-_9\n").unwrap();
        assert_eq!(&*token.read().unwrap(), "eyA.secret.x-_9");
        assert!(!format!("{token:?}").contains("secret") && !token.may_change());
        let long = format!("a.b.{}", "x".repeat(TOKEN_BYTES_MAX));
        for none in ["", "a.b", "a.b.c.d", "a.b.c d", "a.b.c\r\nX: y", "a.b.\u{fc}", &long] {
            assert_eq!(Token::new(none), Err(TokenError), "{none:?}");
        }
    }

    #[test]
    fn the_token_of_a_file_is_the_one_that_is_there_by_then() {
        let path = std::env::temp_dir().join(format!("holepunch-token-{}", std::process::id()));
        let token = Token::of_file(&path);
        let why = token.read().unwrap_err().to_string();
        assert!(why.contains("holepunch-token-"), "{why}");
        for text in ["a.b.c", "d.e.f"] {
            std::fs::write(&path, format!("{text}\nmore\n")).unwrap();
            assert_eq!(&*token.read().unwrap(), text);
        }
        std::fs::write(&path, "secret").unwrap();
        let why = token.read().unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(why.contains("expected a token") && !why.contains("secret"), "{why}");
        assert!(token.may_change());
    }
}
