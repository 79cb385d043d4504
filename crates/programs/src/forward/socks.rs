//! SOCKS5 (RFC 1928): what a client says, and what it is answered. Only CONNECT, without passwords.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::request::{Answer, Failure};
use super::target::{Host, Target};

const VERSION: u8 = 5;
const NO_PASSWORD: u8 = 0;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Longest greeting or request: both have at most one field of 255 bytes.
pub const BYTES_MAX: usize = 4 + 1 + 255 + 2;
/// Answers a greeting: no password is needed.
pub(super) const WELCOME: [u8; 2] = [VERSION, NO_PASSWORD];
/// Answers a greeting that offers passwords alone.
pub(super) const NO_METHOD: [u8; 2] = [VERSION, 0xff];

/// Something whole at the beginning of what a client has sent, and how many bytes it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    /// What was said.
    pub value: T,
    /// In so many bytes.
    pub used: usize,
}

/// What the bytes so far come to; `None` while more are needed.
pub type Step<T> = Result<Option<Parsed<T>>, SocksError>;

/// What is wrong with what a client has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SocksError {
    /// Another protocol, or another version of it.
    #[error("expected SOCKS version 5, the client speaks something else (first byte {0})")]
    Version(u8),
    /// Another command than CONNECT.
    #[error("expected the SOCKS command CONNECT (1), came {0}")]
    Command(u8),
    /// A kind of address that RFC 1928 does not have.
    #[error("expected a SOCKS address of type 1, 3 or 4, came {0}")]
    AddressType(u8),
    /// A name that is no host, or port 0.
    #[error("the SOCKS request names no host and port that could be connected to")]
    Target,
}

/// The greeting: whether the client does without a password. `None` while it is not whole.
///
/// # Errors
/// It is not SOCKS 5.
pub fn greeting(bytes: &[u8]) -> Step<bool> {
    let Some(&version) = bytes.first() else { return Ok(None) };
    if version != VERSION {
        return Err(SocksError::Version(version));
    }
    let Some(&count) = bytes.get(1) else { return Ok(None) };
    let used = 2 + usize::from(count);
    let Some(methods) = bytes.get(2..used) else { return Ok(None) };
    Ok(Some(Parsed { value: methods.contains(&NO_PASSWORD), used }))
}

/// The request: where to. `None` while it is not whole.
///
/// # Errors
/// It is none, or one that is not served.
pub fn request(bytes: &[u8]) -> Step<Target> {
    let Some(&version) = bytes.first() else { return Ok(None) };
    if version != VERSION {
        return Err(SocksError::Version(version));
    }
    let Some(&command) = bytes.get(1) else { return Ok(None) };
    if command != CONNECT {
        return Err(SocksError::Command(command));
    }
    let Some(&kind) = bytes.get(3) else { return Ok(None) };
    let (from, length) = match kind {
        IPV4 => (4, 4),
        IPV6 => (4, 16),
        NAME => match bytes.get(4) {
            Some(&length) => (5, usize::from(length)),
            None => return Ok(None),
        },
        other => return Err(SocksError::AddressType(other)),
    };
    let used = from + length + 2;
    let (Some(address), Some(port)) = (bytes.get(from..used - 2), bytes.get(used - 2..used)) else {
        return Ok(None);
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let host = host(address, kind).filter(|_| port != 0).ok_or(SocksError::Target)?;
    Ok(Some(Parsed { value: Target { host, port }, used }))
}

fn host(address: &[u8], kind: u8) -> Option<Host> {
    let ip: IpAddr = if kind == NAME {
        // Some clients give addresses as names.
        return Host::parse(std::str::from_utf8(address).ok()?).ok();
    } else if kind == IPV4 {
        Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into()
    } else {
        Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into()
    };
    Some(Host::Ip(ip.to_canonical()))
}

/// The code of a reply where there is no link.
pub(super) const UNREACHABLE: u8 = 3;

/// Answers a request. The address that the far side connects from is its own affair.
pub(super) fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

/// The code of a reply (RFC 1928 §6).
pub(super) fn code(answer: &Answer) -> u8 {
    match answer {
        Answer::Connected => 0,
        // No answer to a request for a connection.
        Answer::Listening { .. } => 1,
        Answer::Refused { .. } => 2,
        Answer::Failed { failure, .. } => match failure {
            Failure::Other | Failure::InUse | Failure::NotAvailable | Failure::NoPermission => 1,
            Failure::Unreachable => 3,
            Failure::Unknown | Failure::TimedOut => 4,
            Failure::Refused => 5,
        },
    }
}

impl SocksError {
    /// The code of the reply, where the client understands one.
    pub(super) fn code(self) -> Option<u8> {
        match self {
            Self::Version(_) => None,
            Self::Command(_) => Some(7),
            Self::AddressType(_) => Some(8),
            Self::Target => Some(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(bytes: &[u8]) -> String {
        request(bytes).unwrap().unwrap().value.to_string()
    }

    #[test]
    fn each_kind_of_address_is_read() {
        assert_eq!(target(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 22]), "127.0.0.1:22");
        let v6 = [&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[1, 0]].concat();
        assert_eq!(target(&v6), "[::1]:256");
        assert_eq!(target(b"\x05\x01\x00\x03\x09localhost\x00\x50rest"), "localhost:80");
        assert_eq!(greeting(&[5, 2, 1, 0, 9]), Ok(Some(Parsed { value: true, used: 4 })));
        assert_eq!(greeting(&[5, 1, 2]), Ok(Some(Parsed { value: false, used: 3 })));
    }

    #[test]
    fn what_is_not_served_is_named() {
        assert_eq!(greeting(b"GET / HTTP/1.1"), Err(SocksError::Version(b'G')));
        assert_eq!(greeting(&[4, 1]), Err(SocksError::Version(4)));
        assert_eq!(request(&[5, 2, 0]), Err(SocksError::Command(2)));
        assert_eq!(request(&[5, 1, 0, 9]), Err(SocksError::AddressType(9)));
        assert_eq!(request(&[5, 1, 0, 1, 1, 2, 3, 4, 0, 0]), Err(SocksError::Target));
        assert_eq!(request(b"\x05\x01\x00\x03\x00\x00\x50"), Err(SocksError::Target));
    }

    proptest! {
        #[test]
        fn whatever_is_whole_has_no_whole_beginning(tail in proptest::collection::vec(any::<u8>(), 0..300), kind in 0_u8..6) {
            let bytes = [&[5, 1, 0, kind][..], &tail].concat();
            if let Ok(Some(parsed)) = request(&bytes) {
                prop_assert!(parsed.used <= bytes.len().min(BYTES_MAX));
                for end in 0..parsed.used {
                    prop_assert_eq!(request(&bytes[..end]), Ok(None));
                }
                prop_assert_eq!(request(&bytes[..parsed.used]), Ok(Some(parsed)));
            }
            if let Ok(Some(parsed)) = greeting(&bytes) {
                prop_assert!(parsed.used <= bytes.len().min(BYTES_MAX));
            }
        }
    }
}
