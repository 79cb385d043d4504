//! What is said on a stream before the bytes of its TCP connection.

use holepunch_link::RecvStream;
use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::messages::{MessageError, framed, read_frame};

/// Longest request or answer, in bytes: the longest target or reason, escaped, and some. Two thousand
/// streams that say half of one hold no more than 4 MiB.
pub const REQUEST_BYTES_MAX: usize = 2048;
/// Characters of a reason that are sent, and shown.
pub(super) const REASON_CHARACTERS_MAX: usize = 200;

/// Asks for a connection. The connection's first bytes follow at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Where to.
    pub target: Target,
}

impl Request {
    /// Reads a request, without its length.
    ///
    /// # Errors
    /// It is not JSON, or names no target.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

/// What has become of it. The connection's bytes follow if it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It is there.
    Connected,
    /// The other side does not want it.
    Refused {
        /// Why.
        reason: String,
    },
    /// It could not be made.
    Failed {
        /// What kind of failure.
        failure: Failure,
        /// The same in words.
        reason: String,
    },
}

/// Why a connection could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The name is not known.
    Unknown,
    /// Nothing listens there.
    Refused,
    /// No way leads there.
    Unreachable,
    /// Nothing answers there.
    TimedOut,
    /// Something else, or a failure of a later version.
    #[serde(other)]
    Other,
}

impl Answer {
    /// Reads an answer, without its length.
    ///
    /// # Errors
    /// It is not JSON, or no answer.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

/// The bytes of a request.
pub(super) fn question(target: &Target) -> Result<Vec<u8>, MessageError> {
    framed(&Request { target: target.clone() })
}

/// The request that begins a stream; `None` where the stream has none.
pub(super) async fn asked(recv: &mut RecvStream) -> Result<Option<Request>, MessageError> {
    let json = read_frame(recv, REQUEST_BYTES_MAX).await?;
    Ok(json.map(|json| Request::parse(&json)).transpose()?)
}

pub(super) async fn answered(recv: &mut RecvStream) -> Result<Option<Answer>, MessageError> {
    let json = read_frame(recv, REQUEST_BYTES_MAX).await?;
    Ok(json.map(|json| Answer::parse(&json)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_and_answers_are_what_the_docs_say() {
        let request = Request { target: "[::1]:22".parse().unwrap() };
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"target":"[::1]:22"}"#);
        let answer = Answer::Failed { failure: Failure::TimedOut, reason: "slow".to_owned() };
        let json = r#"{"answer":"failed","failure":"timed_out","reason":"slow"}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), json);
        assert_eq!(Answer::parse(json.as_bytes()).unwrap(), answer);
        let newer = br#"{"answer":"failed","failure":"eclipse","reason":"x"}"#;
        assert!(matches!(
            Answer::parse(newer).unwrap(),
            Answer::Failed { failure: Failure::Other, .. }
        ));
        for bad in ["", "{}", "[]", r#"{"target":"127.1:22"}"#, r#"{"target":22}"#] {
            assert!(Request::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_none(bytes in any::<Vec<u8>>()) {
            if let Ok(request) = Request::parse(&bytes) {
                let again = serde_json::to_vec(&request).unwrap();
                prop_assert_eq!(Request::parse(&again).unwrap(), request);
            }
        }
    }
}
