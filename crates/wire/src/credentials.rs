//! What the two sides of a session need for connectivity checks: a role each (RFC 8445 §6.1.1), and
//! short-term credentials (§5.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check::CheckKey;

/// Shortest username fragment, in characters (RFC 8839 §5.4: 24 bits of randomness).
pub const UFRAG_CHARS_MIN: usize = 4;
/// Shortest password, in characters (RFC 8839 §5.4: 128 bits of randomness).
pub const PASSWORD_CHARS_MIN: usize = 22;
/// Longest username fragment and longest password, in characters (RFC 8839 §5.4).
pub const CREDENTIAL_CHARS_MAX: usize = 256;
/// Random bytes that [`IceCredentials::from_random`] takes: 48 bits for the username fragment, which
/// only tells sessions apart, and 144 for the password.
pub const RANDOM_BYTES: usize = 24;

/// The ice-chars (RFC 8839 §5.4); they are those of base64, so every six random bits make one.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of a generated username fragment; the password gets the rest.
const GENERATED_UFRAG_CHARS: usize = 8;

/// Which side nominates (RFC 8445 §6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IceRole {
    /// This side nominates the pair that is used.
    Controlling,
    /// The other side nominates.
    Controlled,
}

/// Why two texts are not credentials. It never repeats them: one is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The username fragment has this many characters.
    #[error("a ufrag has {UFRAG_CHARS_MIN} to {CREDENTIAL_CHARS_MAX} characters, this one has {0}")]
    UfragLength(usize),
    /// The password has this many characters.
    #[error(
        "an ICE password has {PASSWORD_CHARS_MIN} to {CREDENTIAL_CHARS_MAX} characters, this one \
         has {0}"
    )]
    PasswordLength(usize),
    /// One of them holds something else than ice-chars.
    #[error("ufrag and ICE password consist of A-Z, a-z, 0-9, + and /")]
    NotIceChars,
}

/// A username fragment: it names one side of one session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ufrag(String);

impl Ufrag {
    /// Checks a text and takes it as a username fragment.
    ///
    /// # Errors
    /// Its length or a character is not allowed.
    pub fn new(text: impl Into<String>) -> Result<Self, CredentialsError> {
        let text = text.into();
        if !(UFRAG_CHARS_MIN..=CREDENTIAL_CHARS_MAX).contains(&text.len()) {
            return Err(CredentialsError::UfragLength(text.chars().count()));
        }
        if is_ice_chars(&text) { Ok(Self(text)) } else { Err(CredentialsError::NotIceChars) }
    }

    /// The username fragment as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ufrag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Ufrag {
    type Error = CredentialsError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Ufrag> for String {
    fn from(ufrag: Ufrag) -> Self {
        ufrag.0
    }
}

/// A password that neither `Debug` nor an error shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl TryFrom<String> for Password {
    type Error = CredentialsError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if !(PASSWORD_CHARS_MIN..=CREDENTIAL_CHARS_MAX).contains(&text.len()) {
            return Err(CredentialsError::PasswordLength(text.chars().count()));
        }
        if is_ice_chars(&text) { Ok(Self(text)) } else { Err(CredentialsError::NotIceChars) }
    }
}

impl From<Password> for String {
    fn from(password: Password) -> Self {
        password.0
    }
}

/// The credentials of one side of one session. Checks to that side are made with its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCredentials {
    ufrag: Ufrag,
    password: Password,
}

impl IceCredentials {
    /// Checks two texts and takes them as credentials.
    ///
    /// # Errors
    /// A length or a character is not allowed.
    pub fn new(
        ufrag: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, CredentialsError> {
        Ok(Self { ufrag: Ufrag::new(ufrag)?, password: Password::try_from(password.into())? })
    }

    /// Credentials made of bytes that nobody can guess: 8 characters and 24 characters.
    #[must_use]
    pub fn from_random(bytes: [u8; RANDOM_BYTES]) -> Self {
        let mut ufrag = String::with_capacity(RANDOM_BYTES / 3 * 4);
        for group in bytes.chunks_exact(3) {
            let bits = group.iter().fold(0_usize, |bits, byte| (bits << 8) | usize::from(*byte));
            for shift in [18, 12, 6, 0] {
                ufrag.push(char::from(ICE_CHARS[(bits >> shift) & 63]));
            }
        }
        let password = ufrag.split_off(GENERATED_UFRAG_CHARS);
        Self { ufrag: Ufrag(ufrag), password: Password(password) }
    }

    /// The username fragment.
    #[must_use]
    pub fn ufrag(&self) -> &Ufrag {
        &self.ufrag
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password.0
    }

    /// The key with which checks to this side are written and verified.
    #[must_use]
    pub fn check_key(&self) -> CheckKey {
        CheckKey::new(&self.password.0)
    }
}

/// Whether a text can be a username fragment or a password, but for its length.
pub(crate) fn is_ice_chars(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn credentials_survive_the_wire_as_two_texts() {
        let credentials = IceCredentials::new("evtj", PASSWORD).unwrap();
        let text = serde_json::to_string(&credentials).unwrap();
        assert_eq!(text, format!(r#"{{"ufrag":"evtj","password":"{PASSWORD}"}}"#));
        assert_eq!(serde_json::from_str::<IceCredentials>(&text).unwrap(), credentials);
    }

    #[test]
    fn lengths_and_characters_are_those_of_ice() {
        let long = "x".repeat(CREDENTIAL_CHARS_MAX);
        assert!(IceCredentials::new(long.clone(), long.clone()).is_ok());
        let ufrag = |text: &str| IceCredentials::new(text, PASSWORD).err();
        assert_eq!(ufrag("abc"), Some(CredentialsError::UfragLength(3)));
        assert_eq!(ufrag(&format!("{long}x")), Some(CredentialsError::UfragLength(257)));
        for text in ["ab:c", "ab c", "abcü", "ab-c", "abc\n"] {
            assert_eq!(ufrag(text), Some(CredentialsError::NotIceChars), "{text:?}");
        }
        let password = |text: &str| IceCredentials::new("evtj", text).err();
        assert_eq!(password(&PASSWORD[1..]), Some(CredentialsError::PasswordLength(21)));
        assert_eq!(password(&format!("{long}x")), Some(CredentialsError::PasswordLength(257)));
        assert_eq!(password(&PASSWORD.replace('O', "=")), Some(CredentialsError::NotIceChars));
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_password() {
        let credentials = IceCredentials::new("evtj", PASSWORD).unwrap();
        let shown = format!("{credentials:?} {:?}", credentials.check_key());
        assert!(shown.contains("evtj") && !shown.contains(PASSWORD), "{shown}");
        let bad = format!(r#"{{"ufrag":"evtj","password":"{PASSWORD}-"}}"#);
        let error = serde_json::from_str::<IceCredentials>(&bad).unwrap_err().to_string();
        assert!(!error.contains(PASSWORD), "{error}");
    }

    #[test]
    fn generated_credentials_are_valid_and_use_every_bit() {
        let made = |bytes| IceCredentials::from_random(bytes);
        let credentials = made([0xff; RANDOM_BYTES]);
        assert_eq!(credentials.ufrag().as_str(), "////////");
        let again = IceCredentials::new(credentials.ufrag().as_str(), credentials.password());
        assert_eq!(again, Ok(credentials));
        for bit in 0..RANDOM_BYTES * 8 {
            let mut bytes = [0; RANDOM_BYTES];
            bytes[bit / 8] = 1 << (bit % 8);
            assert_ne!(made(bytes), made([0; RANDOM_BYTES]), "bit {bit}");
        }
    }
}
