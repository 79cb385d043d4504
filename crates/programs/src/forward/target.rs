//! What a forwarded connection leads to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a host (RFC 1035 §2.3.4, without the last dot).
pub const NAME_BYTES_MAX: usize = 253;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

/// What a target is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// What stands before `/tcp` or `/udp` at the end of a text, and which of the two; without one, TCP is meant.
    #[must_use]
    pub fn split(text: &str) -> (&str, Self) {
        if let Some(before) = text.strip_suffix("/udp") {
            return (before, Self::Udp);
        }
        (text.strip_suffix("/tcp").unwrap_or(text), Self::Tcp)
    }
}

/// A host by its address or by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address; IPv4 is never written as IPv6.
    Ip(IpAddr),
    /// A name in lower case, without a dot at its end.
    Name(String),
}

/// Why a text names no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is no port.
    #[error("expected HOST:PORT, such as db.internal:5432, 127.0.0.1:22 or [::1]:22")]
    NoPort,
    /// The port is none.
    #[error("expected a port from 1 to 65535 behind the last colon")]
    Port,
    /// The host is none.
    #[error(
        "expected an address, or a name of letters, digits, dots, hyphens and underscores that does \
         not end in a number"
    )]
    Host,
}

impl Host {
    /// Reads a host; an IPv6 address may stand in brackets.
    ///
    /// # Errors
    /// It is neither an address nor a name.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let bare = text.strip_prefix('[').map(|it| it.strip_suffix(']').ok_or(TargetError::Host));
        if let Some(bare) = bare {
            let ip: std::net::Ipv6Addr = bare?.parse().map_err(|_| TargetError::Host)?;
            return Ok(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name.bytes().all(is_usual)
            && name.split('.').all(|label| !label.is_empty())
            && !ends_in_number(name);
        if is_name { Ok(Self::Name(name.to_ascii_lowercase())) } else { Err(TargetError::Host) }
    }
}

/// Systems take `127.1`, `2130706433` and `0x7f.1` for addresses: they would be names that nobody looks
/// up (as in the URL standard).
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A host and what stands behind the last colon.
pub(super) fn split(text: &str) -> Result<(&str, &str), TargetError> {
    let (host, port) = text.rsplit_once(':').ok_or(TargetError::NoPort)?;
    // An IPv6 address without brackets would lose its last part.
    if host.contains(':') && !host.starts_with('[') {
        return Err(TargetError::NoPort);
    }
    Ok((host, port))
}

pub(super) fn port(text: &str) -> Result<u16, TargetError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_plain && *port != 0).ok_or(TargetError::Port)
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, after) = split(text)?;
        Ok(Self { host: Host::parse(host)?, port: port(after)? })
    }
}

holepunch_wire::as_text!(Target);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_target_has_one_form() {
        for (text, form) in [
            ("127.0.0.1:22", "127.0.0.1:22"),
            ("[::1]:22", "[::1]:22"),
            ("[::ffff:127.0.0.1]:22", "127.0.0.1:22"),
            ("LocalHost.:80", "localhost:80"),
            ("my_db.internal:5432", "my_db.internal:5432"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), form);
        }
    }

    #[test]
    fn what_a_system_might_take_for_an_address_is_no_name() {
        for text in [
            "",
            "x",
            ":1",
            "x:0",
            "x:65536",
            "x:+1",
            "::1:22",
            "127.1:22",
            "0x7f.1:22",
            "1:22",
            "a..b:1",
            "2130706433:22",
            "0x:1",
            "a b:1",
            "a\0:1",
            "a/b:1",
            "[::1:22",
            "[fe80::1%eth0]:1",
            "ü.de:1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        assert!(format!("{}:1", "a.".repeat(127)).parse::<Target>().is_ok());
        assert!(format!("{}:1", "a.".repeat(128)).parse::<Target>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_read_again(text in "[\\PC]{0,20}(:[0-9]{1,6})?|[0-9a-fx.:\\[\\]]{1,30}:[0-9]{1,5}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }
}
