//! A few frames there and back: whether a relay carries both ways, and how long that takes.

use std::time::{Duration, Instant};

use holepunch_wire::relay::RelayFrame;
use tokio_tungstenite::tungstenite::Bytes;

use super::link::RelayedPair;
use super::round_trips::{echo, receive, send};

/// A datagram of QUIC's usual length, in bytes.
const DATAGRAM_BYTES: usize = 1200;

/// What has gone through a relay, and come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    /// Bytes of datagrams, each way.
    pub(crate) bytes: usize,
    /// The shortest round trip of a frame.
    pub(crate) round_trip: Duration,
}

impl RelayedPair {
    /// Sends frames of so many datagrams from the first worker to the second and back, one after the other.
    ///
    /// # Errors
    /// In words: a connection has ended, or something else has come back.
    pub(crate) async fn carry(
        &mut self,
        frames: usize,
        datagrams: usize,
    ) -> Result<Carried, String> {
        let [first, second] = &mut self.relay;
        let mut frame = RelayFrame::default();
        for _ in 0..datagrams {
            if !frame.push(&[0x5a; DATAGRAM_BYTES]) {
                return Err(format!("{datagrams} datagrams do not fit into a frame"));
            }
        }
        let frame = Bytes::from(frame.into_bytes());
        let mut round_trip = Duration::MAX;
        let carrying = async {
            for _ in 0..frames {
                let sent = Instant::now();
                send(first, frame.clone()).await?;
                // What does not fit together may come in parts.
                let mut back = 0;
                while back < frame.len() {
                    back += receive(first).await?.len();
                }
                round_trip = round_trip.min(sent.elapsed());
            }
            Ok::<_, String>(())
        };
        tokio::select! {
            done = carrying => done?,
            failed = echo(second) => failed?,
        }
        Ok(Carried { bytes: frames * datagrams * DATAGRAM_BYTES, round_trip })
    }
}
