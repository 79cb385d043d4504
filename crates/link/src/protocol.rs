//! What two programs speak over a link: names, of which the two agree on one in the handshake of TLS, as ALPN does it
//! (RFC 7301).
//!
//! A worker without names offers the protocol of links alone, and so does one of a version that knows of no names: with
//! those, one that has names has nothing in common.

use std::fmt;

use noq::crypto::rustls::HandshakeData;

use crate::link::{CloseCode, LinkError};
use crate::tls::ALPN;

/// Longest name, in bytes: with what stands before it, it is one of ALPN, of 255 bytes.
pub const PROTOCOL_BYTES_MAX: usize = 200;
/// Most names of a worker: they stand in the first packet of a handshake.
pub const PROTOCOLS_MAX: usize = 8;
/// Between the protocol of links and the name of what is spoken over them.
const SEPARATOR: u8 = b'+';
const _: () = assert!(ALPN.len() + 1 + PROTOCOL_BYTES_MAX <= 255);

/// The names of what a worker speaks over its links, the one that it likes best first. Without any, it speaks to
/// workers without any.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Protocols(Vec<Vec<u8>>);

/// Why names are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolsError {
    /// A name is empty, or too long.
    #[error("the name of a protocol has from 1 to {PROTOCOL_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
    /// There are too many.
    #[error("a worker speaks at most {PROTOCOLS_MAX} protocols, here are {0}")]
    Count(usize),
}

impl Protocols {
    /// These names.
    ///
    /// # Errors
    /// There are too many, or one is empty or too long.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Self, ProtocolsError> {
        let names: Vec<Vec<u8>> = names.into_iter().map(|name| name.as_ref().to_vec()).collect();
        if names.len() > PROTOCOLS_MAX {
            return Err(ProtocolsError::Count(names.len()));
        }
        match names.iter().find(|name| name.is_empty() || name.len() > PROTOCOL_BYTES_MAX) {
            Some(name) => Err(ProtocolsError::Length(name.len())),
            None => Ok(Self(names)),
        }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// What the handshake offers. The protocol of links alone comes last: with it, the two learn that they have nothing
    /// in common, where TLS would end the handshake without a word.
    pub(crate) fn alpn(&self) -> Vec<Vec<u8>> {
        let named = self.0.iter().map(|name| [ALPN, &[SEPARATOR], name].concat());
        named.chain([ALPN.to_vec()]).collect()
    }

    /// What the two ends of a connection have agreed on.
    fn agreed(&self, connection: &noq::Connection) -> Result<Option<Vec<u8>>, LinkError> {
        let data =
            connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let chosen = data.and_then(|data| data.protocol);
        let named = chosen.as_ref().and_then(|chosen| chosen.strip_prefix(ALPN));
        match named.and_then(|named| named.strip_prefix(&[SEPARATOR])) {
            Some(name) => Ok(Some(name.to_vec())),
            None if self.0.is_empty() => Ok(None),
            None => Err(LinkError::NoProtocol(format!(
                "no protocol in common: this side speaks {self}, and the peer none of that"
            ))),
        }
    }

    /// The same; where it is nothing, the connection ends, and the peer hears why.
    pub(crate) fn agree(&self, connection: &noq::Connection) -> Result<Option<Vec<u8>>, LinkError> {
        self.agreed(connection).inspect_err(|_| {
            let reason = format!("no protocol in common: the other side speaks {self}");
            connection.close(CloseCode::NoProtocol.into(), reason.as_bytes());
        })
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{}", name.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocols({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connected_with;

    fn protocols(names: &[&str]) -> Protocols {
        Protocols::new(names).unwrap()
    }

    /// What the two that speak these make of it.
    async fn met(near: &[&str], far: &[&str]) -> [Result<Option<Vec<u8>>, LinkError>; 2] {
        let both = [protocols(near), protocols(far)];
        let ends = connected_with(both.clone(), async |address| address).await;
        [0, 1].map(|end| both[end].agreed(&ends.connections[end]))
    }

    #[tokio::test]
    async fn the_first_of_the_accepting_side_that_both_speak_is_spoken() {
        for (near, far, spoken) in [
            (&["echo/1"][..], &["echo/1"][..], Some("echo/1")),
            (&["a", "b", "c"], &["c", "b"], Some("c")),
            (&[], &[], None),
        ] {
            let spoken = spoken.map(|name| name.as_bytes().to_vec());
            assert_eq!(met(near, far).await, [Ok(spoken.clone()), Ok(spoken)]);
        }
    }

    #[tokio::test]
    async fn whoever_has_names_has_nothing_in_common_with_other_names_or_none() {
        let [near, far] = met(&["echo/1"], &["chat/1"]).await;
        let (near, far) = (near.unwrap_err().to_string(), far.unwrap_err().to_string());
        assert!(near.contains("this side speaks echo/1") && far.contains("chat/1"), "{near} {far}");
        let [near, far] = met(&["echo/1"], &[]).await;
        assert!(matches!(near, Err(LinkError::NoProtocol(_))) && far == Ok(None));
    }

    #[tokio::test]
    async fn who_has_none_in_common_hears_so_from_the_other_side() {
        let both = [protocols(&["echo/\x1b1"]), Protocols::default()];
        let ends = connected_with(both.clone(), async |address| address).await;
        both[0].agree(&ends.connections[0]).unwrap_err();
        let error = LinkError::from_connection(&ends.connections[1].closed().await);
        let LinkError::NoProtocol(why) = error else { panic!("{error}") };
        assert_eq!(why, "no protocol in common: the other side speaks echo/\\x1b1");
    }

    #[test]
    fn a_name_has_bounds_and_so_have_all() {
        assert_eq!(Protocols::new([""]), Err(ProtocolsError::Length(0)));
        assert_eq!(Protocols::new(["x".repeat(201)]), Err(ProtocolsError::Length(201)));
        assert!(Protocols::new(["x".repeat(200)]).is_ok());
        assert_eq!(Protocols::new(["x"; 9]), Err(ProtocolsError::Count(9)));
    }
}
