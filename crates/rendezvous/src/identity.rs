//! What a worker signs to prove its key, and whether it has.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use holepunch_wire::WorkerId;
use holepunch_wire::identity::{PublicKey, Registration, Signature};
use holepunch_wire::reason::NOT_PROVED;
use holepunch_wire::session::RoomName;
use holepunch_wire::signal::FromWorker;
use holepunch_wire::signal::v1::WorkerV1;
use rand::TryRng;
use rand::rngs::SysRng;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::forwarded::{FORWARDED_HOST, listed, parameter};

/// Bytes of a challenge: none is ever made twice.
const CHALLENGE_BYTES: usize = 16;
/// Most names of what a client has asked for: each is one more verification of its signature. `Host`, and one more of
/// each proxy on the way.
const ASKED_MAX: usize = 4;
/// Bytes of a server's name that a close reason has room for, beside what else it says.
const NAME_BYTES_MAX: usize = 30;

/// The name of a host as a registration signs it: without port or brackets, in lower case.
pub(crate) fn host_name(authority: &str) -> Option<String> {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        // More than one colon without brackets: an IPv6 address alone.
        None if authority.matches(':').count() > 1 => authority,
        None => authority.split(':').next()?,
    };
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// What a client has asked for: the `Host` header, and what a trusted proxy says that it was before the proxy rewrote
/// it. A client can forge any of them, `Host` as well.
pub(crate) fn asked(headers: &HeaderMap, by_trusted_proxy: bool) -> Vec<String> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let mut asked: Vec<String> = host.map(str::to_owned).into_iter().collect();
    if by_trusted_proxy {
        asked.extend(listed(headers, FORWARDED_HOST).into_iter().map(str::to_owned));
        asked.extend(parameter(headers, "host").into_iter().flatten());
    }
    asked.truncate(ASKED_MAX);
    asked
}

/// The names under which a client may have reached this server: its own ones, or else those that the
/// client has asked for.
pub(crate) fn hosts(
    own: &Arc<[String]>,
    headers: &HeaderMap,
    by_trusted_proxy: bool,
) -> Arc<[String]> {
    if !own.is_empty() {
        return Arc::clone(own);
    }
    let mut names: Vec<String> =
        asked(headers, by_trusted_proxy).iter().filter_map(|asked| host_name(asked)).collect();
    names.dedup();
    names.into()
}

/// A challenge for a new connection; none where the system gives no random numbers.
pub(crate) fn challenge() -> Option<String> {
    let mut bytes = [0; CHALLENGE_BYTES];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a signature on one connection has to be over.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// The server's names; the signature is over any one of them.
    pub(crate) hosts: Arc<[String]>,
    pub(crate) challenge: String,
    /// The room in the URL.
    pub(crate) room: Option<RoomName>,
    /// `X-Forwarded-Host`, whoever has written it, for the log.
    pub(crate) forwarded_host: Option<String>,
    /// The key that the connection has proved.
    pub(crate) proved: Option<PublicKey>,
    /// A signature was over something else.
    pub(crate) has_failed: bool,
}

impl Verifier {
    /// The key that `worker` has proved by now, where a message claims one. A key is proved once, and
    /// one that is not ends the connection: nobody makes the server verify signature after signature.
    pub(crate) fn proved_by(
        &mut self,
        worker: &WorkerId,
        message: &FromWorker<'_>,
    ) -> Option<PublicKey> {
        let FromWorker::V1(Ok(WorkerV1::Hello { key: Some(key), room, signature, .. })) = message
        else {
            return None;
        };
        if self.proved != Some(*key)
            && let Some(signature) = signature
        {
            let room = room.as_ref().or(self.room.as_ref()).cloned().unwrap_or_default();
            if self.is_signed((worker, &room), key, signature) {
                self.proved = Some(*key);
            } else {
                self.has_failed = true;
            }
        }
        self.proved
    }

    /// Why a connection is closed whose signature is not over this, in as many bytes as a close frame takes.
    pub(crate) fn reason(&self) -> String {
        let host = self.hosts.first().map_or("", String::as_str);
        let is_shown = |c: &char| c.is_ascii_graphic() && *c != '"';
        let name: String = host.chars().filter(is_shown).take(NAME_BYTES_MAX).collect();
        let dots = if name.len() < host.len() { "…" } else { "" };
        format!("{NOT_PROVED} host \"{name}\"{dots}, this challenge, id and room")
    }

