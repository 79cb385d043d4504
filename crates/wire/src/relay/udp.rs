//! The relay's datagrams on UDP, on the port of STUN. Each begins with a byte that begins no STUN message (0 to 3), no
//! packet of QUIC (0x40 to 0x7f, 0xc0 to 0xff), no ChannelData of TURN and no text of the baseline (`P`, 0x50).
//!
//! ```text
//! byte  0      1 to 3        from 4 on
//!       0x80   channel       a datagram of the link                              both ways
//!       0x81   0             nonce (16), zeros up to 40 bytes                    to the relay:   HELLO
//!       0x82   0             nonce's first 8, cookie (24)                        from the relay: CHALLENGE
//!       0x83   0             nonce (16), cookie (24), session (8), expiry (4), code (16)   to:   BIND
//!       0x84   channel       code's first 8                                      from:           BOUND
//!       0x85   channel       number (8), proved (2), any bytes                   to:             PING
//!       0x86   channel       as in the PING                                      from:           PONG
//!       0x87   channel       nothing                                             from:           UNKNOWN
//!       0x88   reason        code's first 8                                      from:           REFUSED
//!       0x89   channel       code's first 8, reason (1)                          from:           CLOSED
//!       0x8a   channel       code's first 8                                      to:             CLOSE
//! ```
//!
//! The token itself is never sent, since nothing here is encrypted: the code of a BIND, made with it, shows that its sender
//! has it. The cookie is a proof of address (as STUN's, with another key): so a BIND counts from where its sender reads
//! what is sent to it. No answer is longer than its question.

use std::net::SocketAddr;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::RelayKey;
use crate::relay::RelayTokenRefusal;
use crate::session::{RelayToken, SessionId};
use crate::stun::proof::{AddressProof, ProofKey, ProofNonce};

/// Bytes before the payload of a datagram.
pub const HEADER_BYTES: usize = 4;
/// Longest datagram of a link that every path takes: one of IPv6 has 1,280 bytes (RFC 8200 §5), with 40 of IPv6 and 8 of UDP.
pub const PAYLOAD_BYTES_SAFE: usize = 1280 - 40 - 8 - HEADER_BYTES;
/// Longest one that is tried: what is left of an Ethernet frame.
pub const PAYLOAD_BYTES_MAX: usize = 1500 - 40 - 8 - HEADER_BYTES;
/// A channel of which nothing has come for so long is closed.
pub const CHANNEL_LIFETIME: Duration = Duration::from_secs(60);
/// Most channels, by the length of their numbers.
pub const CHANNELS_MAX: usize = 1 << 24;

const HELLO_BYTES: usize = 40;
const NONCE_BYTES: usize = 16;
const COOKIE_BYTES: usize = 24;
const CODE_BYTES: usize = 16;
const ECHO_BYTES: usize = 8;
const BIND_BYTES: usize = HEADER_BYTES + NONCE_BYTES + COOKIE_BYTES + 8 + 4 + CODE_BYTES;
const CHALLENGE_BYTES: usize = HEADER_BYTES + ECHO_BYTES + COOKIE_BYTES;
const PING_BYTES_MIN: usize = HEADER_BYTES + 8 + 2;
const _: () = assert!(CHALLENGE_BYTES <= HELLO_BYTES, "an answer is no longer than its question");
/// What the code of a BIND begins with.
const DOMAIN: &[u8] = b"holepunch udp relay bind 1";

const DATA: u8 = 0x80;
const HELLO: u8 = 0x81;
const CHALLENGE: u8 = 0x82;
const BIND: u8 = 0x83;
const BOUND: u8 = 0x84;
const PING: u8 = 0x85;
const PONG: u8 = 0x86;
const UNKNOWN: u8 = 0x87;
const REFUSED: u8 = 0x88;
const CLOSED: u8 = 0x89;
const CLOSE: u8 = 0x8a;

/// One end of a session, as the relay calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u32);

/// What ties an answer to its question: the first bytes of it.
pub type Echo = [u8; ECHO_BYTES];

/// Whether a datagram is one for the relay, or of it.
#[must_use]
pub fn is_of_relay(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| (0x80..0xc0).contains(first))
}

/// The header of a datagram that carries one of a link.
#[must_use]
pub fn data_header(channel: Channel) -> [u8; HEADER_BYTES] {
    header(DATA, channel.0)
}

/// The header where it is that of a datagram which carries one of a link.
#[must_use]
pub fn data_channel(datagram: &[u8]) -> Option<Channel> {
    match datagram {
        [DATA, a, b, c, _, ..] => Some(Channel(u32::from_be_bytes([0, *a, *b, *c]))),
        _ => None,
    }
}

/// Why the relay takes no channel, or takes one back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The token is not one of this session, or has expired.
    Token,
    /// It has as many as it takes, in all or of this address.
    Full,
    /// The quota of the session or of the address is used up.
    Quota,
    /// The session has ended.
    Ended,
    /// The worker has opened another one.
    Replaced,
    /// The server stops.
    ShuttingDown,
    /// One of a newer relay.
    Other,
}

