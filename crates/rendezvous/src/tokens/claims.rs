//! What a token says, and what follows from it.

use std::sync::Arc;

use holepunch_matchmaker::{Patterns, Permit};
use holepunch_wire::session::RoomMode;
use holepunch_wire::tenant::Tenant;
use jsonwebtoken::{Header, encode};
use serde::{Deserialize, Deserializer, Serialize};

use super::keys::{TokenKey, TokenKeys};

/// What a token says (RFC 7519 §4). Others may stand there, too, and mean nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Until when it is good, in seconds of Unix time.
    #[serde(deserialize_with = "date")]
    pub exp: u64,
    /// From when on.
    #[serde(default, deserialize_with = "some_date", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Its own name, by which it is revoked.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Whose it is: by that, too, it is revoked, with all others of the same.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// For whom it is.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Whose rooms and ids its worker sees.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Patterns of rooms; `None`: all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub rooms: Option<Vec<String>>,
    /// Patterns of ids; `None`: all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Modes of rooms, `call` also for calls; `None`: all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub modes: Option<Vec<Mode>>,
    /// How many bytes the relay carries for each session.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub relay_bytes: Option<u64>,
    /// Names that are like these. Whoever writes one means a bound, and there would be none: so it is no good token.
    #[doc(hidden)]
    #[serde(
        rename = "room",
        alias = "id",
        alias = "mode",
        alias = "tenants",
        alias = "Tenant",
        alias = "Rooms",
        alias = "Ids",
        alias = "Modes",
        alias = "relay_byte",
        alias = "relay-bytes",
        alias = "relayBytes",
        default,
        skip_serializing,
        deserialize_with = "misspelt"
    )]
    pub misspelt: (),
}

/// One, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Audience {
    pub(super) fn has(&self, is_own: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(name) => is_own(name),
            Self::Several(names) => names.iter().any(|name| is_own(name)),
        }
    }
}

/// The mode of a room. (The wire's own takes what it does not know for `pair`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Two at a time.
    Pair,
    /// Everyone with everyone.
    Mesh,
    /// Nobody, but by a call.
    Call,
}

/// Seconds of Unix time, with a fraction perhaps (RFC 7519 §2).
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if (0.0..=9_007_199_254_740_992.0).contains(&seconds) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is within"
        )]
        return Ok(seconds as u64);
    }
    Err(serde::de::Error::custom("expected seconds since 1970"))
}

/// One that stands there says something: `null` is a bound that somebody's program has lost, and not that there is none.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn misspelt<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    let expected = "room, id, mode, tenants: expected rooms, ids, modes, tenant, relay_bytes";
    Err(serde::de::Error::custom(expected))
}

fn some_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    date(deserializer).map(Some)
}

impl Claims {
    /// As a token, signed with this key; `None`: it cannot sign.
    #[must_use]
    pub fn sign(&self, key: &TokenKey) -> Option<String> {
        let kid = Some(key.id().to_owned()).filter(|id| !id.is_empty());
        let header = Header { kid, ..Header::new(key.algorithm().of_library()) };
        encode(&header, self, &key.encoding()?).ok()
    }

    /// What its worker may do.
    ///
    /// # Errors
    /// The name of its tenant is none.
    pub(super) fn permit(&self) -> Result<Permit, String> {
        let tenant = self.tenant.as_deref().map(Tenant::new).transpose();
        let mode = |mode: &Mode| match mode {
            Mode::Pair => RoomMode::Pair,
            Mode::Mesh => RoomMode::Mesh,
            Mode::Call => RoomMode::Call,
        };
        Ok(Permit {
            tenant: tenant.map_err(|why| format!("tenant: {why}"))?.unwrap_or_default(),
            rooms: Patterns::new(self.rooms.clone()),
            modes: self.modes.as_ref().map(|all| all.iter().map(mode).collect()),
            relay_bytes: self.relay_bytes,
        })
    }
}

/// What a good token lets its worker do.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) permit: Arc<Permit>,
    pub(crate) ids: Patterns,
    pub(crate) ticket: Ticket,
}

/// By what it is known whether a token is still good.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(super) key: Arc<TokenKey>,
    pub(super) jti: Option<String>,
    pub(super) sub: Option<String>,
    /// In seconds of Unix time, with the leeway.
    pub(super) until: u64,
}

impl Ticket {
    pub(super) fn is_revoked(&self, keys: &TokenKeys) -> bool {
        let mut names = self.jti.iter().chain(&self.sub);
        names.any(|name| keys.is_revoked(name))
    }
}
