//! The JSON messages on the WebSocket between a worker and the rendezvous, one object per text
//! frame, each with a `type`.
//!
//! Unknown fields and types are ignored. A message is written by the side that sends it
//! ([`WorkerMessage`], [`ServerMessage`]) and read leniently by the side that gets it
//! ([`FromWorker`], [`FromServer`]): the other end may be a program of somebody else's.

/// The fields of a message that matter, as they were written.
macro_rules! fields {
    ($($(#[$meta:meta])* $field:ident),*) => {
        #[derive(serde::Deserialize)]
        struct Fields<'a> {
            #[serde(borrow, rename = "type")]
            kind: Option<&'a RawValue>,
            $(#[serde(borrow)] $(#[$meta])* $field: Option<&'a RawValue>,)*
        }
    };
}

mod endpoint;
mod from_server;
mod from_worker;
pub mod v1;

use serde::Deserialize;

pub use serde_json::value::RawValue;

pub use endpoint::EndpointError;
pub use from_server::{BadSessionOffer, Complaint, FromServer, Offer, OfferError, ServerMessage};
pub use from_worker::{FromWorker, WorkerMessage};

/// Where a worker registers: this, then its id as one path segment.
pub const REGISTER_PATH: &str = "/ws/register/";
/// How an entry in the list of sub-protocols begins that is a token, for clients that can set no other header. No server selects it.
pub const TOKEN_PROTOCOL_PREFIX: &str = "holepunch.token.";
/// The header of an answer that says, for programs, why a worker is not let in.
pub const REFUSAL_HEADER: &str = "holepunch-refusal";

/// Longest text frame in bytes that either side takes; a longer one closes with code 1009.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Why a text frame is not a message. The connection stays up all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The text is not one JSON value, or a field stands twice.
    #[error("not valid JSON: {0}")]
    NotJson(String),
    /// The text is JSON, but not an object.
    #[error("expected a JSON object")]
    NotAnObject,
    /// The object has no `type`, or one that is not a text.
    #[error("expected a text in the field `type`")]
    NoType,
}

/// Reads `text` as a JSON object; the caller's struct names the fields that matter.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, MessageError> {
    let is_object = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{');
    if !is_object {
        // serde would read an array into a struct, field by field.
        return match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => Err(MessageError::NotAnObject),
            Err(error) => Err(MessageError::NotJson(error.to_string())),
        };
    }
    serde_json::from_str(text).map_err(|error| MessageError::NotJson(error.to_string()))
}

/// The value of a raw field as a text, if it is one.
fn as_text(field: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(field?.get()).ok()
}

/// The `type` of a message.
fn kind(field: Option<&RawValue>) -> Result<String, MessageError> {
    as_text(field).ok_or(MessageError::NoType)
}

/// Any JSON value, `null` included, as it was written. (`Option` alone would take `null` for
/// "not there".)
fn any_value<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
