//! A stream that is given up, rather than ended, when nobody says that it is complete.

use std::ops::{Deref, DerefMut};

use holepunch_link::{SendStream, WriteError};

/// What a peer reads from a stream that was given up.
pub(crate) const CODE_RESET: u64 = 2;

/// A [`SendStream`] that is reset when it is dropped before its end. A program that is interrupted must
/// not look like one that has sent everything.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: SendStream,
    is_finished: bool,
}

impl Sending {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, is_finished: false }
    }

    /// Says that nothing more follows.
    pub(crate) fn finish(&mut self) -> Result<(), WriteError> {
        self.is_finished = true;
        self.stream.finish()
    }
}

impl Deref for Sending {
    type Target = SendStream;

    fn deref(&self) -> &SendStream {
        &self.stream
    }
}

impl DerefMut for Sending {
    fn deref_mut(&mut self) -> &mut SendStream {
        &mut self.stream
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_finished {
            self.stream.reset(CODE_RESET);
        }
    }
}
