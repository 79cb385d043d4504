//! Why a link is closed: the code is for programs, and the text for people follows from it, or stands beside it.

use std::fmt;

use holepunch_wire::text::{harmless, truncate};

use crate::links::PROOF_BYTES;

/// Longest reason of a close that is kept, in bytes.
const REASON_BYTES_MAX: usize = 256;

macro_rules! close_codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// Why a link is closed, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub enum CloseCode {
            /// For what the text says; also what a code of a later version is taken for.
            #[default]
            Other = 0,
            $(#[doc = $text] $name = $number,)*
        }

        impl CloseCode {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// The text for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

// The numbers cross the link, below 32: see `Close::behind_proof`.
close_codes! {
    SecretNeeded = 2, "this side has a room secret, and the peer has none";
    NoSecret = 3, "the peer has a room secret, and this side has none";
    WrongSecret = 4, "the peer does not know this room's secret, or somebody stands in between";
    NoProtocol = 5, "no protocol in common";
    Proved = 6, "this side's proof and another code stand before the reason";
    Done = 7, "done";
    Complete = 8, "the transfer is complete";
    Interrupted = 9, "interrupted";
    Busy = 10, "busy with another link";
    BegunAnew = 11, "the peer has begun anew";
    Declined = 12, "the transfer has failed: declined: whoever receives does not want it";
}

impl From<CloseCode> for noq::VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code as u32)
    }
}

impl CloseCode {
    fn of_number(number: u64) -> Self {
        Self::ALL.iter().copied().find(|known| *known as u64 == number).unwrap_or_default()
    }

    /// What a peer of an older version means, which tells the text alone.
    fn of_older(text: &str) -> Self {
        let mut ends = Self::ALL.iter().copied().skip_while(|known| *known != Self::Done);
        ends.find(|known| known.text() == text).unwrap_or_default()
    }
}

/// Why a link is closed: the code, or a text of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// For programs.
    pub code: CloseCode,
    /// For people.
    pub reason: String,
}

impl From<CloseCode> for Close {
    fn from(code: CloseCode) -> Self {
        Self { code, reason: code.text().to_owned() }
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for Close {
    fn from(reason: &T) -> Self {
        let mut reason = reason.as_ref().to_owned();
        truncate(&mut reason, REASON_BYTES_MAX);
        Self { code: CloseCode::Other, reason }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Close {
    /// What the peer has sent.
    pub(crate) fn read(close: &noq::ApplicationClose) -> Self {
        let mut code = CloseCode::of_number(close.error_code.into_inner());
        let mut reason = &close.reason[..];
        if code == CloseCode::Proved {
            reason = reason.get(PROOF_BYTES..).unwrap_or_default();
            code = CloseCode::of_number(reason.first().map_or(0, |number| u64::from(*number)));
        }
        let reason = String::from_utf8_lossy(reason);
        // The number of a code behind a proof is a control character.
        let reason = harmless(reason.trim_start_matches(char::is_control), REASON_BYTES_MAX);
        if code == CloseCode::Other {
            code = CloseCode::of_older(&reason);
        }
        Self { code, reason }
    }

    /// The reason of a close that may overtake this side's proof. A peer of an older version takes the number for a
    /// control character, and leaves it out.
    pub(crate) fn behind_proof(&self, proof: &[u8]) -> Vec<u8> {
        [proof, &[self.code as u8], self.reason.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(error_code: u32, reason: &[u8]) -> Close {
        let reason = reason.to_vec().into();
        Close::read(&noq::ApplicationClose { error_code: error_code.into(), reason })
    }

    #[test]
    fn a_code_counts_and_the_text_of_an_older_peer_that_sends_none() {
        assert_eq!(
            read(10, b"whatever"),
            Close { code: CloseCode::Busy, reason: "whatever".into() }
        );
        for code in [CloseCode::Done, CloseCode::Complete, CloseCode::Interrupted, CloseCode::Busy]
        {
            assert_eq!(read(0, code.text().as_bytes()), code.into(), "an older peer");
        }
        assert_eq!(read(31, b"x"), "x".into(), "of a later version");
        assert_eq!(read(0, b"enough"), "enough".into());
    }

    #[test]
    fn a_code_behind_a_proof_is_read_and_is_nothing_to_an_older_peer() {
        let proof = [b'p'; PROOF_BYTES];
        let close = Close::from(CloseCode::Complete);
        assert_eq!(read(6, &close.behind_proof(&proof)), close);
        assert_eq!(read(6, &[&proof[..], b"done"].concat()), CloseCode::Done.into());
        assert_eq!(read(6, &[&proof[..], b"no folder"].concat()), "no folder".into());
        assert_eq!(read(6, b"short"), "".into());
        assert!(CloseCode::ALL.iter().all(|code| char::from(*code as u8).is_control()));
    }
}
