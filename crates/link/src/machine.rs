//! The QUIC machine of a link, set up as links set it up, for whoever drives it without sockets: a simulated line.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::identity::Identity;
use crate::link::{Window, Windows};
use crate::protocol::Protocols;
use crate::quic;

/// Datagrams that the driver on real sockets lets leave by one system call, at most.
pub const SEGMENTS_MAX: NonZeroUsize = noq::MAX_TRANSMIT_SEGMENTS;

/// How the packets of a link are sent and acknowledged.
#[must_use]
pub fn transport() -> noq::TransportConfig {
    quic::transport(Windows::default().open().bytes())
}

/// The window of a link, as its reader changes it. It begins as that of [`transport`].
#[derive(Debug)]
pub struct Reader(Window);

impl Default for Reader {
    fn default() -> Self {
        Self(Windows::default().open())
    }
}

impl Reader {
    /// So much has been read. The window from now on, in bytes, where it has changed.
    #[must_use]
    pub fn read(&self, bytes: usize, now: Instant, round_trip: Option<Duration>) -> Option<u32> {
        let mut changed = None;
        self.0.read(bytes, || now, || round_trip, |bytes| changed = Some(bytes));
        changed
    }
}

/// What two ends of a link need, each with a new key that the other one expects.
#[derive(Debug)]
pub struct Ends {
    /// For the sockets of both.
    pub endpoint: noq::EndpointConfig,
    /// For the side that connects, which sends with `transport` of [`ends`].
    pub client: noq::ClientConfig,
    /// For the side that accepts.
    pub server: noq::ServerConfig,
}

/// Makes the configurations of two ends of a link. The side that connects sends as `transport` says, the other one as
/// links do.
///
/// # Errors
/// The system gives no random numbers, or TLS refuses the keys; in words.
pub fn ends(transport: Arc<noq::TransportConfig>) -> Result<Ends, String> {
    let new = || Identity::generate().map_err(|error| error.to_string());
    let (near, far) = (new()?, new()?);
    let window_bytes = Windows::default().open().bytes();
    let (mut client, _) =
        quic::client(&near, far.public_key(), &Protocols::default(), window_bytes)?;
    client.transport_config(transport);
    let (server, _) = quic::server(&far, near.public_key(), &Protocols::default(), window_bytes)?;
    Ok(Ends { endpoint: quic::endpoint(), client, server })
}
