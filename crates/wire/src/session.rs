//! A session: two workers that were offered each other, and what they and the rendezvous say of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rate::Rate;

/// Longest name of a room, in bytes.
pub const ROOM_BYTES_MAX: usize = 128;

/// Sessions of one worker at a time, on both sides: the rendezvous makes no more of them, and a worker takes no more.
pub const SESSIONS_MAX: usize = 64;
/// Offers that a worker follows. Each sends a PING to an address of the rendezvous' choice, and one that is honest offers a
/// peer every few seconds at most.
pub const OFFERS: Rate = Rate { count: 1, per: Duration::from_secs(1), burst: 10 };

/// The number of a session, unguessable; 16 hexadecimal digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a text is not the number of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 16 hexadecimal digits as the session")]
pub struct SessionIdError;

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if is_hex { u64::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or(SessionIdError)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a room: workers meet only inside of one. The room without a name is the one of
/// workers that speak the baseline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// Why a text is not the name of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomNameError {
    /// The text is longer than [`ROOM_BYTES_MAX`].
    #[error("the name of a room has at most {ROOM_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The text holds a control character, which would break log lines.
    #[error("the name of a room must not contain control characters")]
    ControlCharacter,
}

impl RoomName {
    /// Checks a text and takes it as a name; an empty one is the default room.
    ///
    /// # Errors
    /// The text is too long, or holds a control character.
    pub fn new(text: &str) -> Result<Self, RoomNameError> {
        if text.len() > ROOM_BYTES_MAX {
            return Err(RoomNameError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(RoomNameError::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the room of workers that name none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for RoomName {
    fn default() -> Self {
        Self("".into())
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_default() { "(default)" } else { &self.0 })
    }
}

impl AsRef<str> for RoomName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomName {
    type Err = RoomNameError;

    fn from_str(text: &str) -> Result<Self, RoomNameError> {
        Self::new(text)
    }
}

impl Serialize for RoomName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoomName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Who is offered to whom in a room. The first worker of a room decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomMode {
    /// Everyone with everyone.
    Mesh,
    /// Nobody, but by a call to an id.
    Call,
    /// Two at a time, the longest waiters first.
    #[default]
    #[serde(other)]
    Pair,
}

/// What is known of whether an endpoint is the peer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressProof {
    /// The rendezvous' own STUN server saw the peer there.
    Stun,
    /// The peer's signalling connection comes from the same IP address.
    Signalling,
    /// Nothing: no more than a few packets are sent there.
    #[default]
    #[serde(other)]
    None,
}

/// What opens a session's relay for one of its two workers, which need not know what it says: see
/// [`RelayKey`](crate::relay::RelayKey). A secret: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayToken([u8; Self::BYTES]);

/// A text that is not thirty-two hexadecimal digits, and so no relay token. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a relay token is 32 hexadecimal digits")]
pub struct RelayTokenError;

impl RelayToken {
    /// Its length: workers take no other one.
    pub const BYTES: usize = 16;

    /// A token of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The end of its time, in seconds of Unix time, as its first bytes say.
    pub(crate) fn until(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The token as text: a secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for RelayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl TryFrom<String> for RelayToken {
    type Error = RelayTokenError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(RelayTokenError);
        }
        let number = u128::from_str_radix(&text, 16).map_err(|_| RelayTokenError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl From<RelayToken> for String {
    fn from(token: RelayToken) -> Self {
        token.reveal()
    }
}

/// What has become of a session, as one of its workers sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Checks are on their way. After [`Declined`](Self::Declined): the worker may make the search by now.
    Checking,
    /// A direct path answers.
    Direct,
    /// No direct path is to be expected: the relay serves.
    Relayed,
    /// The direct path is gone, and sought.
    Repairing,
    /// The worker does not make the search that is planned: it wants none, or has made as many as it may.
    Declined,
    /// It came to nothing. Also what a word of a later version is taken for.
    #[serde(other)]
    Failed,
}

impl LinkState {
    /// The word that crosses.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Checking => "checking",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Repairing => "repairing",
            Self::Declined => "declined",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_sixteen_digits() {
        let id = SessionId(0xab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(id));
        for text in ["", "ab", "+0000000000000ab", "00000000000000abc", "000000000000000g"] {
            assert_eq!(text.parse::<SessionId>(), Err(SessionIdError), "{text}");
        }
    }

    #[test]
    fn a_room_has_a_short_printable_name_or_none() {
        assert!(RoomName::new("").unwrap().is_default());
        assert_eq!(RoomName::new("Büro 7").unwrap().as_str(), "Büro 7");
        assert_eq!(RoomName::new(&"x".repeat(129)), Err(RoomNameError::TooLong(129)));
        assert_eq!(RoomName::new("a\nb"), Err(RoomNameError::ControlCharacter));
        assert!(serde_json::from_str::<RoomName>("\"a\\u0000\"").is_err());
    }
}
