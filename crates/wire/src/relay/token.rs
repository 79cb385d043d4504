//! Tokens that prove themselves: a relay that has the key knows which worker of which session has come, and asks nobody.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::session::{RelayToken, SessionId};

/// How long a token opens the relay. The rendezvous sends a fresh one after half of it, so that a worker which has lost its
/// connection to the rendezvous has the other half, and clocks may differ by as much.
pub const RELAY_TOKEN_LIFETIME: Duration = Duration::from_hours(24);
/// Shortest text that is taken as a key: 128 bits as hexadecimal digits. Whoever has a token could try weaker ones at home.
pub const RELAY_KEY_CHARS_MIN: usize = 32;

/// What is proved begins with this: a key that was used for something else as well proves nothing here.
const DOMAIN: &[u8] = b"holepunch relay token 1";
/// A token begins with the end of its time: Unix time in seconds, big-endian, until 2106.
const EXPIRY_BYTES: usize = 4;
/// The rest is the authentication code, HMAC-SHA256 cut to 96 bits (RFC 2104 §5 asks for 80 at least). It can be tried at the
/// relay alone, and workers take no token of another length than both together.
const MAC_BYTES: usize = RelayToken::BYTES - EXPIRY_BYTES;
/// The same for a token that bounds what its session may carry: the last byte of its time is the bound. A relay that knows of no
/// bounds refuses it.
const BOUNDED_DOMAIN: &[u8] = b"holepunch relay token 2";
/// The smallest bound. One that is smaller is none: there is no token for it.
pub const RELAY_BOUND_BYTES_MIN: u64 = 8 * 1024;
const _: () = assert!(RELAY_BOUND_BYTES_MIN == 8 << BOUND_SHIFT);
/// A bound is three binary digits behind the first one, in the lower bits, shifted by this and by the upper five.
const BOUND_SHIFT: u32 = 10;

/// What relays share with the rendezvous whose tokens open them.
#[derive(Clone)]
pub struct RelayKey(Hmac<Sha256>);

/// Why a text is no key. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected at least {RELAY_KEY_CHARS_MIN} characters that nobody can guess, as of `openssl rand -hex 32`"
)]
pub struct RelayKeyError;

/// Why a token does not open a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayTokenRefusal {
    /// It was made for another session, with another key, or by a forger.
    #[error("the token is not one of this session")]
    NotOurs,
    /// It was good once.
    #[error("the token expired {ago_s} s ago")]
    Expired {
        /// How long ago, in seconds.
        ago_s: u64,
    },
}