impl Reason {
    const ALL: [Self; 6] =
        [Self::Token, Self::Full, Self::Quota, Self::Ended, Self::Replaced, Self::ShuttingDown];

    fn number(self) -> u8 {
        let at = Self::ALL.iter().position(|it| *it == self);
        at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or_default()
    }

    fn of(number: u8) -> Self {
        let at = usize::from(number).checked_sub(1);
        at.and_then(|at| Self::ALL.get(at)).copied().unwrap_or(Self::Other)
    }
}

/// Most bytes of datagrams that one call of the kernel takes: as many as one datagram has, without its headers (RFC 768,
/// RFC 8200).
pub const RUN_BYTES_MAX: usize = 65_535 - 40 - 8;

/// What a worker asks with for a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Of its HELLO.
    pub nonce: ProofNonce,
    /// Of the CHALLENGE.
    pub cookie: AddressProof,
    /// The session.
    pub session: SessionId,
    /// The end of the token's time, in seconds of Unix time.
    until: u32,
    code: [u8; CODE_BYTES],
}

impl Bind {
    /// One that is opened by `token`.
    #[must_use]
    pub fn new(
        nonce: ProofNonce,
        cookie: AddressProof,
        session: SessionId,
        token: &RelayToken,
    ) -> Self {
        let until = token.until();
        let mut bind = Self { nonce, cookie, session, until, code: [0; CODE_BYTES] };
        let code = bind.code(token).finalize().into_bytes();
        bind.code.copy_from_slice(&code[..CODE_BYTES]);
        bind
    }

    /// What its answer names it by.
    #[must_use]
    pub fn echo(&self) -> Echo {
        first(&self.code)
    }

    /// Whether its sender was seen at `from`, by a key of the relay alone.
    #[must_use]
    pub fn came_from(&self, from: SocketAddr, key: &ProofKey, now_unix_s: u64) -> bool {
        key.verify(self.nonce, from, &self.cookie, now_unix_s).is_ok()
    }

    /// Which side of the session its sender is, by the relay's key, and how many bytes the session may carry, where that is
    /// bounded. The code is compared in constant time.
    ///
    /// # Errors
    /// It has no token of this session, or one that has expired.
    pub fn side(
        &self,
        key: &RelayKey,
        now_unix_s: u64,
    ) -> Result<(usize, Option<u64>), RelayTokenRefusal> {
        let has = |token: &RelayToken| self.code(token).verify_truncated_left(&self.code).is_ok();
        key.side_of_holder(self.session, self.until.to_be_bytes(), now_unix_s, has)
    }

    fn code(&self, token: &RelayToken) -> Hmac<Sha256> {
        let hmac = Hmac::<Sha256>::new_from_slice(token.bytes());
        let hmac = hmac.expect("invariant: HMAC takes a key of any length");
        let hmac = hmac.chain_update(DOMAIN).chain_update(self.nonce.0);
        let hmac = hmac.chain_update(self.cookie.to_bytes());
        hmac.chain_update(self.session.0.to_be_bytes()).chain_update(self.until.to_be_bytes())
    }
}

/// What a worker sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToRelay<'a> {
    /// A datagram for the other end.
    Data(Channel, &'a [u8]),
    /// Asks for a cookie.
    Hello(ProofNonce),
    /// Asks for a channel.
    Bind(Bind),
    /// Asks for the same back.
    Ping(Ping<'a>),
    /// Wants no more.
    Close(Channel, Echo),
}

/// A question whether the relay is there, and takes and gives datagrams of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping<'a> {
    /// Of the sender.
    pub channel: Channel,
    /// What its answer is known by.
    pub number: u64,
    /// Longest payload for which an answer has come.
    pub proved: u16,
    /// Makes it as long as a datagram that is to be tried.
    pub padding: &'a [u8],
}

/// What a relay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromRelay<'a> {
    /// A datagram of the other end.
    Data(Channel, &'a [u8]),
    /// The cookie for a HELLO.
    Challenge(Echo, AddressProof),
    /// The channel for a BIND.
    Bound(Channel, Echo),
    /// The answer to a PING.
    Pong(Ping<'a>),
    /// No channel of this number is at this address.
    Unknown(Channel),
    /// No channel for a BIND.
    Refused(Reason, Echo),
    /// The channel is no more.
    Closed(Channel, Echo, Reason),
}

impl<'a> ToRelay<'a> {
    /// Reads one datagram; `None` where it is no well-formed one.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (kind, number, rest) = split(datagram)?;
        let channel = Channel(number);
        match kind {
            DATA if !rest.is_empty() => Some(Self::Data(channel, rest)),
            HELLO if datagram.len() == HELLO_BYTES => {
                rest.first_chunk().map(|nonce| Self::Hello(ProofNonce(*nonce)))
            }
            BIND if datagram.len() == BIND_BYTES => {
                let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
                let (cookie, rest) = rest.split_at_checked(COOKIE_BYTES)?;
                let (session, rest) = rest.split_first_chunk()?;
                let (until, code) = rest.split_first_chunk()?;
                Some(Self::Bind(Bind {
                    nonce: ProofNonce(*nonce),
                    cookie: AddressProof::from_bytes(cookie)?,
                    session: SessionId(u64::from_be_bytes(*session)),
                    until: u32::from_be_bytes(*until),
                    code: code.try_into().ok()?,
                }))
            }
            PING => Ping::parse(channel, rest).map(Self::Ping),
            CLOSE => Some(Self::Close(channel, rest.try_into().ok()?)),
            _ => None,
        }
    }

    /// The bytes to send.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Data(channel, payload) => whole(DATA, channel.0, &[payload]),
            Self::Hello(nonce) => {
                let mut bytes = whole(HELLO, 0, &[&nonce.0]);
                bytes.resize(HELLO_BYTES, 0);
                bytes
            }
            Self::Bind(bind) => {
                let Bind { nonce, cookie, session, until, code } = bind;
                let (session, until) = (session.0.to_be_bytes(), until.to_be_bytes());
                whole(BIND, 0, &[&nonce.0, &cookie.to_bytes(), &session, &until, code])
            }
            Self::Ping(ping) => ping.to_bytes(PING),
            Self::Close(channel, echo) => whole(CLOSE, channel.0, &[echo]),
        }
    }
}

