//! Who a worker is: an Ed25519 key (RFC 8032), the id that is made from it, and what it signs when it
//! registers.
//!
//! Whoever knows an id that was made from a key can check the key: nobody between the two can put
//! another in its place. Ids of people's own choice are as trustworthy as the rendezvous that binds
//! them to a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::WorkerId;
use crate::session::RoomName;

/// Bytes of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What the hash that becomes an id begins with, so that it is no hash of anything else.
const ID_CONTEXT: &[u8] = b"holepunch worker id v1\0";
/// What a registration's signature is over, first of all: it is good for nothing else.
const REGISTRATION_CONTEXT: &[u8] = b"holepunch registration v1\0";

/// An Ed25519 public key; 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_BYTES]);

/// An Ed25519 signature; 128 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; SIGNATURE_BYTES]);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the digits of one.
    #[error(transparent)]
    Digits(#[from] HexError),
    /// See [`PublicKey::proves_nothing`].
    #[error("expected a key with which only its owner can sign")]
    ProvesNothing,
}

/// Why a text is no such row of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, got {got} characters that are not that")]
pub struct HexError {
    expected: usize,
    got: usize,
}

fn read_hex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let error = HexError { expected: 2 * N, got: text.chars().count() };
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(error);
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| error)?;
    }
    Ok(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! hex_text {
    ($name:ident, $bytes:expr, $error:ty, $check:expr) => {
        impl $name {
            /// Takes the bytes as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $check(Self(read_hex(text)?))
            }
        }

        crate::as_text!($name);
    };
}

hex_text!(PublicKey, KEY_BYTES, KeyError, PublicKey::checked);
hex_text!(Signature, SIGNATURE_BYTES, HexError, Ok);

/// The points of small order (RFC 7748 §6.1 has their like), each as its y in little-endian: 1 (order 1), -1 (order 2),
/// 0 (order 4) and two of order 8. The bit for the sign of x, in the last byte, is not set.
const SMALL_ORDER: [[u8; KEY_BYTES]; 5] = {
    let mut one = [0; KEY_BYTES];
    one[0] = 1;
    let mut minus_one = [0xff; KEY_BYTES];
    (minus_one[0], minus_one[KEY_BYTES - 1]) = (0xec, 0x7f);
    let eighth = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let other_eighth = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    [[0; KEY_BYTES], one, minus_one, eighth, other_eighth]
};

impl PublicKey {
    /// Whether the key has no owner: for a point of small order anybody can make signatures, one of which may fit every
    /// message, and RFC 8032 does not ask those who verify to notice. The same point in another spelling (y of p =
    /// 2²⁵⁵ − 19 or more) would be another key with the same signatures, so that none is a key here.
    #[must_use]
    pub fn proves_nothing(&self) -> bool {
        let mut y = self.0;
        y[KEY_BYTES - 1] &= 0x7f;
        let [first, middle @ .., last] = y;
        let is_beyond_p = first >= 0xed && middle.iter().all(|byte| *byte == 0xff) && last == 0x7f;
        is_beyond_p || SMALL_ORDER.contains(&y)
    }

    fn checked(self) -> Result<Self, KeyError> {
        if self.proves_nothing() { Err(KeyError::ProvesNothing) } else { Ok(self) }
    }

    /// The id that is made from this key: a UUIDv8 (RFC 9562 §5.8) of the first bits of a SHA-256.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        let mut hash = Sha256::new();
        hash.update(ID_CONTEXT);
        hash.update(self.0);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        id[6] = (id[6] & 0x0f) | 0x80;
        id[8] = (id[8] & 0x3f) | 0x80;
        let number = u128::from_be_bytes(id);
        let text = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            number >> 96,
            (number >> 80) & 0xffff,
            (number >> 64) & 0xffff,
            (number >> 48) & 0xffff,
            number & 0xffff_ffff_ffff
        );
        WorkerId::new(&text).expect("invariant: 36 printable characters are an id")
    }

    /// Whether a worker of this id may have this key: of an id that was made from a key, only that one.
    #[must_use]
    pub fn may_be_of(&self, id: &WorkerId) -> bool {
        !is_made_from_a_key(id) || self.worker_id() == *id
    }
}

