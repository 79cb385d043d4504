//! How the command line names what is forwarded: the forms of `ssh`, and `IP:PORT=HOST:PORT`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use holepunch_programs::forward::{Protocol, Remote, Target, TargetError};

/// Where to listen: `PORT`, on the loopback, `IP:PORT`, `localhost:PORT`, or `*:PORT`, on all IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) SocketAddr);

/// Where to listen, and where that leads: `[BIND:]PORT:HOST:HOSTPORT`, or `ENTRY=HOST:PORT`; for UDP with `/udp` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) listen: SocketAddr,
    pub(super) to: Target,
    pub(super) protocol: Protocol,
}

/// The same for UDP, with or without `/udp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UdpPair(pub(super) Pair);

/// The same where the other side listens. Its port is named: nobody there would read which one the system has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reverse(pub(super) Remote);

/// Why a text is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error(
        "expected PORT, for programs of this machine alone, or IP:PORT, such as 2222, 127.0.0.1:2222 or \
         [::1]:2222"
    )]
    Entry,
    #[error(
        "expected [BIND:]PORT:HOST:HOSTPORT or IP:PORT=HOST:PORT, such as 2222:127.0.0.1:22, \
         [::1]:2222:db.internal:5432 or 127.0.0.1:2222=127.0.0.1:22"
    )]
    Parts,
    #[error("an IPv6 address stands in brackets, such as [::1]:2222:[::1]:22")]
    Brackets,
    #[error(
        "expected [BIND:]PORT:HOST:HOSTPORT, or that with /udp: sockets of the file system are not forwarded"
    )]
    Path,
    #[error("where to listen ({0:?}): {1}")]
    Listen(String, Box<FormError>),
    #[error("where it leads ({0:?}): {1}")]
    To(String, TargetError),
    #[error("the port on the other side is to be named, from 1 to 65535: 0 would be any")]
    PortOfOtherSide,
    #[error(
        "the other side listens for TCP alone: for UDP, it gives -L with /udp, and this side --allow"
    )]
    UdpOfOtherSide,
    #[error("expected UDP, and /tcp stands behind it")]
    Tcp,
}

/// A port in digits; 0 is one of the system's choice.
fn port(text: &str) -> Option<u16> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

fn bind_ip(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => match text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        },
    }
}

impl FromStr for Entry {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let (ip, after) = match text.rsplit_once(':') {
            Some((ip, after)) => (bind_ip(ip).ok_or(FormError::Entry)?, after),
            None => (Ipv4Addr::LOCALHOST.into(), text),
        };
        let port = port(after).ok_or(FormError::Entry)?;
        Ok(Self(SocketAddr::new(ip, port)))
    }
}

/// The parts between the colons that stand outside of brackets; a part keeps its brackets.
fn parts(text: &str) -> Result<Vec<&str>, FormError> {
    let (mut parts, mut begin, mut is_within) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match (byte, is_within) {
            (b'[', false) => is_within = true,
            (b']', true) => is_within = false,
            (b'[', true) | (b']', false) => return Err(FormError::Brackets),
            (b':', false) => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if is_within {
        return Err(FormError::Brackets);
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

impl FromStr for Pair {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let (text, protocol) = Protocol::split(text);
        if text.contains('/') {
            return Err(FormError::Path);
        }
        let (listen, to) = if let Some((listen, to)) = text.split_once('=') {
            (listen.to_owned(), to.to_owned())
        } else {
            match parts(text)?[..] {
                [port, host, host_port] => (port.to_owned(), format!("{host}:{host_port}")),
                [bind, port, host, host_port] => {
                    (format!("{bind}:{port}"), format!("{host}:{host_port}"))
                }
                ref all if all.len() > 4 => return Err(FormError::Brackets),
                _ => return Err(FormError::Parts),
            }
        };
        let Entry(address) =
            listen.parse().map_err(|why| FormError::Listen(listen.clone(), Box::new(why)))?;
        let target = to.parse().map_err(|why| FormError::To(to.clone(), why))?;
        Ok(Self { listen: address, to: target, protocol })
    }
}

impl FromStr for UdpPair {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        if text.ends_with("/tcp") {
            return Err(FormError::Tcp);
        }
        Ok(Self(Pair { protocol: Protocol::Udp, ..text.parse()? }))
    }
}

impl FromStr for Reverse {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let Pair { listen, to, protocol } = text.parse()?;
        if protocol == Protocol::Udp {
            return Err(FormError::UdpOfOtherSide);
        }
        if listen.port() == 0 {
            return Err(FormError::PortOfOtherSide);
        }
        Ok(Self(Remote { listen, to }))
    }
}

