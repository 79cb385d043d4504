//! The PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>): what a proxy
//! that passes on bytes alone says about its client, before the client's first byte.
//!
//! No byte behind the header is read: what follows is HTTP's affair.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins (§2.2). Version 1 is never shorter.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// How version 1 begins (§2.1).
const TEXT_START: &[u8] = b"PROXY ";
/// Longest line of version 1, with its end (§2.1).
const TEXT_BYTES_MAX: usize = 107;
/// Longest rest of a header of version 2. The addresses have 36 bytes; what follows them (the client's certificate,
/// say) is passed over, and 64 KiB of it that the protocol allows is nobody's.
const BINARY_BYTES_MAX: usize = 4096;

/// Why a connection has no header, or none that can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// It begins with something else.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    None,
    /// The header is too long, or not as it should be.
    #[error("the header of the PROXY protocol cannot be read")]
    Malformed,
    /// It ended before.
    #[error("the connection ended within the header of the PROXY protocol: {0}")]
    Ended(#[from] io::Error),
}

/// Reads the header: the client's address, or `None` where the proxy speaks for itself (a health check), or does not know.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, HeaderError> {
    let mut start = [0; SIGNATURE.len()];
    from.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let [command, family, high, low] = u32::to_be_bytes(from.read_u32().await?);
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BINARY_BYTES_MAX {
            return Err(HeaderError::Malformed);
        }
        let mut rest = vec![0; length];
        from.read_exact(&mut rest).await?;
        return binary_source(command, family, &rest).ok_or(HeaderError::Malformed);
    }
    if !start.starts_with(TEXT_START) {
        return Err(HeaderError::None);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == TEXT_BYTES_MAX {
            return Err(HeaderError::Malformed);
        }
        line.push(from.read_u8().await?);
    }
    let line = line.trim_ascii_end();
    std::str::from_utf8(line).ok().and_then(text_source).ok_or(HeaderError::Malformed)
}

/// The source in a line of version 1.
fn text_source(line: &str) -> Option<Option<SocketAddr>> {
    let parts: Vec<&str> = line.split(' ').collect();
    let (family, source, destination, ports) = match parts.as_slice() {
        // What follows it says nothing.
        ["PROXY", "UNKNOWN", ..] => return Some(None),
        ["PROXY", family, source, destination, ports @ ..] => (*family, source, destination, ports),
        _ => return None,
    };
    let (source, destination): (IpAddr, IpAddr) = (source.parse().ok()?, destination.parse().ok()?);
    let is_family = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    let port = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let [source_port, destination_port] = ports else { return None };
    port(destination_port)?;
    is_family.then_some(Some(SocketAddr::new(source, port(source_port)?)))
}

/// The source in a header of version 2.
fn binary_source(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match command {
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    // Source, destination, their ports.
    match family {
        0x11 => {
            let [source, _, ports] = rest.first_chunk::<12>()?.as_chunks::<4>().0 else {
                return None;
            };
            let port = u16::from_be_bytes([ports[0], ports[1]]);
            Some(Some(SocketAddr::new(Ipv4Addr::from(*source).into(), port)))
        }
        0x21 => {
            let source: &[u8; 16] = rest.first_chunk()?;
            let ports: &[u8; 4] = rest.get(32..)?.first_chunk()?;
            let port = u16::from_be_bytes([ports[0], ports[1]]);
            Some(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        // Of no family that is known here, or a socket of the proxy's own machine.
        0x00 | 0x31 => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const BEHIND: &[u8] = b"GET / HTTP/1.1\r\n";

    /// What is read of these bytes, and how many are left.
    async fn read_all(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, usize) {
        (read(&mut bytes).await, bytes.len())
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// Addresses and ports of version 2, with something behind them.
    fn rest(address_bytes: usize) -> Vec<u8> {
        let mut rest = vec![0; 2 * address_bytes];
        rest[0] = 32;
        rest[address_bytes - 1] = 1;
        rest.extend([0x10, 0x92, 0x01, 0xbb, 0x04, 0, 1, 7]);
        rest
    }

    #[tokio::test]
    async fn a_header_is_read_and_not_a_byte_behind_it() {
        let text = |line: &str| line.as_bytes().to_vec();
        for (header, source) in [
            (text("PROXY TCP4 192.0.2.1 198.51.100.1 4242 443\r\n"), "192.0.2.1:4242"),
            (text("PROXY TCP6 2001:db8::1 2001:db8::2 4242 443\r\n"), "[2001:db8::1]:4242"),
            (text("PROXY UNKNOWN\r\n"), ""),
            (text("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), ""),
            (binary(0x21, 0x11, &rest(4)), "32.0.0.1:4242"),
            (binary(0x21, 0x21, &rest(16)), "[2000::1]:4242"),
            (binary(0x21, 0x00, &[]), ""),
            (binary(0x20, 0x11, &rest(4)), ""),
            (binary(0x20, 0x00, &[]), ""),
        ] {
            let (read, left) = read_all(&[&header, BEHIND].concat()).await;
            assert_eq!(read.unwrap(), source.parse().ok(), "{header:?}");
            assert_eq!(left, BEHIND.len());
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_none() {
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        for bytes in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4242\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 4242 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +4242 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 70000 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 4242 443\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 4242 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 4242 443\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.1 4242 443\r\n",
            &long,
        ] {
            assert!(read_all(bytes.as_bytes()).await.0.is_err(), "{bytes}");
        }
        for bytes in [
            binary(0x11, 0x11, &rest(4)),
            binary(0x22, 0x11, &rest(4)),
            binary(0x21, 0x12, &rest(4)),
            binary(0x21, 0x11, &rest(4)[..11]),
            binary(0x21, 0x21, &rest(16)[..35]),
            binary(0x21, 0x11, &[0; BINARY_BYTES_MAX + 1]),
            SIGNATURE.to_vec(),
        ] {
            assert!(read_all(&bytes).await.0.is_err(), "{bytes:?}");
        }
    }

    /// Nobody is trusted so far that what he writes may end the server.
    #[tokio::test]
    async fn nothing_that_comes_panics_or_is_read_beyond_the_bound() {
        let mut rng = StdRng::seed_from_u64(1);
        let good = [binary(0x21, 0x21, &rest(16)), b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec()];
        for round in 0..20_000_usize {
            let mut bytes = good[round % 2].clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes.truncate(rng.random_range(0..=bytes.len()));
            let padded = [&bytes[..], &[b'x'; 5_000]].concat();
            let (_, left) = read_all(&padded).await;
            assert!(padded.len() - left <= SIGNATURE.len() + 4 + BINARY_BYTES_MAX);
        }
    }
}
