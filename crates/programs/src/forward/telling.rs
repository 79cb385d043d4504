//! What is told of single connections, beside the counts.

use std::fmt;

use serde::Serialize;

use super::target::Target;

/// Who wanted a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// A program on this side, which the peer was asked to connect.
    ThisSide,
    /// The peer, which this side was asked to connect.
    Peer,
}

/// A connection that did not come about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotMade {
    /// Who wanted it.
    pub asked_by: Asker,
    /// Where it was to lead; `None` where nobody has said so.
    pub target: Option<Target>,
    /// Why, in words that may be shown.
    pub reason: String,
}

/// Who is told of each connection that did not come about.
pub struct Listener(Box<dyn Fn(NotMade) + Send + Sync>);

impl Listener {
    /// Told from whatever task it happens in: it must not wait.
    pub fn new(listener: impl Fn(NotMade) + Send + Sync + 'static) -> Self {
        Self(Box::new(listener))
    }

    pub(super) fn tell(&self, asked_by: Asker, target: Option<&Target>, reason: &str) {
        (self.0)(NotMade { asked_by, target: target.cloned(), reason: reason.to_owned() });
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
