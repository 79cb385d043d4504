//! The thread that reads what is to be sent. What it makes is what crosses the link, so that a thousand
//! small files cost as few writes as one large one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::progress::Progress;
use super::super::wire::{Answer, FileEntry, FromSender, Hash, PIECE_BYTES_MAX, encode, told};
use super::listing::{Listed, Listing};
use super::opened::Opened;
use super::states::States;

/// A piece of a file that is shorter is copied behind what is said about it; a longer one goes on its
/// own, without a copy.
const COPIED_BYTES_MAX: usize = 64 * 1024;

/// Beginnings of files that were hashed for a receiver that has them, and need not be read again when it wants the rest:
/// as many as a receiver takes up unfinished files in one run, at some 2 KB each.
const BEGUN_MAX: usize = 64;

/// What crosses the link next.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// How many of them are the content of files.
    pub(super) of_files: u64,
}

/// Why a file is not sent to its end.
enum Stop {
    /// Something of this file's; the others go on.
    File(String),
    /// Nobody takes pieces any more.
    Ended,
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::File(reason)
    }
}

/// The beginning of a file, as it was read.
#[derive(Debug)]
pub(super) struct Begun {
    length: u64,
    hasher: blake3::Hasher,
}

/// A file of the list that the receiver has answered to.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    index: u32,
    listed: &'a Listed,
    file: &'a FileEntry,
}

pub(super) struct Reading {
    pub(super) listing: Arc<Listing>,
    pub(super) states: Arc<States>,
    pub(super) progress: Arc<Progress>,
    pub(super) answers: mpsc::UnboundedReceiver<(u32, Answer)>,
    pub(super) pieces: mpsc::Sender<Piece>,
    /// What the receiver was told that this side has of whole files, and has not answered yet.
    pub(super) had: BTreeMap<u32, Hash>,
    /// The same of beginnings: at most [`BEGUN_MAX`].
    pub(super) begun: BTreeMap<u32, Begun>,
    /// Said, and not sent yet.
    pub(super) pending: Vec<u8>,
    pub(super) pending_of_files: u64,
    /// Whether a piece of a file was sent.
    pub(super) has_begun: bool,
}

/// The first piece of all: what the first packets of a link hold, beside what is around it.
const FIRST_PIECE_BYTES: usize = 8 * 1024;

impl Reading {
    /// Reads what each answer asks for, until every entry has had its answer, or nobody listens.
    pub(super) fn run(mut self) {
        let mut left = self.listing.entries.len();
        while left > 0 {
            let Some((index, answer)) = self.next_answer() else { return };
            // Another one follows it.
            left -= usize::from(!matches!(answer, Answer::Compare { .. }));
            match self.follow(index, answer) {
                Ok(()) => {}
                Err(Stop::File(reason)) => self.failed(index, &reason),
                Err(Stop::Ended) => return,
            }
        }
        encode(&FromSender::Finished {}, &mut self.pending);
        let _when_nobody_listens = self.flush();
    }

    /// What is pending goes out before this waits.
    fn next_answer(&mut self) -> Option<(u32, Answer)> {
        if let Ok(answer) = self.answers.try_recv() {
            return Some(answer);
        }
        self.flush().ok()?;
        self.answers.blocking_recv()
    }

    fn follow(&mut self, index: u32, answer: Answer) -> Result<(), Stop> {
        let listing = Arc::clone(&self.listing);
        let Some(listed) = listing.entries.get(index as usize) else { return Ok(()) };
        let Some(file) = listed.file() else { return Ok(()) };
        let wanted = Wanted { index, listed, file };
        // Whatever is wanted now, nobody asks about it again.
        let (had, begun) = (self.had.remove(&index), self.begun.remove(&index));
        match answer {
            Answer::There {} | Answer::Refused { .. } => Ok(()),
            Answer::Compare { length } => self.compare(wanted, length),
            Answer::Whole {} => {
                let opened = Opened::new(listed, file)?;
                self.content(wanted, opened, blake3::Hasher::new(), 0)
            }
            Answer::From { length, hash } => {
                let (mut opened, hasher) = match begun {
                    Some(begun) if begun.length == length => {
                        let mut opened = Opened::new(listed, file)?;
                        opened.go_to(length)?;
                        (opened, begun.hasher)
                    }
                    _ => self.read_to(wanted, length)?,
                };
                if Hash::from(hasher.finalize()) == hash {
                    self.progress.resumed(index, &listed.entry.path, length);
                    return self.content(wanted, opened, hasher, length);
                }
                opened.go_to(0)?;
                self.content(wanted, opened, blake3::Hasher::new(), 0)
            }
            Answer::Unless { hash, .. } if had == Some(hash) => {
                let mut opened = Opened::new(listed, file)?;
                opened.go_to(file.size)?;
                self.same(wanted, &mut opened)
            }
            Answer::Unless { hash, replace } => {
                let (mut opened, hasher) = self.read_to(wanted, file.size)?;
                if Hash::from(hasher.finalize()) == hash {
                    self.same(wanted, &mut opened)
                } else if replace {
                    opened.go_to(0)?;
                    self.content(wanted, opened, blake3::Hasher::new(), 0)
                } else {
                    self.say(&FromSender::Differs { index })
                }
            }
        }
    }

