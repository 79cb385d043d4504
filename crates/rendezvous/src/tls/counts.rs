//! What is counted of TLS.

use crate::metrics::ByWord;

/// What becomes of a client where the server speaks TLS.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handshake {
    Done,
    Failed,
    Refused,
    Plain,
}

/// How the files were read again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reload {
    Done,
    Failed,
}

/// How often each has happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TlsCounts {
    /// The files were read again.
    pub reloads: u64,
    /// They were no good, and what there was before stayed.
    pub reload_failures: u64,
    /// A client has shaken hands.
    pub handshakes: u64,
    /// A client and this server did not agree, or the client left.
    pub handshake_failures: u64,
    /// A client came when its address had shaken hands too often.
    pub handshakes_refused: u64,
    /// A client spoke HTTP without TLS.
    pub plain_requests: u64,
}

/// The same as counters.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) handshakes: ByWord,
    pub(crate) reloads: ByWord,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            handshakes: ByWord::new("outcome", ["done", "failed", "refused", "plain"]),
            reloads: ByWord::new("outcome", ["done", "failed"]),
        }
    }
}

impl Figures {
    pub(super) fn handshake(&self, outcome: Handshake) {
        self.handshakes.add(outcome as usize, 1);
    }

    pub(super) fn reload(&self, outcome: Reload) {
        self.reloads.add(outcome as usize, 1);
    }

    pub(super) fn counts(&self) -> TlsCounts {
        let handshakes = |outcome| self.handshakes.counts().nth(outcome as usize).unwrap_or(0);
        let reloads = |outcome| self.reloads.counts().nth(outcome as usize).unwrap_or(0);
        TlsCounts {
            reloads: reloads(Reload::Done),
            reload_failures: reloads(Reload::Failed),
            handshakes: handshakes(Handshake::Done),
            handshake_failures: handshakes(Handshake::Failed),
            handshakes_refused: handshakes(Handshake::Refused),
            plain_requests: handshakes(Handshake::Plain),
        }
    }
}
