//! What is said on a stream before the bytes of its TCP connection.

use std::net::SocketAddr;

use holepunch_link::RecvStream;
use serde::{Deserialize, Serialize};

use super::target::Target;
use crate::messages::{MessageError, read_frame};

/// Longest request or answer, in bytes: the longest target or reason, escaped, and some. Two thousand
/// streams that say half of one hold no more than 4 MiB.
pub const REQUEST_BYTES_MAX: usize = 2048;
/// Characters of a reason that are sent, and shown.
pub(super) const REASON_CHARACTERS_MAX: usize = 200;

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Request {
    /// A connection to a target. Its first bytes follow at once.
    Connect {
        /// Where to.
        target: Target,
    },
    /// A listener, for as long as the stream is open. Each connection that comes there has a stream of its own.
    Listen {
        /// Which.
        listen: Entrance,
    },
    /// A UDP flow, for as long as the stream is open.
    Flow {
        /// Which.
        flow: FlowRequest,
    },
    /// A connection that has come to the listener of this number. Its first bytes follow at once.
    Accepted {
        /// The number.
        accepted: u32,
    },
}

/// A UDP flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRequest {
    /// What its datagrams are called by: even on the side that began the link, else odd.
    pub id: u32,
    /// Where to.
    pub target: Target,
}

/// Where the peer is to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// The address on the peer's side.
    pub address: SocketAddr,
    /// What the connections are called by.
    pub number: u32,
}

impl Request {
    /// Reads a request, without its length.
    ///
    /// # Errors
    /// It is not JSON, or no request.
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
    /// The listener is there.
    Listening {
        /// Where.
        address: SocketAddr,
    },
    /// The other side does not want it.
    Refused {
        /// Why.
        reason: String,
        /// The same for programs; an older side says none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Refusal>,
    },
    /// It could not be made.
    Failed {
        /// What kind of failure.
        failure: Failure,
        /// The same in words.
        reason: String,
    },
}

/// Why the other side does not want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Its rules do not allow it.
    NotAllowed,
    /// There are as many as it lets one peer have.
    TooMany,
    /// The request is none, or has what was never asked for.
    Malformed,
    /// Something else, or a reason of a later version.
    #[serde(other)]
    Other,
}

impl Refusal {
    /// As it stands in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::TooMany => "too_many",
            Self::Malformed => "malformed",
            Self::Other => "other",
        }
    }
}

/// Why a connection could not be made, or a listener not be had.
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
    /// Something else listens there.
    InUse,
    /// The address is none of that machine's.
    NotAvailable,
    /// The system does not let that program listen there.
    NoPermission,
    /// Something else, or a failure of a later version.
    #[serde(other)]
    Other,
}

impl Failure {
    /// As it stands in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::InUse => "in_use",
            Self::NotAvailable => "not_available",
            Self::NoPermission => "no_permission",
            Self::Other => "other",
        }
    }
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
        let address = "127.0.0.1:8080".parse().unwrap();
        for (request, json) in [
            (Request::Connect { target: "[::1]:22".parse().unwrap() }, r#"{"target":"[::1]:22"}"#),
            (
                Request::Listen { listen: Entrance { address, number: 1 } },
                r#"{"listen":{"address":"127.0.0.1:8080","number":1}}"#,
            ),
            (Request::Accepted { accepted: 1 }, r#"{"accepted":1}"#),
            (
                Request::Flow { flow: FlowRequest { id: 2, target: "db:53".parse().unwrap() } },
                r#"{"flow":{"id":2,"target":"db:53"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), json);
            assert_eq!(Request::parse(json.as_bytes()).unwrap(), request);
        }
        let refused = Answer::Refused { reason: "x".to_owned(), code: Some(Refusal::NotAllowed) };
        let json = r#"{"answer":"refused","reason":"x","code":"not_allowed"}"#;
        assert_eq!(serde_json::to_string(&refused).unwrap(), json);
        let older = Answer::parse(br#"{"answer":"refused","reason":"x"}"#).unwrap();
        assert_eq!(older, Answer::Refused { reason: "x".to_owned(), code: None });
        let answer = Answer::Failed { failure: Failure::TimedOut, reason: "slow".to_owned() };
        let json = r#"{"answer":"failed","failure":"timed_out","reason":"slow"}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), json);
        assert_eq!(Answer::parse(json.as_bytes()).unwrap(), answer);
        let newer = br#"{"answer":"failed","failure":"eclipse","reason":"x"}"#;
        assert!(matches!(
            Answer::parse(newer).unwrap(),
            Answer::Failed { failure: Failure::Other, .. }
        ));
        for bad in
            ["", "{}", "[]", r#"{"target":"127.1:22"}"#, r#"{"target":22}"#, r#"{"accepted":-1}"#]
        {
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
