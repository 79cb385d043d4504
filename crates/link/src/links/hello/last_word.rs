//! What this side says last on the first stream, until the peer has it.
//!
//! A connection that is closed at once takes what has not left yet with it, and the peer, which has shown its proof, would
//! take that for a wrong guess. So a close that may overtake the proof carries it.

use std::sync::{Arc, Mutex, PoisonError};

use super::proof::PROOF_BYTES;
use crate::link::{Close, CloseCode};

/// This side's proof, as long as the peer may not have it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastWord(Arc<Mutex<Option<[u8; PROOF_BYTES]>>>);

impl LastWord {
    /// A proof that has just been written, and the stream with it.
    pub(super) fn of(proof: [u8; PROOF_BYTES], send: &noq::SendStream) -> Self {
        let word = Self(Arc::new(Mutex::new(Some(proof))));
        let (own, stopped) = (word.clone(), send.stopped());
        // It ends with the connection.
        tokio::spawn(async move {
            if matches!(stopped.await, Ok(None)) {
                own.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
        word
    }

    /// Closes the connection, with what the peer may not have.
    pub(crate) fn close(&self, connection: &noq::Connection, close: &Close) {
        let word = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match word {
            Some(word) => connection.close(CloseCode::Proved.into(), &close.behind_proof(&word)),
            None => connection.close(close.code.into(), close.reason.as_bytes()),
        }
    }
}
