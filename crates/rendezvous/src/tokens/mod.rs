//! Who may enter: workers with a token that one of the known keys has signed.

mod carried;
mod claims;
mod keys;
mod provider;
mod refusal;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holepunch_wire::WorkerId;
use holepunch_wire::reason::CloseReason;
use holepunch_wire::session::RoomName;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::hub::Hub;
pub use claims::{Audience, Claims, Mode};
pub(crate) use claims::{Pass, Ticket};
pub use keys::{TokenAlgorithm, TokenKey, TokenKeys, TokenKeysError};
pub(crate) use refusal::{CODES as REFUSAL_CODES, Refusal};

/// Longest token, in bytes: some hundred names of rooms. A fourth of what a request's head may have.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// So far two clocks may be apart: as usual for machines that set theirs by the network.
pub const LEEWAY: Duration = Duration::from_secs(60);
/// The same in seconds.
pub const LEEWAY_S: u64 = LEEWAY.as_secs();
/// The file of keys is read again, and all who are connected are looked at, this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For whom a token may say that it is, beside the names of the server.
const AUDIENCE: &str = "holepunch";

/// Who may enter.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Whoever reaches the server.
    #[default]
    Open,
    /// Whoever has a token that one of the keys in this file has signed.
    Token {
        /// The file, a JWK set. It is read again when it has changed.
        keys: PathBuf,
    },
}

/// What tokens are held against.
#[derive(Debug)]
pub(crate) struct Gate {
    path: PathBuf,
    audience: Arc<[String]>,
    file: Mutex<Known>,
}

/// What is known of the file.
#[derive(Debug)]
struct Known {
    keys: Arc<TokenKeys>,
    /// As it was read last; `None`: it could not be read, and that is told.
    text: Option<Vec<u8>>,
}

/// What stands before the claims, as far as it says how to verify them.
#[derive(Deserialize)]
struct HeaderText {
    alg: String,
    kid: Option<String>,
    /// Nothing is understood that must be (RFC 7515 §4.1.11).
    crit: Option<IgnoredAny>,
}

impl Gate {
    /// With the keys in this file; `audience`: the names of the server.
    pub(crate) fn open(path: &Path, audience: Arc<[String]>) -> Result<Self, TokenKeysError> {
        let text = keys::read(path)?;
        let keys = Arc::new(TokenKeys::of_text(&text)?);
        let (number, revoked) = keys.counts();
        tracing::info!(file = %path.display(), keys = number, revoked, "workers need a token");
        warn_of_private(path, &keys);
        let file = Mutex::new(Known { keys, text: Some(text) });
        Ok(Self { path: path.to_owned(), audience, file })
    }

    /// Reads the file again. One that cannot be taken leaves the keys as they were.
    pub(crate) fn reload(&self) -> Result<(), TokenKeysError> {
        self.take(keys::read(&self.path))
    }

    fn take(&self, read: Result<Vec<u8>, TokenKeysError>) -> Result<(), TokenKeysError> {
        let mut file = self.known();
        let text = match read {
            Ok(text) => text,
            Err(error) => {
                file.text = None;
                return Err(error);
            }
        };
        let keys = TokenKeys::of_text(&text);
        file.text = Some(text);
        let keys = Arc::new(keys?);
        let (number, revoked) = keys.counts();
        file.keys = Arc::clone(&keys);
        drop(file);
        tracing::info!(file = %self.path.display(), keys = number, revoked, "keys of tokens are read again");
        warn_of_private(&self.path, &keys);
        Ok(())
    }

