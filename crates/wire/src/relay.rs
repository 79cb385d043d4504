//! The relay's WebSocket: where it is, who may open it, and how datagrams stand in its binary frames. Its other way: [`udp`].
//!
//! A frame holds one datagram or several, each behind its length (2 bytes, big-endian). The relay hands
//! frames on as they are: only the two workers read them, and what they read is encrypted.

mod token;
pub mod udp;

pub use token::{
    RELAY_BOUND_BYTES_MIN, RELAY_KEY_CHARS_MIN, RELAY_TOKEN_LIFETIME, RelayAccess, RelayKey,
    RelayKeyError, RelayTokenRefusal,
};

/// Path prefix; the session's number follows.
pub const RELAY_PATH: &str = "/ws/relay/";
/// The authorization scheme (RFC 6750 §2.1) that the session's token stands behind.
pub const RELAY_SCHEME: &str = "Bearer ";
/// The header with the token alone, where the `Authorization` of a request is for a server in front of the rendezvous.
pub const RELAY_TOKEN_HEADER: &str = "Holepunch-Relay-Token";
/// Longest frame, in bytes.
pub const RELAY_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Longest URL of a relay, in bytes.
pub const RELAY_URL_BYTES_MAX: usize = 512;
/// Bytes of a length.
pub const LENGTH_BYTES: usize = 2;
const _: () = assert!(
    RELAY_FRAME_BYTES_MAX <= 1 << (8 * LENGTH_BYTES),
    "a length counts as far as a frame is long"
);

/// A frame that is filled with datagrams.
#[derive(Debug, Default)]
pub struct RelayFrame(Vec<u8>);

impl RelayFrame {
    /// An empty frame with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a datagram; `false` where the frame has no room for it, or it is empty.
    pub fn push(&mut self, datagram: &[u8]) -> bool {
        let Ok(length) = u16::try_from(datagram.len()) else { return false };
        if length == 0 || self.0.len() + LENGTH_BYTES + datagram.len() > RELAY_FRAME_BYTES_MAX {
            return false;
        }
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(datagram);
        true
    }

    /// Its bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no datagram.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes to send.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The datagrams of a frame. One that is cut short, or empty, ends it.
pub fn datagrams(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frame;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (datagram, behind) = behind.split_at_checked(length).filter(|_| length > 0)?;
        rest = behind;
        Some(datagram)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_frame_comes_out_again() {
        let mut frame = RelayFrame::default();
        let sent: [&[u8]; 3] = [b"one", &[7; 1500], b"x"];
        assert!(sent.iter().all(|datagram| frame.push(datagram)));
        let bytes = frame.into_bytes();
        assert!(datagrams(&bytes).eq(sent));
    }

    #[test]
    fn a_frame_that_is_cut_short_gives_what_is_whole() {
        let mut frame = RelayFrame::default();
        assert!(frame.push(b"one") && frame.push(b"two"));
        let bytes = frame.into_bytes();
        for length in 0..bytes.len() {
            let whole = usize::from(length >= 5);
            assert_eq!(datagrams(&bytes[..length]).count(), whole, "{length}");
        }
        assert_eq!(datagrams(&[0, 0, 0, 1, 9]).count(), 0, "an empty one ends it");
    }

    #[test]
    fn a_frame_has_a_longest_length() {
        let mut frame = RelayFrame::default();
        let pushed = (0..100).filter(|_| frame.push(&[0; 1400])).count();
        assert_eq!(pushed, RELAY_FRAME_BYTES_MAX / 1402);
        assert!(!frame.push(&[0; 70_000]) && !frame.push(&[]));
    }
}