    /// The receiver asks what the first `length` bytes are.
    fn compare(&mut self, wanted: Wanted<'_>, length: u64) -> Result<(), Stop> {
        let Wanted { index, file, .. } = wanted;
        let (_, hasher) = self.read_to(wanted, length)?;
        let hash = hasher.finalize().into();
        if length == file.size {
            self.had.insert(index, hash);
        } else if self.begun.len() < BEGUN_MAX {
            self.begun.insert(index, Begun { length, hasher });
        }
        self.say(&FromSender::Have { index, hash })
    }

    /// The receiver has this file, which is open at its end.
    fn same(&mut self, wanted: Wanted<'_>, opened: &mut Opened) -> Result<(), Stop> {
        self.look_at_end(wanted, opened)?;
        let Wanted { index, listed, file } = wanted;
        if self.states.settle(index) {
            self.progress.already_there(&listed.entry.path, file.size);
        }
        self.say(&FromSender::Same { index })
    }

    /// What was written to a file since it was listed is not sent, and whoever sends it is told so.
    fn look_at_end(&self, wanted: Wanted<'_>, opened: &mut Opened) -> Result<(), Stop> {
        let Wanted { listed, file, .. } = wanted;
        if let Some(now) = opened.end(file)? {
            let before = file.size;
            let warning = format!(
                "has grown since it was listed ({before} bytes then, {now} now): its first {before} bytes are sent; send it \
                 again if it was written anew"
            );
            self.progress.warned(&listed.entry.path, &warning);
        }
        Ok(())
    }

    /// Opens a file and hashes its first `length` bytes.
    fn read_to(
        &mut self,
        wanted: Wanted<'_>,
        length: u64,
    ) -> Result<(Opened, blake3::Hasher), Stop> {
        let Wanted { listed, file, .. } = wanted;
        self.progress.checking(&listed.entry.path, length);
        // It may take long, and what is pending is wanted by the receiver.
        self.flush()?;
        let mut opened = Opened::new(listed, file)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = length;
        let mut buffer = Vec::with_capacity(PIECE_BYTES_MAX);
        while left > 0 {
            if self.pieces.is_closed() {
                return Err(Stop::Ended);
            }
            opened.read_piece(&mut buffer, left)?;
            hasher.update(&buffer);
            left -= buffer.len() as u64;
        }
        Ok((opened, hasher))
    }

    /// Sends a file from where it stands.
    fn content(
        &mut self,
        wanted: Wanted<'_>,
        mut opened: Opened,
        mut hasher: blake3::Hasher,
        from: u64,
    ) -> Result<(), Stop> {
        let Wanted { index, file, .. } = wanted;
        self.say(&FromSender::File { index, from })?;
        let mut left = file.size - from;
        while left > 0 {
            if self.states.is_done(index) {
                return Err(Stop::File("the receiver wants no more of it".to_owned()));
            }
            // The receiver writes whole pieces. On a link that has just begun, a large one takes many round trips.
            let most = if self.has_begun { PIECE_BYTES_MAX } else { FIRST_PIECE_BYTES };
            self.has_begun = true;
            let next = left.min(most as u64);
            let mut piece = Vec::with_capacity(to_usize(next));
            opened.read_piece(&mut piece, next)?;
            hasher.update(&piece);
            left -= piece.len() as u64;
            self.progress.spent(index, &wanted.listed.entry.path, piece.len() as u64);
            self.piece(piece)?;
        }
        self.look_at_end(wanted, &mut opened)?;
        self.say(&FromSender::End { hash: hasher.finalize().into() })
    }

    fn piece(&mut self, piece: Vec<u8>) -> Result<(), Stop> {
        // A piece has at most PIECE_BYTES_MAX bytes.
        let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        self.say(&FromSender::Data { bytes })?;
        if piece.len() <= COPIED_BYTES_MAX {
            self.pending.extend_from_slice(&piece);
            self.pending_of_files += u64::from(bytes);
            return Ok(());
        }
        self.flush()?;
        self.give(Piece { bytes: piece.into(), of_files: u64::from(bytes) })
    }

    fn failed(&mut self, index: u32, reason: &str) {
        if self.states.settle(index)
            && let Some(listed) = self.listing.entries.get(index as usize)
        {
            let size = listed.file().map_or(0, |file| file.size);
            self.progress.entry_failed(index, size, &listed.entry.path, reason);
        }
        let message = FromSender::Failed { index, reason: told(reason) };
        let _when_nobody_listens = self.say(&message);
    }

    fn say(&mut self, message: &FromSender) -> Result<(), Stop> {
        if self.pending.len() >= PIECE_BYTES_MAX {
            self.flush()?;
        }
        encode(message, &mut self.pending);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.pending).into();
        let of_files = std::mem::take(&mut self.pending_of_files);
        self.give(Piece { bytes, of_files })
    }

    fn give(&mut self, piece: Piece) -> Result<(), Stop> {
        self.pieces.blocking_send(piece).map_err(|_| Stop::Ended)
    }
}

fn to_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