impl RelayKey {
    /// A key of bytes that nobody can guess.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self::of_bytes(&bytes)
    }

    /// The key that a setting names.
    ///
    /// # Errors
    /// The text is too short.
    pub fn of_text(text: &str) -> Result<Self, RelayKeyError> {
        let text = text.trim();
        if text.chars().count() < RELAY_KEY_CHARS_MIN {
            return Err(RelayKeyError);
        }
        Ok(Self::of_bytes(text.as_bytes()))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let hmac = Hmac::new_from_slice(bytes);
        Self(hmac.expect("invariant: HMAC takes a key of any length"))
    }

    /// A key for something else, which tells nothing of this one.
    #[must_use]
    pub fn derived(&self, what: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(b"derived: ").chain_update(what).finalize().into_bytes().into()
    }

    /// What opens the relay of a session for one of its two sides, 0 or 1, until then, in seconds of Unix time.
    #[must_use]
    pub fn token(&self, session: SessionId, side: usize, until_unix_s: u64) -> RelayToken {
        let until = u32::try_from(until_unix_s).unwrap_or(u32::MAX).to_be_bytes();
        self.token_of(DOMAIN, (session, side), until)
    }

    /// The same, which lets both sides together send no more than so many bytes, rounded down by an eighth at most; `None`: the
    /// bound is too small for any. Its time is rounded down by some minutes.
    #[must_use]
    pub fn bounded_token(
        &self,
        session: SessionId,
        side: usize,
        until_unix_s: u64,
        bytes_max: u64,
    ) -> Option<RelayToken> {
        let bound = bound_byte(bytes_max)?;
        let mut until = u32::try_from(until_unix_s).unwrap_or(u32::MAX).to_be_bytes();
        until[EXPIRY_BYTES - 1] = bound;
        Some(self.token_of(BOUNDED_DOMAIN, (session, side), until))
    }

    fn token_of(
        &self,
        domain: &[u8],
        end: (SessionId, usize),
        until: [u8; EXPIRY_BYTES],
    ) -> RelayToken {
        let code = self.code(domain, end, until).finalize().into_bytes();
        let mut bytes = [0; RelayToken::BYTES];
        let (expiry, mac) = bytes.split_at_mut(EXPIRY_BYTES);
        expiry.copy_from_slice(&until);
        mac.copy_from_slice(&code[..MAC_BYTES]);
        RelayToken::from_bytes(bytes)
    }

    /// Which side of the session the token was made for with this key, and how many bytes the session may carry, where that is
    /// bounded; if it is still good at `now_unix_s`, in seconds of Unix time. The code is compared in constant time.
    ///
    /// # Errors
    /// It was made for neither, or it has expired.
    pub fn side(
        &self,
        session: SessionId,
        token: &RelayToken,
        now_unix_s: u64,
    ) -> Result<(usize, Option<u64>), RelayTokenRefusal> {
        let (until, mac) = token.bytes().split_at(EXPIRY_BYTES);
        let until: [u8; EXPIRY_BYTES] = until.try_into().expect("invariant: it was cut so");
        let is_of = |domain: &[u8], side| {
            self.code(domain, (session, side), until).verify_truncated_left(mac).is_ok()
        };
        Self::side_of(until, now_unix_s, is_of)
    }

    /// The same for whoever does not show a token, but has one that ends so.
    pub(super) fn side_of_holder(
        &self,
        session: SessionId,
        until: [u8; EXPIRY_BYTES],
        now_unix_s: u64,
        has: impl Fn(&RelayToken) -> bool,
    ) -> Result<(usize, Option<u64>), RelayTokenRefusal> {
        let is_of = |domain: &[u8], side| has(&self.token_of(domain, (session, side), until));
        Self::side_of(until, now_unix_s, is_of)
    }

    fn side_of(
        until: [u8; EXPIRY_BYTES],
        now_unix_s: u64,
        is_of: impl Fn(&[u8], usize) -> bool,
    ) -> Result<(usize, Option<u64>), RelayTokenRefusal> {
        let kinds: [(&[u8], usize); 4] =
            [(DOMAIN, 0), (DOMAIN, 1), (BOUNDED_DOMAIN, 0), (BOUNDED_DOMAIN, 1)];
        let found = kinds.into_iter().find(|(domain, side)| is_of(domain, *side));
        let (domain, side) = found.ok_or(RelayTokenRefusal::NotOurs)?;
        let (until, bound) = match until {
            [a, b, c, bound] if domain == BOUNDED_DOMAIN => ([a, b, c, 0], Some(bytes_of(bound))),
            until => (until, None),
        };
        match now_unix_s.checked_sub(u32::from_be_bytes(until).into()) {
            Some(ago_s) if ago_s > 0 => Err(RelayTokenRefusal::Expired { ago_s }),
            Some(_) | None => Ok((side, bound)),
        }
    }

    /// The code over domain, session, side and expiry; all have one length, so no two inputs look alike.
    fn code(
        &self,
        domain: &[u8],
        (session, side): (SessionId, usize),
        until: [u8; EXPIRY_BYTES],
    ) -> Hmac<Sha256> {
        let side = u8::try_from(side).unwrap_or(u8::MAX);
        let hmac = self.0.clone().chain_update(domain).chain_update(session.0.to_be_bytes());
        hmac.chain_update([side]).chain_update(until)
    }
}

impl fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayKey(hidden)")
    }
}

/// The largest bound that is no larger, in a byte; `None` where there is none.
fn bound_byte(bytes: u64) -> Option<u8> {
    let scaled = bytes >> BOUND_SHIFT;
    let shift = scaled.checked_ilog2()?.checked_sub(3)?;
    let digits = u8::try_from((scaled >> shift) & 7).ok()?;
    Some(
        u8::try_from(shift).ok().filter(|shift| *shift < 32).map_or(u8::MAX, |it| it << 3 | digits),
    )
}

/// How many bytes that is.
fn bytes_of(bound: u8) -> u64 {
    (8 + u64::from(bound & 7)) << (u32::from(bound >> 3) + BOUND_SHIFT)
}

/// What a rendezvous gives its workers a relay with.
#[derive(Debug, Clone)]
pub struct RelayAccess {
    /// What it shares with the relay.
    pub key: RelayKey,
    /// Where the relay is; `None`: at the rendezvous itself.
    pub url: Option<String>,
    /// Where it is reached by UDP as well; an unspecified IP means the host of the URL.
    pub udp: Vec<SocketAddr>,
}

