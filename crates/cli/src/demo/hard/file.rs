//! A file over the link: made up, sent, and compared.

use std::time::{Duration, Instant};

use bytes::Bytes;
use holepunch_worker::Link;

use crate::code::random;
use crate::exit::Failure;

/// So much is sent.
const FILE_BYTES: usize = 8 * 1024 * 1024;
/// In pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;
/// Without all of it by then the demo has failed.
const WITHIN: Duration = Duration::from_secs(20);

/// What was sent, and what has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    pub(super) took: Duration,
    /// BLAKE3 at both ends.
    pub(super) hashes: [String; 2],
}

impl Sent {
    pub(super) fn is_same(&self) -> bool {
        self.hashes[0] == self.hashes[1]
    }
}

/// Sends random bytes from the first end to the second.
pub(super) async fn send([from, to]: &[Link; 2]) -> Result<Sent, Failure> {
    let content = Bytes::from(random(FILE_BYTES)?);
    let sent_hash = blake3::hash(&content).to_hex().to_string();
    let began = Instant::now();
    let sending = async {
        let (mut send, _) = from.open_bi().await.map_err(Failure::failed)?;
        for at in (0..content.len()).step_by(PIECE_BYTES) {
            let piece = content.slice(at..(at + PIECE_BYTES).min(content.len()));
            send.write_chunk(piece).await.map_err(Failure::failed)?;
        }
        send.finish().map_err(Failure::failed)?;
        send.stopped().await.map_err(Failure::failed)?;
        Ok::<_, Failure>(())
    };
    let receiving = async {
        let (_, mut receive) = to.accept_bi().await.map_err(Failure::failed)?;
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        while let Some(piece) = receive.read_chunk(PIECE_BYTES).await.map_err(Failure::failed)? {
            bytes += piece.len();
            hasher.update(&piece);
        }
        Ok::<_, Failure>((bytes, hasher.finalize().to_hex().to_string(), began.elapsed()))
    };
    let both = async { tokio::try_join!(sending, receiving) };
    let ((), (bytes, received_hash, took)) = tokio::time::timeout(WITHIN, both)
        .await
        .map_err(|_| Failure::failed(format!("the file has not arrived within {WITHIN:?}")))??;
    Ok(Sent { bytes, took, hashes: [sent_hash, received_hash] })
}
