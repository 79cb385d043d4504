//! Why a worker is not let in, for programs and for people.

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use holepunch_matchmaker::Patterns;
use holepunch_wire::session::RoomName;
use holepunch_wire::signal::{REFUSAL_HEADER, TOKEN_PROTOCOL_PREFIX};
use holepunch_wire::text::harmless;

use super::{LEEWAY_S, TOKEN_BYTES_MAX};

/// Most characters of what is repeated of a token, or of a request.
const REPEATED_CHARS_MAX: usize = 100;

/// Why a worker is not let in. What is repeated of its token has come from its own client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "expected a token, and none came: ask whoever runs this rendezvous for one, and give it as --token or HOLEPUNCH_TOKEN \
         of a worker, as the password in the URL, as `Authorization: Bearer`, or as {TOKEN_PROTOCOL_PREFIX}… in \
         Sec-WebSocket-Protocol"
    )]
    Missing,
    #[error("two tokens came that are not the same: give one of them")]
    Several,
    #[error(
        "expected a token of at most {TOKEN_BYTES_MAX} bytes, and this one has {0}: it has to name fewer rooms and ids"
    )]
    TooLong(usize),
    #[error(
        "expected a JWT, three parts of base64url with dots between them, and what came is none: was it cut off?"
    )]
    Malformed,
    #[error("expected a token that is signed by {expected}, as its key is, and this one says {}: make a new one", shown(.came))]
    Algorithm { expected: &'static str, came: String },
    #[error("no key of the name {} is known here: its token has to be made anew with one that is (holepunch token new)", shown(.0))]
    UnknownKey(String),
    #[error(
        "the token names no key (kid), and several are known here: make a new one (holepunch token new)"
    )]
    NoKey,
    #[error(
        "the signature is not one of the key that the token names: it was made with another key, or changed since"
    )]
    Signature,
    #[error("the claims of the token cannot be taken: {}; make a new one", shown(.0))]
    Claims(String),
    #[error(
        "the token is meant for somebody else (aud): expected one for this host or for holepunch, or one without an aud"
    )]
    Audience,
    #[error(
        "the token expired {ago_s} s ago, and {LEEWAY_S} s are let pass: it needs a new one, or a clock is wrong"
    )]
    Expired { ago_s: u64 },
    #[error(
        "the token is good only in {in_s} s, and {LEEWAY_S} s are let pass: wait, or set the clock that is wrong"
    )]
    NotYet { in_s: u64 },
    #[error("the token is revoked: it needs another one")]
    Revoked,
    #[error("the token allows the ids {allowed}, and not {}: choose another id (--worker-id), or get a token for this one", shown(.came))]
    Id { allowed: String, came: String },
    #[error("the token allows the rooms {allowed}, and not {}: choose another room (--room), or get a token for this one", room(.came))]
    Room { allowed: String, came: RoomName },
}

/// A text of somebody else's, in quotes.
fn shown(text: &str) -> String {
    format!("\"{}\"", harmless(text, REPEATED_CHARS_MAX))
}

/// A room, as a token names it.
fn room(name: &RoomName) -> String {
    let shown = shown(name.as_ref());
    if name.is_default() { format!("the default room ({shown})") } else { shown }
}

/// The patterns, for people.
pub(super) fn allowed(patterns: &Patterns) -> String {
    let all = patterns.all().unwrap_or_default();
    if all.is_empty() { "none".to_owned() } else { harmless(&all.join(", "), REPEATED_CHARS_MAX) }
}

/// All codes of refusals.
pub(crate) const CODES: [&str; 14] = [
    "token_missing",
    "tokens_differ",
    "token_too_long",
    "token_malformed",
    "token_algorithm",
    "token_key_unknown",
    "token_signature",
    "token_claims",
    "token_audience",
    "token_expired",
    "token_not_yet",
    "token_revoked",
    "id_not_allowed",
    "room_not_allowed",
];

impl Refusal {
    /// For programs.
    pub(crate) fn code(&self) -> &'static str {
        let code = match self {
            Self::Missing => "token_missing",
            Self::Several => "tokens_differ",
            Self::TooLong(_) => "token_too_long",
            Self::Malformed => "token_malformed",
            Self::Algorithm { .. } => "token_algorithm",
            Self::UnknownKey(_) | Self::NoKey => "token_key_unknown",
            Self::Signature => "token_signature",
            Self::Claims(_) => "token_claims",
            Self::Audience => "token_audience",
            Self::Expired { .. } => "token_expired",
            Self::NotYet { .. } => "token_not_yet",
            Self::Revoked => "token_revoked",
            Self::Id { .. } => "id_not_allowed",
            Self::Room { .. } => "room_not_allowed",
        };
        debug_assert!(CODES.contains(&code), "{code} stands in no metric before it happens");
        code
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Id { .. } | Self::Room { .. } => StatusCode::FORBIDDEN,
            Self::Missing
            | Self::Several
            | Self::TooLong(_)
            | Self::Malformed
            | Self::Algorithm { .. }
            | Self::UnknownKey(_)
            | Self::NoKey
            | Self::Signature
            | Self::Claims(_)
            | Self::Audience
            | Self::Expired { .. }
            | Self::NotYet { .. }
            | Self::Revoked => StatusCode::UNAUTHORIZED,
        }
    }

    /// As an answer: the code in a header, and before the sentence.
    pub(crate) fn response(&self) -> Response {
        let code = self.code();
        let mut response = (self.status(), format!("{code}: {self}")).into_response();
        let headers = response.headers_mut();
        headers.insert(REFUSAL_HEADER, HeaderValue::from_static(code));
        if self.status() == StatusCode::UNAUTHORIZED {
            // As RFC 6750 §3 has it: without a token, there is nothing that could be wrong with it.
            let asked = if *self == Self::Missing {
                "Bearer realm=\"holepunch\""
            } else {
                "Bearer realm=\"holepunch\", error=\"invalid_token\""
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(asked));
        }
        response
    }
}
