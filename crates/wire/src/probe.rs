//! The text datagrams with which two workers punch and confirm a link.
//!
//! | text | answer |
//! | --- | --- |
//! | `P2P_PING_FROM_<id>_NUM_<n>` | `P2P_PONG_FROM_<own id>_TO_<id>_ACK_YOUR_PING_NUM_<n>` |
//! | `P2P_PONG_FROM_…` | none |
//!
//! A PING without `_NUM_` has the number `UNKNOWN`; its id may be empty. Nothing here is
//! authenticated: whoever knows an id can write such a text.

/// First bytes of a PING.
pub const PING_PREFIX: &str = "P2P_PING_FROM_";
/// First bytes of a PONG.
pub const PONG_PREFIX: &str = "P2P_PONG_FROM_";
const NUMBER_MARK: &str = "_NUM_";
const TO_MARK: &str = "_TO_";
const ACK_MARK: &str = "_ACK_YOUR_PING_NUM_";
/// What stands for the number of a PING that carries none.
const NUMBER_UNKNOWN: &str = "UNKNOWN";

/// Longest id in a datagram, in bytes: an answer repeats it, so its length bounds the answer's.
pub const PROBE_ID_BYTES_MAX: usize = 128;
/// Longest number text in a PING, in bytes: a 64-bit number has 20 digits.
pub const PROBE_NUMBER_BYTES_MAX: usize = 20;

/// A datagram between two workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<'a> {
    /// A question.
    Ping(Ping<'a>),
    /// An answer.
    Pong(Pong<'a>),
}

/// Whether a datagram begins as a probe does; the first byte alone could also be QUIC's.
#[must_use]
pub fn looks_like_probe(datagram: &[u8]) -> bool {
    datagram.starts_with(PING_PREFIX.as_bytes()) || datagram.starts_with(PONG_PREFIX.as_bytes())
}

/// `P2P_PING_FROM_<id>_NUM_<n>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping<'a> {
    /// Who says that he asks; may be empty.
    pub from: &'a str,
    /// The number as it was written, or `UNKNOWN`.
    pub number: &'a str,
}

/// `P2P_PONG_FROM_…`; what it answers is only known against the ids and numbers expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong<'a> {
    after_prefix: &'a str,
}

/// Why a datagram is not a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It starts with neither prefix.
    #[error("not a probe")]
    NotAProbe,
    /// It is not UTF-8.
    #[error("a probe that is not UTF-8")]
    NotUtf8,
    /// Its id is longer than [`PROBE_ID_BYTES_MAX`].
    #[error("an id of more than {PROBE_ID_BYTES_MAX} bytes")]
    IdTooLong,
    /// Its number is longer than [`PROBE_NUMBER_BYTES_MAX`].
    #[error("a number of more than {PROBE_NUMBER_BYTES_MAX} bytes")]
    NumberTooLong,
}

impl<'a> Probe<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// It is not a probe, or its id or number is too long to be answered.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ProbeError> {
        let is_ping = datagram.starts_with(PING_PREFIX.as_bytes());
        if !is_ping && !datagram.starts_with(PONG_PREFIX.as_bytes()) {
            return Err(ProbeError::NotAProbe);
        }
        let text = std::str::from_utf8(datagram).map_err(|_| ProbeError::NotUtf8)?;
        if let Some(after_prefix) = text.strip_prefix(PONG_PREFIX) {
            return Ok(Self::Pong(Pong { after_prefix }));
        }
        let rest = text.strip_prefix(PING_PREFIX).ok_or(ProbeError::NotAProbe)?;
        let (from, number) = rest.rsplit_once(NUMBER_MARK).unwrap_or((rest, NUMBER_UNKNOWN));
        if from.len() > PROBE_ID_BYTES_MAX {
            return Err(ProbeError::IdTooLong);
        }
        if number.len() > PROBE_NUMBER_BYTES_MAX {
            return Err(ProbeError::NumberTooLong);
        }
        Ok(Self::Ping(Ping { from, number }))
    }
}

impl Ping<'_> {
    /// The PING number `number` of worker `own`.
    #[must_use]
    pub fn encode(own: &str, number: u32) -> Vec<u8> {
        format!("{PING_PREFIX}{own}{NUMBER_MARK}{number}").into_bytes()
    }

    /// The answer of worker `own`. It is at most as long as the question, both ids and 30 bytes.
    #[must_use]
    pub fn answer(&self, own: &str) -> Vec<u8> {
        let Self { from, number } = self;
        format!("{PONG_PREFIX}{own}{TO_MARK}{from}{ACK_MARK}{number}").into_bytes()
    }
}

