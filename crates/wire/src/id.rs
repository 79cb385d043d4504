//! The name of a worker.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id that is registered, in bytes. Workers use a UUID (36 bytes); the bound leaves room for
/// names of people's own and keeps one registry entry small.
pub const WORKER_ID_BYTES_MAX: usize = 256;

/// The name under which a worker registers: any non-empty path segment without control characters.
///
/// Cheap to clone: every queue and table shares one allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

/// Why a text is not a worker id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkerIdError {
    /// The text is empty.
    #[error("a worker id must not be empty")]
    Empty,
    /// The text is longer than [`WORKER_ID_BYTES_MAX`].
    #[error("a worker id has at most {WORKER_ID_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The text holds a control character, which would break log lines.
    #[error("a worker id must not contain control characters")]
    ControlCharacter,
}

impl WorkerId {
    /// Checks a text and takes it as an id.
    ///
    /// # Errors
    /// The text is empty, too long, or holds a control character.
    pub fn new(text: &str) -> Result<Self, WorkerIdError> {
        if text.is_empty() {
            return Err(WorkerIdError::Empty);
        }
        if text.len() > WORKER_ID_BYTES_MAX {
            return Err(WorkerIdError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(WorkerIdError::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for WorkerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkerId {
    type Err = WorkerIdError;

    fn from_str(text: &str) -> Result<Self, WorkerIdError> {
        Self::new(text)
    }
}

impl Serialize for WorkerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for WorkerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_any_printable_text_up_to_the_bound() {
        assert!(WorkerId::new("a").is_ok());
        assert!(WorkerId::new("Werkzeug 7/ü").is_ok());
        assert!(WorkerId::new(&"x".repeat(WORKER_ID_BYTES_MAX)).is_ok());
        assert_eq!(WorkerId::new(""), Err(WorkerIdError::Empty));
        assert_eq!(WorkerId::new(&"x".repeat(257)), Err(WorkerIdError::TooLong(257)));
        assert_eq!(WorkerId::new("a\nb"), Err(WorkerIdError::ControlCharacter));
    }
}
