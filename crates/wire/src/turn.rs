//! TURN (RFC 8656): where servers are, and the credentials that open them for a while.
//!
//! Credentials are those of coturn's `use-auth-secret`: the TURN server shares a secret with the
//! rendezvous, and trusts a username that holds the time of its own end, because the password is an
//! authentication code over it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::WorkerId;
use crate::text::truncate;

/// How long credentials are good where nothing else is said: a worker that stays connected gets others with
/// its offers before they end, and a link may have to allocate again long after its offer.
pub const CREDENTIAL_LIFETIME_S: u64 = 24 * 60 * 60;
/// The port of TURN (RFC 8656 §18.6).
pub const TURN_PORT: u16 = 3478;
/// Longest URL, username or credential that is read, in bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Bytes of the hash of a worker's id in a username: they tell workers apart, and nothing more.
const NAME_BYTES: usize = 8;

/// A TURN server, and what opens it for a while.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnServer {
    /// `turn:host:port` (RFC 7065), over UDP.
    pub url: String,
    /// Until when it is good, in seconds of Unix time, and a name: `1700000000:name`.
    pub username: String,
    /// The password: base64 of an HMAC-SHA-1 over the username.
    pub credential: String,
}

impl TurnServer {
    /// Its texts together.
    pub(crate) const BYTES_MAX: usize = 3 * TEXT_BYTES_MAX;

    /// Whether the credentials have ended by then, in seconds of Unix time. Those that do not say when
    /// they end have not.
    #[must_use]
    pub fn has_expired(&self, unix_s: u64) -> bool {
        let until = self.username.split(':').next().and_then(|until| until.parse::<u64>().ok());
        until.is_some_and(|until| until < unix_s)
    }

    pub(crate) fn bound(&mut self) {
        for text in [&mut self.url, &mut self.username, &mut self.credential] {
            truncate(text, TEXT_BYTES_MAX);
        }
    }
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TurnServer({}, credential hidden)", self.url)
    }
}

/// Where a TURN server is: `turn:host`, `turn:host:port`, perhaps with `?transport=udp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnUrl {
    /// A name, or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is not the URL of a TURN server that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnUrlError {
    /// It is none at all.
    #[error("expected turn:host:port, as turn:turn.example.com:3478")]
    Malformed,
    /// It is one over TCP or TLS.
    #[error("TURN is used over UDP alone: expected turn:host:port")]
    NotUdp,
}

impl FromStr for TurnUrl {
    type Err = TurnUrlError;

    fn from_str(text: &str) -> Result<Self, TurnUrlError> {
        let (scheme, rest) = text.trim().split_once(':').ok_or(TurnUrlError::Malformed)?;
        match scheme.to_ascii_lowercase().as_str() {
            "turn" => {}
            "turns" => return Err(TurnUrlError::NotUdp),
            _ => return Err(TurnUrlError::Malformed),
        }
        let (place, transport) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
        if !transport.eq_ignore_ascii_case("transport=udp") {
            return Err(TurnUrlError::NotUdp);
        }
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let is_of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_of_host) {
            return Err(TurnUrlError::Malformed);
        }
        let port = port.map_or(Ok(TURN_PORT), str::parse).map_err(|_| TurnUrlError::Malformed)?;
        let url = Self { host: host.to_owned(), port };
        if port == 0 { Err(TurnUrlError::Malformed) } else { Ok(url) }
    }
}

impl fmt::Display for TurnUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "turn:[{}]:{}", self.host, self.port)
        } else {
            write!(f, "turn:{}:{}", self.host, self.port)
        }
    }
}

/// What TURN servers share with the rendezvous.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(String);

impl TurnSecret {
    /// The secret, as in the TURN server's settings.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.to_owned())
    }

    /// The password of a username.
    #[must_use]
    pub fn credential(&self, username: &str) -> String {
        let hmac = Hmac::<Sha1>::new_from_slice(self.0.as_bytes());
        let hmac = hmac.expect("invariant: HMAC takes a key of any length");
        STANDARD.encode(hmac.chain_update(username).finalize().into_bytes())
    }
}

impl fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret(hidden)")
    }
}

/// The TURN servers of a rendezvous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnAccess {
    /// Where they are.
    pub urls: Vec<TurnUrl>,
    /// What all of them share with it.
    pub secret: TurnSecret,
    /// How long what it gives out is good, in seconds.
    pub lifetime_s: u64,
}

impl TurnAccess {
    /// These servers, opened for a day at a time.
    #[must_use]
    pub fn new(urls: Vec<TurnUrl>, secret: TurnSecret) -> Self {
        Self { urls, secret, lifetime_s: CREDENTIAL_LIFETIME_S }
    }

    /// What opens them for `worker`, from `unix_s` on, in seconds of Unix time.
    #[must_use]
    pub fn servers(&self, worker: &WorkerId, unix_s: u64) -> Vec<TurnServer> {
        let until = unix_s.saturating_add(self.lifetime_s);
        let hash = Sha256::digest(worker.as_str().as_bytes());
        let name: String = hash.iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let username = format!("{until}:{name}");
        let credential = self.secret.credential(&username);
        let server = |url: &TurnUrl| TurnServer {
            url: url.to_string(),
            username: username.clone(),
            credential: credential.clone(),
        };
        self.urls.iter().map(server).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `printf %s NAME | openssl dgst -sha1 -hmac north -binary | base64`.
    const KNOWN: (&str, &str) = ("1700000000:worker", "yXk+tNt+6zcK3nbRliSe3vCKl1I=");

    #[test]
    fn a_credential_is_what_a_turn_server_makes_of_the_same_secret() {
        assert_eq!(TurnSecret::new("north").credential(KNOWN.0), KNOWN.1);
    }

    #[test]
    fn credentials_name_their_end_and_the_worker_by_a_hash_and_hide_themselves() {
        let urls = vec!["turn:a".parse().unwrap(), "turn:[::1]:9".parse().unwrap()];
        let access = TurnAccess::new(urls, TurnSecret::new("north"));
        let servers = access.servers(&WorkerId::new("a:b").unwrap(), 1000);
        assert_eq!(servers[0].url, "turn:a:3478");
        assert_eq!(servers[1].url, "turn:[::1]:9");
        let (until, name) = servers[0].username.split_once(':').unwrap();
        assert_eq!((until, name.len()), ("87400", 2 * NAME_BYTES));
        assert!(!servers[0].has_expired(87_400) && servers[0].has_expired(87_401));
        let shown = format!("{access:?} {servers:?}");
        assert!(!shown.contains("north") && !shown.contains(&servers[0].credential), "{shown}");
    }

    #[test]
    fn a_url_is_read_or_said_to_be_wrong() {
        for (text, host, port) in [
            ("turn:turn.example", "turn.example", TURN_PORT),
            ("TURN:192.0.2.1:5000?transport=udp", "192.0.2.1", 5000),
            ("turn:[2001:db8::1]", "2001:db8::1", TURN_PORT),
        ] {
            assert_eq!(text.parse(), Ok(TurnUrl { host: host.to_owned(), port }));
        }
        for text in ["", "turn:", "stun:a:1", "turn:a:0", "turn:a:x", "turn:a b", "turn://a:1"] {
            assert_eq!(text.parse::<TurnUrl>(), Err(TurnUrlError::Malformed), "{text}");
        }
        for text in ["turns:a:1", "turn:a:1?transport=tcp"] {
            assert_eq!(text.parse::<TurnUrl>(), Err(TurnUrlError::NotUdp), "{text}");
        }
    }
}