    /// The same for whoever looks after the server.
    pub(crate) fn log_failure(&self, worker: &WorkerId) {
        tracing::warn!(
            %worker,
            hosts = ?self.hosts,
            forwarded_host = self.forwarded_host,
            room = ?self.room,
            "a signature is not over one of these hosts: the worker signs the host of its URL. Where a proxy rewrites \
             Host, let it pass it on (nginx: proxy_set_header Host $host), or name that host (--public-host), or the \
             proxy if it sends X-Forwarded-Host (--trusted-proxy)"
        );
    }

    fn is_signed(
        &self,
        (worker, room): (&WorkerId, &RoomName),
        key: &PublicKey,
        signature: &Signature,
    ) -> bool {
        if key.proves_nothing() {
            return false;
        }
        let key = UnparsedPublicKey::new(&ED25519, key.as_bytes());
        self.hosts.iter().any(|host| {
            let registration = Registration { host, challenge: &self.challenge, worker, room };
            let signed = registration.to_signed_bytes();
            key.verify(&signed, signature.as_bytes()).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use holepunch_wire::close_code::CLOSE_REASON_BYTES_MAX;

    use super::*;

    #[test]
    fn a_host_is_a_name_without_port_and_brackets() {
        for (authority, name) in [
            ("Rendezvous.Example:8080", "rendezvous.example"),
            ("rendezvous.example", "rendezvous.example"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:DB8::1]:8080", "2001:db8::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(host_name(authority).as_deref(), Some(name));
        }
        for nobody in ["", ":80", "[]", "[::1"] {
            assert_eq!(host_name(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn own_names_win_over_the_one_that_was_asked_for() {
        let mut headers = HeaderMap::new();
        assert!(hosts(&Arc::default(), &headers, true).is_empty());
        headers.insert(HOST, "Asked:80".parse().unwrap());
        assert_eq!(*hosts(&Arc::default(), &headers, true), ["asked".to_owned()]);
        let own: Arc<[String]> = ["own".to_owned()].into();
        assert_eq!(hosts(&own, &headers, true), own);
    }

    #[test]
    fn a_trusted_proxy_says_what_it_was_asked_for_and_nobody_else_does() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "backend:8080".parse().unwrap());
        headers.insert(FORWARDED_HOST, "Own.example:443".parse().unwrap());
        headers.insert("forwarded", "for=192.0.2.1;host=two.example".parse().unwrap());
        let names = |by_proxy| hosts(&Arc::default(), &headers, by_proxy).to_vec();
        assert_eq!(names(true), ["backend", "own.example", "two.example"]);
        assert_eq!(names(false), ["backend"]);
        headers.insert(FORWARDED_HOST, "a,b,c,d,e,f".parse().unwrap());
        assert_eq!(hosts(&Arc::default(), &headers, true).len(), ASKED_MAX);
    }

    #[test]
    fn a_reason_names_the_host_and_fits_into_a_close_frame() {
        for (host, told) in [("backend", "\"backend\","), (&"ü\u{1b}a".repeat(90), "…")] {
            let verifier = Verifier {
                hosts: [host.to_owned()].into(),
                challenge: String::new(),
                room: None,
                forwarded_host: None,
                proved: None,
                has_failed: true,
            };
            let reason = verifier.reason();
            assert!(
                reason.contains(told) && reason.len() <= CLOSE_REASON_BYTES_MAX,
                "{reason}: {}",
                reason.len()
            );
        }
    }

    #[test]
    fn no_two_challenges_are_alike() {
        let (first, second) = (challenge().unwrap(), challenge().unwrap());
        assert!(first.len() == 2 * CHALLENGE_BYTES && first != second);
    }

    #[test]
    fn a_signature_that_fits_every_message_proves_nothing() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut fits_all = [0; 64];
        fits_all[0] = 1;
        let ring = UnparsedPublicKey::new(&ED25519, neutral);
        assert!(ring.verify(b"one", &fits_all).is_ok() && ring.verify(b"two", &fits_all).is_ok());
        let hosts = ["a.example".to_owned()].into();
        let verifier = Verifier {
            hosts,
            forwarded_host: None,
            challenge: "c".to_owned(),
            room: None,
            proved: None,
            has_failed: false,
        };
        let (worker, room) = (WorkerId::new("alice").unwrap(), RoomName::default());
        let (key, signature) = (PublicKey::from_bytes(neutral), Signature::from_bytes(fits_all));
        assert!(!verifier.is_signed((&worker, &room), &key, &signature));
    }
}
