//! The thread that reads what is to be sent. What it makes is what crosses the link, so that a thousand
//! small files cost as few writes as one large one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;

use super::super::error::explain;
use super::super::progress::Progress;
use super::super::wire::{Answer, FileEntry, FromSender, Hash, PIECE_BYTES_MAX, encode, told};
use super::listing::{Listed, Listing, file_entry};
use super::states::States;

/// A piece of a file that is shorter is copied behind what is said about it; a longer one goes on its
/// own, without a copy.
const COPIED_BYTES_MAX: usize = 64 * 1024;

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

pub(super) struct Reading {
    pub(super) listing: Arc<Listing>,
    pub(super) states: Arc<States>,
    pub(super) progress: Arc<Progress>,
    pub(super) answers: mpsc::UnboundedReceiver<(u32, Answer)>,
    pub(super) pieces: mpsc::Sender<Piece>,
    /// What the receiver was told that this side has of whole files, and has not answered yet.
    pub(super) had: BTreeMap<u32, Hash>,
    /// Said, and not sent yet.
    pub(super) pending: Vec<u8>,
    pub(super) pending_of_files: u64,
}

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
        match answer {
            Answer::There {} | Answer::Refused { .. } => Ok(()),
            Answer::Compare { length } => {
                let (_, hasher) = self.read_to(listed, file, length)?;
                let hash = hasher.finalize().into();
                if length == file.size {
                    self.had.insert(index, hash);
                }
                self.say(&FromSender::Have { index, hash })
            }
            Answer::Whole {} => {
                let opened = open(listed, file)?;
                self.content(index, opened, file, blake3::Hasher::new(), 0)
            }
            Answer::From { length, hash } => {
                let (opened, hasher) = self.read_to(listed, file, length)?;
                if Hash::from(hasher.finalize()) == hash {
                    self.progress.resumed(index, &listed.entry.path, length);
                    return self.content(index, opened, file, hasher, length);
                }
                self.content(index, rewound(opened)?, file, blake3::Hasher::new(), 0)
            }
            Answer::Unless { hash, .. } if self.had.remove(&index) == Some(hash) => {
                let mut opened = open(listed, file)?;
                let end = opened.seek(SeekFrom::Start(file.size));
                end.map_err(|error| failed("cannot be read", &error))?;
                self.same(index, listed, file, &mut opened)
            }
            Answer::Unless { hash, replace } => {
                let (mut opened, hasher) = self.read_to(listed, file, file.size)?;
                if Hash::from(hasher.finalize()) == hash {
                    self.same(index, listed, file, &mut opened)
                } else if replace {
                    self.content(index, rewound(opened)?, file, blake3::Hasher::new(), 0)
                } else {
                    self.say(&FromSender::Differs { index })
                }
            }
        }
    }

    /// The receiver has this file, which is open at its end.
    fn same(
        &mut self,
        index: u32,
        listed: &Listed,
        file: &FileEntry,
        opened: &mut File,
    ) -> Result<(), Stop> {
        is_at_its_end(opened, file)?;
        if self.states.settle(index) {
            self.progress.already_there(&listed.entry.path, file.size);
        }
        self.say(&FromSender::Same { index })
    }

    /// Opens a file and hashes its first `length` bytes.
    fn read_to(
        &mut self,
        listed: &Listed,
        file: &FileEntry,
        length: u64,
    ) -> Result<(File, blake3::Hasher), Stop> {
        self.progress.checking(&listed.entry.path, length);
        // It may take long, and what is pending is wanted by the receiver.
        self.flush()?;
        let mut opened = open(listed, file)?;
        let mut hasher = blake3::Hasher::new();
        let mut left = length;
        let mut buffer = Vec::with_capacity(PIECE_BYTES_MAX);
        while left > 0 {
            if self.pieces.is_closed() {
                return Err(Stop::Ended);
            }
            read_piece(&mut opened, &mut buffer, left)?;
            hasher.update(&buffer);
            left -= buffer.len() as u64;
        }
        Ok((opened, hasher))
    }

    /// Sends a file from where it stands.
    fn content(
        &mut self,
        index: u32,
        mut opened: File,
        file: &FileEntry,
        mut hasher: blake3::Hasher,
        from: u64,
    ) -> Result<(), Stop> {
        self.say(&FromSender::File { index, from })?;
        let mut left = file.size - from;
        while left > 0 {
            if self.states.is_done(index) {
                return Err(Stop::File("the receiver wants no more of it".to_owned()));
            }
            let mut piece = Vec::with_capacity(PIECE_BYTES_MAX.min(to_usize(left)));
            read_piece(&mut opened, &mut piece, left)?;
            hasher.update(&piece);
            left -= piece.len() as u64;
            self.progress.spent(index, piece.len() as u64);
            self.piece(piece)?;
        }
        is_at_its_end(&mut opened, file)?;
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

fn failed(what: &str, error: &io::Error) -> Stop {
    Stop::File(explain(what, error))
}

/// Opens what was listed, and nothing that has come in its place since.
fn open(listed: &Listed, file: &FileEntry) -> Result<File, Stop> {
    // Without NONBLOCK, a pipe in the file's place would hold this up for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&listed.source, flags, Mode::empty());
    let opened = opened.map_err(|error| failed("cannot be opened", &error.into()))?;
    let opened = File::from(opened);
    let metadata = opened.metadata().map_err(|error| failed("cannot be looked at", &error))?;
    if !metadata.is_file() {
        return Err(Stop::File("is no regular file any more".to_owned()));
    }
    unchanged(&opened, file)?;
    Ok(opened)
}

/// A file that is written to while it is read has no content to speak of.
fn unchanged(opened: &File, file: &FileEntry) -> Result<(), Stop> {
    let metadata = opened.metadata().map_err(|error| failed("cannot be looked at", &error))?;
    let now = file_entry(&metadata);
    if now.size != file.size || now.modified != file.modified {
        let (before, now) = (file.size, now.size);
        return Err(Stop::File(format!(
            "has changed since it was listed ({before} bytes then, {now} now): send it again"
        )));
    }
    Ok(())
}

/// Nothing of the file was left unread. Some systems make content when it is read, and say before that there is none
/// (`/proc`, FUSE): to send such a file as empty would be to claim what nobody has seen.
fn is_at_its_end(opened: &mut File, file: &FileEntry) -> Result<(), Stop> {
    unchanged(opened, file)?;
    let more = opened.read(&mut [0; 1]).map_err(|error| failed("cannot be read", &error))?;
    if more > 0 {
        let size = file.size;
        return Err(Stop::File(format!(
            "has more content than the {size} bytes that its file system names: send a copy of it"
        )));
    }
    Ok(())
}

fn rewound(mut opened: File) -> Result<File, Stop> {
    opened.rewind().map_err(|error| failed("cannot be read from its beginning", &error))?;
    Ok(opened)
}

/// Fills `piece` with the next bytes: as many as a piece may have, or `left`.
fn read_piece(opened: &mut File, piece: &mut Vec<u8>, left: u64) -> Result<(), Stop> {
    piece.clear();
    let wanted = PIECE_BYTES_MAX.min(to_usize(left));
    let read = opened.take(wanted as u64).read_to_end(piece);
    let read = read.map_err(|error| failed("cannot be read", &error))?;
    if read < wanted {
        return Err(Stop::File("has become shorter while it was read: send it again".to_owned()));
    }
    Ok(())
}

fn to_usize(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