impl Pong<'_> {
    /// The number of the PING that this answers, if it is `peer`'s answer to a PING of `own`.
    #[must_use]
    pub fn acknowledged(&self, peer: &str, own: &str) -> Option<u32> {
        let digits = self
            .after_prefix
            .strip_prefix(peer)?
            .strip_prefix(TO_MARK)?
            .strip_prefix(own)?
            .strip_prefix(ACK_MARK)?;
        // `parse` alone would take a sign.
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ping(datagram: &[u8]) -> Ping<'_> {
        match Probe::parse(datagram) {
            Ok(Probe::Ping(ping)) => ping,
            other => panic!("not a PING: {other:?}"),
        }
    }

    #[test]
    fn a_ping_is_answered_with_its_own_number() {
        let question = Ping::encode("a-1", 7);
        assert_eq!(question, b"P2P_PING_FROM_a-1_NUM_7");
        let answer = ping(&question).answer("b-2");
        assert_eq!(answer, b"P2P_PONG_FROM_b-2_TO_a-1_ACK_YOUR_PING_NUM_7");
        let Ok(Probe::Pong(pong)) = Probe::parse(&answer) else { panic!("not a PONG") };
        assert_eq!(pong.acknowledged("b-2", "a-1"), Some(7));
        assert_eq!(pong.acknowledged("b", "a-1"), None);
        assert_eq!(pong.acknowledged("b-2", "a"), None);
    }

    #[test]
    fn a_ping_without_number_or_id_is_answered_all_the_same() {
        assert_eq!(
            ping(b"P2P_PING_FROM_x").answer("me"),
            b"P2P_PONG_FROM_me_TO_x_ACK_YOUR_PING_NUM_UNKNOWN"
        );
        assert_eq!(
            ping(b"P2P_PING_FROM__NUM_3").answer("me"),
            b"P2P_PONG_FROM_me_TO__ACK_YOUR_PING_NUM_3"
        );
        assert_eq!(
            ping(b"P2P_PING_FROM_").answer("me"),
            b"P2P_PONG_FROM_me_TO__ACK_YOUR_PING_NUM_UNKNOWN"
        );
    }

    #[test]
    fn an_id_may_contain_the_marks() {
        let id = "x_NUM_1_TO_y";
        let question = Ping::encode(id, 2);
        assert_eq!(ping(&question).from, id);
        let answer = ping(&question).answer("a_TO_b");
        let Ok(Probe::Pong(pong)) = Probe::parse(&answer) else { panic!("not a PONG") };
        assert_eq!(pong.acknowledged("a_TO_b", id), Some(2));
    }

    #[test]
    fn whatever_cannot_be_answered_in_bounds_is_refused() {
        let long = format!("{PING_PREFIX}{}_NUM_1", "x".repeat(129));
        assert_eq!(Probe::parse(long.as_bytes()), Err(ProbeError::IdTooLong));
        let long = format!("{PING_PREFIX}x_NUM_{}", "1".repeat(21));
        assert_eq!(Probe::parse(long.as_bytes()), Err(ProbeError::NumberTooLong));
        assert_eq!(Probe::parse(b"P2P_PING_FROM_\xff"), Err(ProbeError::NotUtf8));
        assert_eq!(Probe::parse(b"P2P_PING"), Err(ProbeError::NotAProbe));
        assert_eq!(Probe::parse(b""), Err(ProbeError::NotAProbe));
    }

    #[test]
    fn a_pong_number_is_digits_alone() {
        for text in ["+1", "-1", "", "1 ", "99999999999"] {
            let pong = format!("P2P_PONG_FROM_b_TO_a_ACK_YOUR_PING_NUM_{text}");
            let Ok(Probe::Pong(pong)) = Probe::parse(pong.as_bytes()) else { panic!("not a PONG") };
            assert_eq!(pong.acknowledged("b", "a"), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_datagram_panics_and_no_answer_outgrows_its_bound(
            tail in proptest::collection::vec(any::<u8>(), 0..300), own in "[ -~]{1,128}",
        ) {
            for prefix in ["", PING_PREFIX, PONG_PREFIX] {
                let mut datagram = prefix.as_bytes().to_vec();
                datagram.extend_from_slice(&tail);
                if let Ok(Probe::Ping(ping)) = Probe::parse(&datagram) {
                    let bound = datagram.len() + ping.from.len() + own.len() + 30;
                    prop_assert!(ping.answer(&own).len() <= bound);
                }
            }
        }
    }
}
