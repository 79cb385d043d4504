//! The words that a room's workers share.

use std::fmt;

/// Words that both sides of a room know and the rendezvous does not. `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomSecret(String);

impl RoomSecret {
    /// Takes words as they are typed: case and the number of blanks between them do not count.
    #[must_use]
    pub fn new(words: &str) -> Self {
        let words: Vec<&str> = words.split_whitespace().collect();
        Self(words.join(" ").to_lowercase())
    }

    /// Whether there is no word in it: a secret that everybody knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The words: a secret.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_blanks_do_not_count_and_debug_hides_the_words() {
        let secret = RoomSecret::new("  Correct horse\tBATTERY ");
        assert_eq!(secret, RoomSecret::new("correct horse battery"));
        assert_ne!(secret, RoomSecret::new("correct horsebattery"));
        assert!(!format!("{secret:?}").contains("horse"));
        assert!(RoomSecret::new(" \n").is_empty());
    }
}
