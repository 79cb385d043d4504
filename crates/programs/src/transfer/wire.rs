//! What the two sides of a transfer say, each message as JSON behind its length.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::error::TransferError;
use super::summary::Totals;
use crate::messages::MESSAGE_BYTES_MAX;
use holepunch_wire::text::{exact, truncate};

/// The version of everything in here.
pub const VERSION: u32 = 1;
/// What stands in the greeting of a sender that understands [`FromReceiver::Received`], and of a receiver that says it.
pub const REPORTS: &str = "received";
/// What stands in the greeting of a sender that understands [`FromReceiver::Asking`].
pub const ASKS: &str = "asks";
/// What stands in the greeting of a side that knows [`Answer::Compare`] and [`FromSender::Have`].
pub const PROVES: &str = "proves";
/// Most bytes of a file in one piece: large enough that what is said beside it does not count.
pub const PIECE_BYTES_MAX: usize = 1024 * 1024;
/// Files that one transfer lists. Both sides hold the list in memory: at these three bounds in some 550 MB. What is
/// larger goes as an archive.
pub const FILES_MAX: usize = 1_000_000;
/// Folders of one transfer: those that it lists, and those that paths lead through, which the receiver makes as well. A path
/// of 255 bytes may lead through 127 that no other one has.
pub const FOLDERS_MAX: usize = 1_000_000;
/// Bytes of all paths: see [`FILES_MAX`].
pub const PATHS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Largest file: what a file's length and offset are on the systems this runs on.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// Entries, answers or results of one message; each has at most [`REASON_BYTES_MAX`] of text, so that
/// the message stays within [`MESSAGE_BYTES_MAX`].
pub const BATCH_MAX: usize = 256;
/// Longest reason that is told to the peer, in bytes.
pub const REASON_BYTES_MAX: usize = 300;
/// Of what could not be offered, so many are told by their names, each with at most [`REASON_BYTES_MAX`] of name
/// and of reason: half a message.
pub const UNOFFERED_TOLD_MAX: usize = 100;
const NANOSECONDS: u32 = 1_000_000_000;

/// Whether a list holds more than a transfer may, with so many bytes of paths.
pub(super) fn is_too_much(totals: Totals, path_bytes: usize) -> bool {
    totals.files > FILES_MAX as u64
        || totals.folders > FOLDERS_MAX as u64
        || path_bytes > PATHS_BYTES_MAX
}

/// Something that is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it belongs, below the receiver's folder. Not checked yet: see
    /// [`RelativePath`](super::RelativePath).
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A folder.
    Folder {},
    /// A regular file.
    File(FileEntry),
}

/// A file as its sender lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its length in bytes.
    pub size: u64,
    /// Whether its owner may execute it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// Who may do what with it at the sender: the nine bits of its mode. The first senders do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<u32>,
    /// When it was last modified.
    pub modified: Modified,
}

impl FileEntry {
    /// What anybody may do with the file at the receiver, where the umask grants as much.
    #[must_use]
    pub fn granted(&self) -> u32 {
        let usual = if self.executable { 0o777 } else { 0o666 };
        self.rights.map_or(usual, |rights| rights & usual)
    }
}

/// A time: seconds since 1970, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modified(pub i64, pub u32);

/// A BLAKE3 hash; hexadecimal in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        blake3::Hash::from_bytes(hash.0).to_hex().to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hash = blake3::Hash::from_hex(text);
        hash.map(Self::from).map_err(|_| "a hash that is not 64 hexadecimal digits")
    }
}

/// What the sender says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromSender {
    /// More of the list.
    Entries(Vec<Entry>),
    /// The list is complete.
    Listed {
        /// Its entries.
        entries: u32,
        /// The bytes of its files.
        bytes: u64,
        /// What the sender could not offer. Unknown to the first receivers, which leave it out.
        #[serde(default, skip_serializing_if = "Unoffered::is_empty")]
        unoffered: Unoffered,
    },
    /// A file begins.
    File {
        /// Its place in the list.
        index: u32,
        /// The first byte that follows; all before it are with the receiver.
        from: u64,
    },
    /// So many bytes of it follow this message.
    Data {
        /// How many: 1 to [`PIECE_BYTES_MAX`].
        bytes: u32,
    },
    /// The file is complete.
    End {
        /// That of the whole file.
        hash: Hash,
    },
    /// What the sender has, where the receiver compares.
    Have {
        /// Its place in the list.
        index: u32,
        /// That of as many bytes as were asked about.
        hash: Hash,
    },
    /// The receiver has this file already.
    Same {
        /// Its place in the list.
        index: u32,
    },
    /// The receiver has another file of this name and size, and does not want it replaced.
    Differs {
        /// Its place in the list.
        index: u32,
    },
    /// This file cannot be sent, or not to its end.
    Failed {
        /// Its place in the list.
        index: u32,
        /// Why.
        reason: String,
    },
    /// Everything that was asked for has been sent.
    Finished {},
    /// The sender knows that the receiver has finished. Only for a receiver that has `confirms` in its greeting.
    Known {},
}

/// What a sender could not offer: no such file, a name that breaks a rule, a folder that cannot be listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unoffered {
    /// How much.
    pub count: u32,
    /// The first of it, each with the reason: at most [`UNOFFERED_TOLD_MAX`].
    #[serde(default)]
    pub first: Vec<(String, String)>,
}