impl RelayAccess {
    /// What opens the relay of a session for each of its two sides, from `unix` on, the time since 1970. Where a bound is so
    /// small that nothing is carried, there is none.
    #[must_use]
    pub fn tokens(
        &self,
        session: SessionId,
        unix: Duration,
        bytes_max: Option<u64>,
    ) -> Option<[RelayToken; 2]> {
        let until = unix.saturating_add(RELAY_TOKEN_LIFETIME).as_secs();
        let Some(bytes_max) = bytes_max else {
            return Some([0, 1].map(|side| self.key.token(session, side, until)));
        };
        let token = |side| self.key.bounded_token(session, side, until, bytes_max);
        Some([token(0)?, token(1)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(7);
    const UNTIL: u64 = 1_800_000_000;
    /// Of side 1; the code by Python's `hmac`.
    const KNOWN: &str = "6b49d200a5db336df08e1e23a9d97055";

    fn key() -> RelayKey {
        RelayKey::new([7; 32])
    }

    #[test]
    fn a_token_says_whose_it_is() {
        for side in [0, 1] {
            let token = key().token(SESSION, side, UNTIL);
            assert_eq!(key().side(SESSION, &token, UNTIL), Ok((side, None)));
        }
    }

    #[test]
    fn it_is_as_others_compute_it() {
        let token = key().token(SESSION, 1, UNTIL);
        assert_eq!(token.reveal(), KNOWN);
    }

    #[test]
    fn of_another_session_or_key_it_is_nobody_s() {
        let token = key().token(SESSION, 0, UNTIL);
        let not_ours = Err(RelayTokenRefusal::NotOurs);
        assert_eq!(key().side(SessionId(8), &token, 0), not_ours);
        assert_eq!(RelayKey::new([8; 32]).side(SESSION, &token, 0), not_ours);
        let third = key().token(SESSION, 2, UNTIL);
        assert_eq!(key().side(SESSION, &third, 0), not_ours, "a session has two sides");
    }

    #[test]
    fn whoever_changes_one_bit_the_expiry_among_them_has_none() {
        let token = key().token(SESSION, 0, UNTIL);
        for bit in 0..RelayToken::BYTES * 8 {
            let mut bytes = *token.bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let other = RelayToken::from_bytes(bytes);
            let refused = key().side(SESSION, &other, 0);
            assert_eq!(refused, Err(RelayTokenRefusal::NotOurs), "bit {bit}");
        }
    }

    #[test]
    fn it_ends_with_its_time() {
        let access = RelayAccess { key: key(), url: None, udp: Vec::new() };
        let [_, token] = access.tokens(SESSION, Duration::from_secs(UNTIL), None).unwrap();
        let until = UNTIL + RELAY_TOKEN_LIFETIME.as_secs();
        assert_eq!(key().side(SESSION, &token, until), Ok((1, None)));
        let late = key().side(SESSION, &token, until + 9);
        assert_eq!(late, Err(RelayTokenRefusal::Expired { ago_s: 9 }));
        let last = key().token(SESSION, 0, u64::MAX);
        assert_eq!(
            key().side(SESSION, &last, u32::MAX.into()),
            Ok((0, None)),
            "the last one, of 2106"
        );
    }

    #[test]
    fn a_token_says_how_much_its_session_may_carry_and_never_more_than_was_meant() {
        let now = UNTIL - 3600;
        for bytes in [8 << 10, 10_000, 1 << 20, 1_000_000_000, 5 << 40, u64::MAX] {
            for side in [0, 1] {
                let token = key().bounded_token(SESSION, side, UNTIL, bytes).unwrap();
                let Ok((of, Some(bound))) = key().side(SESSION, &token, now) else { panic!() };
                assert!(of == side && bound <= bytes, "{bytes}: {bound}");
                assert!(bound >= (bytes - bytes / 8).min(15 << 41), "{bytes}: {bound}");
                let late = key().side(SESSION, &token, UNTIL + 1);
                assert!(matches!(late, Err(RelayTokenRefusal::Expired { .. })));
                for bit in 0..8 {
                    let mut other = *token.bytes();
                    other[EXPIRY_BYTES - 1] ^= 1 << bit;
                    let other = key().side(SESSION, &RelayToken::from_bytes(other), now);
                    assert_eq!(other, Err(RelayTokenRefusal::NotOurs), "a bound that was raised");
                }
            }
        }
        let none = key().bounded_token(SESSION, 0, UNTIL, RELAY_BOUND_BYTES_MIN - 1);
        assert!(none.is_none());
        assert!(key().bounded_token(SESSION, 0, UNTIL, RELAY_BOUND_BYTES_MIN).is_some());
    }

    #[test]
    fn a_key_is_long_and_shown_nowhere() {
        let text = "0123456789abcdef0123456789abcdef";
        let key = RelayKey::of_text(&format!(" {text}\n")).unwrap();
        let token = key.token(SESSION, 0, UNTIL);
        assert_eq!(RelayKey::of_text(text).unwrap().side(SESSION, &token, UNTIL), Ok((0, None)));
        assert!(!format!("{key:?} {token:?}").contains("0123"));
        assert_eq!(RelayKey::of_text(&text[1..]).err(), Some(RelayKeyError));
    }
}