/// Whether everyone who can reach this machine may reach what listens there.
pub(super) fn is_open(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> String {
        let Pair { listen, to, protocol } = text.parse().unwrap();
        format!("{listen} {to}{}", if protocol == Protocol::Udp { " by UDP" } else { "" })
    }

    #[test]
    fn every_form_of_ssh_is_read_and_the_form_with_an_equals_sign_too() {
        for (text, expected) in [
            ("2223:127.0.0.1:22", "127.0.0.1:2223 127.0.0.1:22"),
            ("2223:host:22", "127.0.0.1:2223 host:22"),
            ("0.0.0.0:2223:host:22", "0.0.0.0:2223 host:22"),
            ("*:2223:host:22", "0.0.0.0:2223 host:22"),
            ("localhost:2223:LOCALHOST.:22", "127.0.0.1:2223 localhost:22"),
            ("[::1]:2223:[::1]:22", "[::1]:2223 [::1]:22"),
            ("[::]:2223:host:22", "[::]:2223 host:22"),
            ("2223:[2001:db8::1]:22", "127.0.0.1:2223 [2001:db8::1]:22"),
            ("0:host:22", "127.0.0.1:0 host:22"),
            ("127.0.0.1:2222=127.0.0.1:22", "127.0.0.1:2222 127.0.0.1:22"),
            ("2222=host:22", "127.0.0.1:2222 host:22"),
            ("[::1]:2222=[::1]:22", "[::1]:2222 [::1]:22"),
            ("51820:host:51820/udp", "127.0.0.1:51820 host:51820 by UDP"),
            ("0.0.0.0:53=[::1]:53/udp", "0.0.0.0:53 [::1]:53 by UDP"),
            ("22:host:22/tcp", "127.0.0.1:22 host:22"),
        ] {
            assert_eq!(pair(text), expected, "{text}");
        }
    }

    #[test]
    fn an_entry_without_an_address_is_on_the_loopback() {
        for (text, expected) in [
            ("2222", "127.0.0.1:2222"),
            ("0", "127.0.0.1:0"),
            ("0.0.0.0:2222", "0.0.0.0:2222"),
            ("[::1]:2222", "[::1]:2222"),
            ("localhost:2222", "127.0.0.1:2222"),
        ] {
            assert_eq!(text.parse::<Entry>().unwrap().0.to_string(), expected);
        }
        for text in [
            "",
            ":",
            ":22",
            "22:",
            "x:22",
            "+22",
            " 22",
            "65536",
            "::1:22",
            "[::1:22",
            "127.1:22",
            "[127.0.0.1]:22",
        ] {
            assert_eq!(text.parse::<Entry>(), Err(FormError::Entry), "{text}");
        }
    }

    #[test]
    fn odd_pairs_say_what_was_expected() {
        for (text, words) in [
            ("", "expected [BIND:]PORT:HOST:HOSTPORT"),
            ("2222", "expected [BIND:]PORT:HOST:HOSTPORT"),
            ("host:22", "expected [BIND:]PORT:HOST:HOSTPORT"),
            ("::1:2222:host:22", "stands in brackets"),
            ("2222:::1:22", "stands in brackets"),
            ("[::1:2222:host:22", "stands in brackets"),
            ("]::1[:2222:host:22", "stands in brackets"),
            ("[[::1]]:2222:host:22", "stands in brackets"),
            (":2222:host:22", "where to listen (\":2222\")"),
            ("a:2222:host:22", "where to listen (\"a:2222\")"),
            ("2222::22", "where it leads (\":22\")"),
            ("2222:host:0", "a port from 1 to 65535"),
            ("2222:host:ssh", "a port from 1 to 65535"),
            ("2222:127.1:22", "where it leads (\"127.1:22\")"),
            ("65536:host:22", "where to listen (\"65536\")"),
            ("2222=", "where it leads (\"\")"),
            ("=host:22", "where to listen (\"\")"),
            ("a=b=c", "where to listen (\"a\")"),
            ("/run/x.sock:host:22", "sockets of the file system"),
            ("2222:/run/x.sock", "sockets of the file system"),
            ("ü:2222:host:22", "where to listen"),
        ] {
            let why = text.parse::<Pair>().unwrap_err().to_string();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn the_port_on_the_other_side_is_named() {
        let Reverse(remote) = "8080:127.0.0.1:3000".parse().unwrap();
        assert_eq!(remote.listen.to_string(), "127.0.0.1:8080");
        assert_eq!("0:127.0.0.1:3000".parse::<Reverse>(), Err(FormError::PortOfOtherSide));
        assert_eq!("53:127.0.0.1:53/udp".parse::<Reverse>(), Err(FormError::UdpOfOtherSide));
    }

    #[test]
    fn udp_needs_no_word_where_nothing_else_is_meant() {
        let both = ["53:host:53", "53:host:53/udp"].map(|text| text.parse::<UdpPair>().unwrap());
        assert_eq!(both[0], both[1]);
        assert_eq!(both[0].0.protocol, Protocol::Udp);
        assert_eq!("53:host:53/tcp".parse::<UdpPair>(), Err(FormError::Tcp));
        assert_eq!("53:host:53/sctp".parse::<UdpPair>(), Err(FormError::Path));
    }
}