impl<'a> FromRelay<'a> {
    /// Reads one datagram; `None` where it is no well-formed one.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (kind, number, rest) = split(datagram)?;
        let channel = Channel(number);
        match kind {
            DATA if !rest.is_empty() => Some(Self::Data(channel, rest)),
            CHALLENGE => {
                let (echo, cookie) = rest.split_first_chunk()?;
                Some(Self::Challenge(*echo, AddressProof::from_bytes(cookie)?))
            }
            BOUND => Some(Self::Bound(channel, rest.try_into().ok()?)),
            PONG => Ping::parse(channel, rest).map(Self::Pong),
            UNKNOWN if rest.is_empty() => Some(Self::Unknown(channel)),
            REFUSED => {
                let reason = number.to_be_bytes()[3];
                Some(Self::Refused(Reason::of(reason), rest.try_into().ok()?))
            }
            CLOSED => match rest.split_first_chunk()? {
                (echo, [reason]) => Some(Self::Closed(channel, *echo, Reason::of(*reason))),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes to send.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Data(channel, payload) => whole(DATA, channel.0, &[payload]),
            Self::Challenge(echo, cookie) => whole(CHALLENGE, 0, &[echo, &cookie.to_bytes()]),
            Self::Bound(channel, echo) => whole(BOUND, channel.0, &[echo]),
            Self::Pong(ping) => ping.to_bytes(PONG),
            Self::Unknown(channel) => whole(UNKNOWN, channel.0, &[]),
            Self::Refused(reason, echo) => whole(REFUSED, reason.number().into(), &[echo]),
            Self::Closed(channel, echo, reason) => {
                whole(CLOSED, channel.0, &[echo, &[reason.number()]])
            }
        }
    }

    /// What names a HELLO in its CHALLENGE.
    #[must_use]
    pub fn echo_of(nonce: ProofNonce) -> Echo {
        first(&nonce.0)
    }
}

impl<'a> Ping<'a> {
    fn parse(channel: Channel, rest: &'a [u8]) -> Option<Self> {
        let (number, rest) = rest.split_first_chunk()?;
        let (proved, padding) = rest.split_first_chunk()?;
        let (number, proved) = (u64::from_be_bytes(*number), u16::from_be_bytes(*proved));
        Some(Self { channel, number, proved, padding })
    }

    fn to_bytes(self, kind: u8) -> Vec<u8> {
        let Self { channel, number, proved, padding } = self;
        whole(kind, channel.0, &[&number.to_be_bytes(), &proved.to_be_bytes(), padding])
    }

    /// How much padding makes it as long as a datagram with so many bytes of a link.
    #[must_use]
    pub fn padding_for(payload_bytes: usize) -> usize {
        (HEADER_BYTES + payload_bytes).saturating_sub(PING_BYTES_MIN)
    }

    /// The bytes of a link that a datagram as long as this one carries.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        PING_BYTES_MIN + self.padding.len() - HEADER_BYTES
    }
}

/// Makes the answer of a PING in its place; `false` where it is none.
pub fn answer_in_place(ping: &mut [u8]) -> bool {
    let is_ping = ping.len() >= PING_BYTES_MIN && ping[0] == PING;
    if is_ping {
        ping[0] = PONG;
    }
    is_ping
}

fn header(kind: u8, number: u32) -> [u8; HEADER_BYTES] {
    debug_assert!(number < 1 << 24);
    let [_, a, b, c] = number.to_be_bytes();
    [kind, a, b, c]
}

fn split(datagram: &[u8]) -> Option<(u8, u32, &[u8])> {
    let ([kind, a, b, c], rest) = datagram.split_first_chunk()?;
    Some((*kind, u32::from_be_bytes([0, *a, *b, *c]), rest))
}

fn whole(kind: u8, number: u32, parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut whole = Vec::with_capacity(HEADER_BYTES + bytes);
    whole.extend_from_slice(&header(kind, number));
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole
}

fn first(bytes: &[u8; 16]) -> Echo {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests;