    /// Reads the file again where it has changed, and looks at all who are connected; never returns.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<Hub>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.path.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || keys::read(&path)).await else {
                continue;
            };
            let before = self.known().text.clone();
            let is_news = read.as_ref().ok() != before.as_ref();
            if is_news && let Err(error) = self.take(read) {
                let file = self.path.display();
                tracing::error!(%file, %error, "the keys of tokens cannot be taken; those of before stay");
            }
            self.look_at(&hub);
        }
    }

    /// Ends the connections whose tokens are good no longer.
    pub(crate) fn look_at(&self, hub: &Hub) {
        let (keys, now) = (self.keys(), unix_s());
        hub.expel(|ticket| {
            if !keys.has(&ticket.key) || ticket.is_revoked(&keys) {
                Some(CloseReason::TokenRevoked)
            } else if now > ticket.until {
                Some(CloseReason::TokenExpired)
            } else {
                None
            }
        });
    }

    /// What the token of a request lets its worker do.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Pass, Refusal> {
        self.verify(&carried::token_of(headers)?, unix_s())
    }

    /// What a token lets its worker do, at this time.
    fn verify(&self, token: &str, now: u64) -> Result<Pass, Refusal> {
        let keys = self.keys();
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Refusal::Malformed)?;
        let header: HeaderText = serde_json::from_slice(&header).map_err(|_| Refusal::Malformed)?;
        if header.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let key = keys.find(header.kid.as_deref());
        let key = key.ok_or_else(|| header.kid.map_or(Refusal::NoKey, Refusal::UnknownKey))?;
        let algorithm = key.algorithm();
        if header.alg != algorithm.as_str() {
            return Err(Refusal::Algorithm { expected: algorithm.as_str(), came: header.alg });
        }
        let claims = verified(token, key)?;
        if let Some(audience) = &claims.aud {
            let is_own =
                |name: &str| name == AUDIENCE || self.audience.iter().any(|own| own == name);
            if !audience.has(is_own) {
                return Err(Refusal::Audience);
            }
        }
        let until = claims.exp.saturating_add(LEEWAY_S);
        if now > until {
            return Err(Refusal::Expired { ago_s: now - claims.exp });
        }
        let in_s = claims.nbf.unwrap_or(0).saturating_sub(now);
        if in_s > LEEWAY_S {
            return Err(Refusal::NotYet { in_s });
        }
        let permit = claims.permit().map_err(Refusal::Claims)?;
        let ids = holepunch_matchmaker::Patterns::new(claims.ids);
        let ticket = Ticket { key: Arc::clone(key), jti: claims.jti, sub: claims.sub, until };
        if ticket.is_revoked(&keys) {
            return Err(Refusal::Revoked);
        }
        Ok(Pass { permit: Arc::new(permit), ids, ticket })
    }

    fn keys(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.known().keys)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Whether its worker may have this id, and be in this room.
    pub(crate) fn allows(&self, worker: &WorkerId, room: &RoomName) -> Result<(), Refusal> {
        if !self.ids.allow(worker.as_str()) {
            let allowed = refusal::allowed(&self.ids);
            return Err(Refusal::Id { allowed, came: worker.as_str().to_owned() });
        }
        if !self.permit.allows_room(room) {
            let allowed = refusal::allowed(&self.permit.rooms);
            return Err(Refusal::Room { allowed, came: room.clone() });
        }
        Ok(())
    }
}

/// Says where keys sign that need only verify: the server is used all the same, since it is as safe as its machine.
fn warn_of_private(path: &Path, keys: &TokenKeys) {
    if keys.has_private() {
        tracing::warn!(
            file = %path.display(),
            "the keys of tokens hold a private key, with which whoever reads the file can make tokens: it does not belong on a \
             server; `holepunch token key FILE > PUBLIC` makes the public file of it (--token-keys PUBLIC)"
        );
    }
}

/// The claims of a token that this key has signed, by its own algorithm.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add kinds of errors")]
fn verified(token: &str, key: &TokenKey) -> Result<Claims, Refusal> {
    let mut validation = Validation::new(key.algorithm().of_library());
    // The time comes from outside, and the library takes a date that is no number for none.
    (validation.validate_exp, validation.validate_nbf) = (false, false);
    validation.validate_aud = false;
    let decoded = decode::<Claims>(token, &key.decoding(), &validation);
    decoded.map(|token| token.claims).map_err(|error| match error.into_kind() {
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::Json(why) => Refusal::Claims(why.to_string()),
        ErrorKind::MissingRequiredClaim(name) => Refusal::Claims(format!("{name} is missing")),
        _ => Refusal::Malformed,
    })
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

#[cfg(test)]
mod tests;