impl Unoffered {
    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What the receiver wants of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// That depends on what the first `length` bytes of it are: another answer follows once the sender has named their
    /// hash. The sender is first, since whoever hears the hash of a file that is here can try in private what is in it.
    Compare {
        /// Bytes that are there.
        length: u64,
    },
    /// All of it.
    Whole {},
    /// What follows the first `length` bytes, if these have this hash; else all of it.
    From {
        /// Bytes that are there.
        length: u64,
        /// Theirs.
        hash: Hash,
    },
    /// Nothing, if the file has this hash; else all of it, or nothing.
    Unless {
        /// That of the file that is there, which has the size of the one that is offered.
        hash: Hash,
        /// Whether a different one is wanted all the same.
        replace: bool,
    },
    /// Nothing: it is a folder, and there.
    There {},
    /// Nothing.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What the receiver says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromReceiver {
    /// Somebody is asked there whether the list is wanted. Only for a sender that has [`ASKS`] in its greeting.
    Asking {},
    /// What it wants, by the places in the list.
    Answers(Vec<(u32, Answer)>),
    /// What became of files that were sent: why one failed, or nothing where it is there.
    Results(Vec<(u32, Option<String>)>),
    /// How many bytes of files have come. Only for a sender that has [`REPORTS`] in its greeting.
    Received {
        /// Of all files together, on this link.
        bytes: u64,
    },
    /// Every file that was sent has its result.
    Finished {},
}

/// A message that breaks a rule beyond its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is not the JSON that was expected.
    #[error("a message that is not understood: {0}")]
    Malformed(String),
    /// Too many entries, answers or results in one.
    #[error("a message of {0} entries, expected at most {BATCH_MAX}")]
    Batch(usize),
    /// A piece of a file is empty or too long.
    #[error("a piece of {0} bytes, expected 1 to {PIECE_BYTES_MAX}")]
    Piece(u32),
    /// A time that is none.
    #[error("a time with {0} nanoseconds, expected less than {NANOSECONDS}")]
    Time(u32),
}

impl FromSender {
    /// Reads one message.
    ///
    /// # Errors
    /// It is malformed, or breaks a bound.
    pub fn parse(json: &[u8]) -> Result<Self, WireError> {
        let message: Self = from_json(json)?;
        match &message {
            Self::Entries(entries) if entries.len() > BATCH_MAX => {
                Err(WireError::Batch(entries.len()))
            }
            Self::Entries(entries) => {
                entries.iter().try_for_each(Entry::check)?;
                Ok(message)
            }
            Self::Listed { unoffered, .. }
                if unoffered.first.len() > UNOFFERED_TOLD_MAX.min(unoffered.count as usize) =>
            {
                Err(WireError::Batch(unoffered.first.len()))
            }
            Self::Data { bytes } if *bytes == 0 || *bytes > PIECE_BYTES_MAX as u32 => {
                Err(WireError::Piece(*bytes))
            }
            Self::Data { .. }
            | Self::Listed { .. }
            | Self::File { .. }
            | Self::End { .. }
            | Self::Have { .. }
            | Self::Same { .. }
            | Self::Differs { .. }
            | Self::Failed { .. }
            | Self::Finished {}
            | Self::Known {} => Ok(message),
        }
    }
}

impl FromReceiver {
    /// Reads one message.
    ///
    /// # Errors
    /// It is malformed, or breaks a bound.
    pub fn parse(json: &[u8]) -> Result<Self, WireError> {
        let message: Self = from_json(json)?;
        let length = match &message {
            Self::Answers(answers) => answers.len(),
            Self::Results(results) => results.len(),
            Self::Asking {} | Self::Received { .. } | Self::Finished {} => 0,
        };
        if length > BATCH_MAX { Err(WireError::Batch(length)) } else { Ok(message) }
    }
}

impl Entry {
    fn check(&self) -> Result<(), WireError> {
        match &self.kind {
            EntryKind::File(file) if file.modified.1 >= NANOSECONDS => {
                Err(WireError::Time(file.modified.1))
            }
            EntryKind::File(_) | EntryKind::Folder {} => Ok(()),
        }
    }
}

fn from_json<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(json).map_err(|error| WireError::Malformed(error.to_string()))
}

/// Appends a message and its length.
pub fn encode(message: &impl Serialize, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&[0; 4]);
    // Writing plain structs into memory has nothing that can fail.
    let _infallible = serde_json::to_writer(&mut *to, message);
    let length = to.len() - start - 4;
    debug_assert!(length <= MESSAGE_BYTES_MAX);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    to[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Reads the JSON of one message into `json`; `false` where the stream ends before it.
pub(super) async fn read_json(
    stream: &mut (impl AsyncRead + Unpin),
    json: &mut Vec<u8>,
) -> Result<bool, TransferError> {
    let mut length = [0; 4];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(false);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(TransferError::TooLong(length));
    }
    json.resize(length, 0);
    stream.read_exact(json).await?;
    Ok(true)
}

/// A reason as it is told to the peer: of a bounded length, on one line, and as this side shows it.
#[must_use]
pub fn told(reason: &str) -> String {
    let mut told = exact(reason, REASON_BYTES_MAX);
    truncate(&mut told, REASON_BYTES_MAX);
    told
}
