//! The thread that looks at what is there, and says what is wanted of each entry.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::super::error::{amount, explain};
use super::super::name::RelativePath;
use super::super::wire::{Answer, FILE_BYTES_MAX, FileEntry, PIECE_BYTES_MAX};
use super::folder::{Folder, Standing, open_existing, open_partial, standing};
use super::ledger::{Asked, Ledger, Partial};

/// Unfinished files that are held open at once, between the offer of what they have and its use. Of
/// further ones the beginning is sent again; an interrupted transfer leaves a few at most.
const PARTIALS_OPEN_MAX: usize = 64;

/// Why a name that begins with a dot is refused.
const HIDDEN: &str = "its name begins with a dot, and programs may act on it: receive with --hidden to take such files";

/// Decides on every entry, in the order of the list.
pub(super) struct Deciding {
    pub(super) ledger: Arc<Ledger>,
    pub(super) folder: Folder,
    pub(super) force: bool,
    pub(super) hidden: bool,
    /// Whether the sender says first what it has. One that does not is told of nothing that is here.
    pub(super) proves: bool,
    /// Bytes that may be written, where that is known, less what is asked for.
    pub(super) free_bytes: Option<u64>,
    pub(super) partials: usize,
}

/// What is wanted of a file, or why nothing.
type Decision = Result<(Asked, Answer), String>;

impl Deciding {
    pub(super) fn run(mut self) {
        let ledger = Arc::clone(&self.ledger);
        let mut seen = BTreeSet::new();
        for (index, item) in (0_u32..).zip(&ledger.items) {
            if ledger.is_cancelled() {
                return;
            }
            let item = match item {
                Ok(item) => item,
                Err((_, reason)) => {
                    ledger.refuse(index, reason);
                    continue;
                }
            };
            if !seen.insert(item.path.as_str()) {
                ledger.refuse(index, "the list has this name twice");
                continue;
            }
            if item.path.is_hidden() && !self.hidden {
                ledger.refuse(index, HIDDEN);
                continue;
            }
            let decision = match &item.file {
                Some(file) => self.file(&item.path, file).map(Some),
                None => self.make(&item.path).map(|()| None),
            };
            match decision {
                Ok(Some((asked, answer @ (Answer::From { .. } | Answer::Unless { .. })))) => {
                    ledger.compare(index, asked, answer);
                }
                Ok(Some((asked, answer))) => ledger.ask(index, asked, answer),
                Ok(None) => ledger.there(index),
                Err(reason) => ledger.refuse(index, &reason),
            }
        }
        ledger.decided();
    }

    fn make(&mut self, path: &RelativePath) -> Result<(), String> {
        let made = self.folder.make(path.as_str());
        made.map(|_| ()).map_err(|error| explain("the folder cannot be made", &error))
    }

    fn file(&mut self, path: &RelativePath, file: &FileEntry) -> Decision {
        if file.size > FILE_BYTES_MAX {
            return Err(format!("{} bytes are more than a file can have", file.size));
        }
        let folder = self.folder.find(path.folder());
        let folder = folder.map_err(|error| explain("its folder cannot be opened", &error))?;
        let whole = |replace| (Asked { partial: None, replace, compared: false }, Answer::Whole {});
        let Some(at) = folder else { return self.fits(whole(false), file, 0) };
        let unclear = |error: io::Error| explain("what stands there cannot be seen", &error);
        let is_there = match standing(&at, path.name()).map_err(unclear)? {
            Standing::Nothing => false,
            Standing::File(size) if size == file.size && !self.proves => {
                if !self.force {
                    return Err(unproved().to_owned());
                }
                true
            }
            Standing::File(size) if size == file.size => {
                let opened = open_existing(&at, path.name());
                let opened = opened.map_err(|error| explain("cannot be compared", &error))?;
                let hash = self.hash(path, opened, size)?.1.finalize().into();
                let asked = Asked { partial: None, replace: self.force, compared: true };
                return Ok((asked, Answer::Unless { hash, replace: self.force }));
            }
            Standing::File(_) if self.force => true,
            Standing::File(_) => return Err(other_size().to_owned()),
            Standing::Folder => return Err("a folder of this name stands there".to_owned()),
            Standing::Link => {
                return Err("a symbolic link stands there, and is not followed".to_owned());
            }
            Standing::Other => return Err("something that is no file stands there".to_owned()),
        };
        let partial = path.partial_name();
        let length = match standing(&at, &partial).map_err(unclear)? {
            Standing::File(length) if length > 0 && length <= file.size => length,
            Standing::Nothing
            | Standing::File(_)
            | Standing::Folder
            | Standing::Link
            | Standing::Other => 0,
        };
        if length == 0 || !self.proves || self.partials == PARTIALS_OPEN_MAX {
            return self.fits(whole(is_there), file, 0);
        }
        self.partials += 1;
        let opened = open_partial(&at, &partial, false);
        let opened = opened.map_err(|error| explain("its unfinished file", &error))?;
        let (opened, hasher) = self.hash(path, opened, length)?;
        let answer = Answer::From { length, hash: hasher.finalize().into() };
        let partial = Some(Partial { file: opened, length, hasher: Box::new(hasher) });
        let asked = Asked { partial, replace: is_there, compared: false };
        self.fits((asked, answer), file, length)
    }

    /// Whether what is missing of a file has room beside what was asked for before. That it does not is
    /// better said now than after the better part of it has crossed the link.
    fn fits(&mut self, wanted: (Asked, Answer), file: &FileEntry, there: u64) -> Decision {
        let missing = file.size - there;
        if let Some(free) = &mut self.free_bytes {
            let left = free.checked_sub(missing).ok_or_else(|| {
                let (missing, free) = (amount(missing), amount(*free));
                format!(
                    "no space is left on the disk for it: it needs {missing}, and {free} are free"
                )
            })?;
            *free = left;
        }
        Ok(wanted)
    }

    /// Hashes the first `length` bytes.
    fn hash(
        &self,
        path: &RelativePath,
        mut opened: File,
        length: u64,
    ) -> Result<(File, blake3::Hasher), String> {
        self.ledger.progress.checking(path.as_str(), length);
        let unreadable = |error: io::Error| explain("what is there cannot be read", &error);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        let mut left = length;
        while left > 0 {
            if self.ledger.is_cancelled() {
                return Err("interrupted".to_owned());
            }
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = opened.read(&mut buffer[..wanted]).map_err(unreadable)?;
            if read == 0 {
                return Err("what is there has become shorter while it was read".to_owned());
            }
            hasher.update(&buffer[..read]);
            left -= read as u64;
        }
        Ok((opened, hasher))
    }
}

/// Why a file is refused that the sender has compared.
pub(super) fn same_size() -> &'static str {
    "another file of this name and size is there: move it, or receive with --force"
}

fn unproved() -> &'static str {
    "a file of this name and size is there, and the sender is too old to prove that it has the same: update it, move \
     the file, or receive with --force"
}

/// The reason is told to the sender, whom the size of what is there does not concern.
fn other_size() -> &'static str {
    "another file of this name is there, of another size: move it, or receive with --force"
}