/// Whether an id claims to be made from a key: every UUID of version 8 does.
#[must_use]
pub fn is_made_from_a_key(id: &WorkerId) -> bool {
    let text = id.as_str().as_bytes();
    let is_uuid = text.len() == 36
        && text.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_uuid
        && text[14] == b'8'
        && matches!(text[19].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b')
}

/// What a worker proves its key for: a registration at one server, once, under one id, in one room.
#[derive(Debug, Clone, Copy)]
pub struct Registration<'a> {
    /// The server's name as in the worker's URL, without port, in lower case. Without it, a rendezvous
    /// could pass on another one's challenge and register in the worker's name there.
    pub host: &'a str,
    /// The challenge of the server's welcome.
    pub challenge: &'a str,
    /// The worker's id.
    pub worker: &'a WorkerId,
    /// The room that it enters.
    pub room: &'a RoomName,
}

impl Registration<'_> {
    /// The bytes that are signed: a context, then each field with its length (4 bytes, big-endian).
    #[must_use]
    pub fn to_signed_bytes(&self) -> Vec<u8> {
        let host = self.host.to_ascii_lowercase();
        let mut bytes = REGISTRATION_CONTEXT.to_vec();
        for field in [&host, self.challenge, self.worker.as_str(), self.room.as_str()] {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey::from_bytes([7; KEY_BYTES]);

    #[test]
    fn an_id_of_a_key_is_a_uuid_of_version_8_and_belongs_to_that_key_alone() {
        let id = KEY.worker_id();
        let uuid = id.as_str();
        assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'8'), "{uuid}");
        assert!(is_made_from_a_key(&id) && KEY.may_be_of(&id));
        assert_eq!(id, KEY.worker_id());
        assert!(!PublicKey::from_bytes([8; KEY_BYTES]).may_be_of(&id));
    }

    #[test]
    fn an_id_of_another_form_claims_no_key() {
        for text in
            ["alice", "1c1a51a2-9b5d-4d58-8a36-3d5e2b9f1a20", "1c1a51a29b5d8d588a363d5e2b9f1a20"]
        {
            let id = WorkerId::new(text).unwrap();
            assert!(!is_made_from_a_key(&id) && KEY.may_be_of(&id), "{text}");
        }
        let shouted = WorkerId::new(&KEY.worker_id().as_str().to_uppercase()).unwrap();
        assert!(is_made_from_a_key(&shouted) && !KEY.may_be_of(&shouted));
    }

    #[test]
    fn keys_and_signatures_are_hexadecimal_digits() {
        assert_eq!(KEY.to_string().parse(), Ok(KEY));
        let signature = Signature::from_bytes([0xa5; SIGNATURE_BYTES]);
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
        let long = "é".repeat(32);
        for bad in ["", "07", long.as_str(), &KEY.to_string().replace("07", "0g")] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_for_which_anybody_can_sign_is_none() {
        let mut weak: Vec<String> = SMALL_ORDER.iter().map(|y| PublicKey(*y).to_string()).collect();
        let spelled = |first: u8, last: u8| format!("{first:02x}{}{last:02x}", "ff".repeat(30));
        for first in 0xed..=0xff {
            weak.extend([spelled(first, 0x7f), spelled(first, 0xff)]);
        }
        let signed = |text: &String| {
            let last = u8::from_str_radix(&text[62..], 16).unwrap() | 0x80;
            format!("{}{last:02x}", &text[..62])
        };
        weak.extend(weak.iter().map(signed).collect::<Vec<_>>());
        for text in &weak {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::ProvesNothing), "{text}");
            assert!(serde_json::from_str::<PublicKey>(&format!("\"{text}\"")).is_err());
        }
        // The greatest y below p but -1, and what differs from p in one byte.
        for good in [spelled(0xeb, 0x7f), format!("ed{}fe7f", "ff".repeat(29)), spelled(0xff, 0x7e)]
        {
            assert!(good.parse::<PublicKey>().is_ok(), "{good}");
        }
    }

    #[test]
    fn no_two_registrations_are_signed_alike() {
        let (id, other) = (WorkerId::new("ab").unwrap(), WorkerId::new("a").unwrap());
        let (room, longer) = (RoomName::new("c").unwrap(), RoomName::new("bc").unwrap());
        let signed = |host, challenge, worker, room| {
            Registration { host, challenge, worker, room }.to_signed_bytes()
        };
        let first = signed("h", "x", &id, &room);
        assert_ne!(first, signed("h", "x", &other, &longer));
        assert_ne!(first, signed("hx", "", &id, &room));
        assert_eq!(first, signed("H", "x", &id, &room), "names of hosts are the same in capitals");
    }
}
