//! Why a transfer as a whole ends, and how errors of one file are told.

use std::io;

use holepunch_link::LinkError;
use rustix::io::Errno;

use super::name::shown;
use super::wire::WireError;
use crate::agree::AgreeError;
use crate::ending::Silent;
use crate::messages::MESSAGE_BYTES_MAX;

/// Why a transfer has ended before its end. What is complete stays, and what is not goes on in the next
/// run.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The two do not run the two parts of a transfer.
    #[error(transparent)]
    Agree(#[from] AgreeError),
    /// Both have the same part.
    #[error(
        "the peer runs `holepunch {own}`, as this side does: one of the two needs `holepunch {other}`"
    )]
    SamePart {
        /// That of both.
        own: &'static str,
        /// That which one of them should have.
        other: &'static str,
    },
    /// The link has ended.
    #[error(
        "the link has ended before the transfer: {0}; run both commands again to go on from here (a code is a \
         new one then)"
    )]
    Link(#[from] LinkError),
    /// The link has ended after everything was written, and nobody knows whether the sender knows that.
    #[error(
        "everything is here, but the sender may not know it: the link ended before it could say so: {0}; both \
         commands, run again, find everything in its place"
    )]
    Unconfirmed(LinkError),
    /// The peer is there, and does not say its last word.
    #[error("{0}; both commands, run again, find what is in its place, and go on from there")]
    Silent(#[from] Silent),
    /// The peer has ended its stream.
    #[error(
        "the peer has ended the transfer before its end; run both commands again to go on from here (a code is a \
         new one then)"
    )]
    Ended,
    /// A message is longer than any may be.
    #[error("the peer sent a message of {0} bytes, expected at most {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    /// A message is not understood.
    #[error("the peer sent {0}")]
    Wire(#[from] WireError),
    /// A message came where another was expected.
    #[error("the peer does not keep to the protocol of a transfer: {0}")]
    Protocol(String),
    /// The list is larger than a transfer may be.
    #[error("{0}")]
    TooMuch(String),
    /// The receiver's folder cannot be used.
    #[error("{0}")]
    Folder(String),
    /// Whoever was asked on this side does not want it.
    #[error("declined: nothing was taken")]
    Declined,
    /// Whoever was asked on the other side does not want it.
    #[error("the other side does not want it: nothing was sent")]
    Unwanted,
    /// A thread of this process has failed.
    #[error("a thread of the transfer has failed: {0}")]
    Thread(String),
}

impl From<io::Error> for TransferError {
    fn from(error: io::Error) -> Self {
        let link = error.get_ref().and_then(|inner| inner.downcast_ref::<LinkError>());
        match link {
            Some(link) => Self::Link(link.clone()),
            None => Self::Ended,
        }
    }
}

impl From<holepunch_link::WriteError> for TransferError {
    fn from(error: holepunch_link::WriteError) -> Self {
        io::Error::from(error).into()
    }
}

/// An error of the system in words: what did not work, why, and what helps where that is known.
pub(super) fn explain(what: &str, error: &io::Error) -> String {
    let why = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => {
            "no space is left on the disk: free some, and run both commands again"
        }
        Some(Errno::DQUOT) => "the disk quota is used up",
        Some(Errno::ACCESS | Errno::PERM) => "permission denied",
        Some(Errno::ROFS) => "the file system is read-only",
        Some(Errno::LOOP) => "a symbolic link stands in the way, and is not followed",
        Some(Errno::NOTDIR) => "a file stands where a folder is needed",
        Some(Errno::ISDIR) => "a folder stands where a file is needed",
        Some(Errno::EXIST) => "something of this name is there already",
        Some(Errno::NAMETOOLONG) => "the name is too long for this file system",
        Some(Errno::FBIG) => "the file is too large for this file system, or for `ulimit -f`",
        Some(Errno::MFILE | Errno::NFILE) => "too many files are open",
        Some(Errno::IO) => "the disk reports an error",
        _ => return format!("{what}: {}", shown(&error.to_string())),
    };
    format!("{what}: {why}")
}

/// Bytes, as people read them.
pub(super) fn amount(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = bytes.ilog2() / 10;
    let unit = usize::try_from(power).ok().and_then(|power| UNITS.get(power - 1));
    let hundredths = (u128::from(bytes) * 100) >> (10 * power);
    format!("{}.{:02} {}", hundredths / 100, hundredths % 100, unit.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_suits_them() {
        for (bytes, told) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_048_575, "1023.99 KiB"),
            (5_368_709_120, "5.00 GiB"),
            (u64::MAX, "15.99 EiB"),
        ] {
            assert_eq!(amount(bytes), told);
        }
    }
}
