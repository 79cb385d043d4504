//! The thread that writes what comes, and hashes it on the way.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::mpsc;

use super::super::error::explain;
use super::super::wire::Hash;
use super::finishing::Written;
use super::folder::{Folder, folder_of, open_partial, remove};
use super::ledger::{Asked, Ledger, Partial};

/// What happens to the file of the moment.
#[derive(Debug)]
pub(super) enum Command {
    Begin {
        index: u32,
        asked: Asked,
        from: u64,
    },
    Data(Vec<u8>),
    End(Hash),
    /// It goes no further: what is there is kept.
    Leave,
}

pub(super) struct Writing {
    pub(super) ledger: Arc<Ledger>,
    pub(super) folder: Folder,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) finishing: SyncSender<Written>,
}

/// The file that is being written.
struct Current {
    index: u32,
    file: File,
    at: Arc<OwnedFd>,
    partial: String,
    hasher: Box<blake3::Hasher>,
    length: u64,
    replace: bool,
}

impl Writing {
    /// Until nobody gives commands any more. A file that is not complete by then is left as it is.
    pub(super) fn run(mut self) {
        let mut current: Option<Current> = None;
        while let Some(command) = self.commands.blocking_recv() {
            match command {
                Command::Begin { index, asked, from } => {
                    current = self.begin(index, asked, from);
                }
                Command::Data(piece) => {
                    current = current.and_then(|it| self.write(it, &piece));
                }
                Command::End(hash) => {
                    if let Some(current) = current.take() {
                        self.end(current, hash);
                    }
                }
                Command::Leave => {
                    current.take().inspect(forget_if_empty);
                }
            }
        }
        current.inspect(forget_if_empty);
    }

    fn begin(&mut self, index: u32, asked: Asked, from: u64) -> Option<Current> {
        match self.open(index, asked, from) {
            Ok(current) => Some(current),
            Err(reason) => {
                self.ledger.failed(index, &reason);
                None
            }
        }
    }

    fn open(&mut self, index: u32, asked: Asked, from: u64) -> Result<Current, String> {
        let unknown = || "the list has no such file".to_owned();
        let (path, _) = self.ledger.file(index).ok_or_else(unknown)?;
        let at = folder_of(&mut self.folder, path);
        let at = at.map_err(|error| explain("its folder cannot be made", &error))?;
        let partial = path.partial_name();
        let cannot = |error: io::Error| explain("cannot be written", &error);
        let (mut file, hasher) = match asked.partial {
            Some(Partial { file, length, hasher }) if length == from => (file, hasher),
            Some(Partial { file, .. }) => (file, Box::default()),
            None => {
                let opened = open_partial(&at, &partial, true);
                (opened.map_err(cannot)?, Box::default())
            }
        };
        file.set_len(from).map_err(cannot)?;
        file.seek(SeekFrom::Start(from)).map_err(cannot)?;
        if from > 0 {
            self.ledger.progress.resumed(index, path.as_str(), from);
        }
        let replace = asked.replace;
        Ok(Current { index, file, at, partial, hasher, length: from, replace })
    }

    fn write(&self, mut current: Current, piece: &[u8]) -> Option<Current> {
        if let Err(error) = current.file.write_all(piece) {
            self.ledger.failed(current.index, &explain("cannot be written", &error));
            forget_if_empty(&current);
            return None;
        }
        current.hasher.update(piece);
        current.length += piece.len() as u64;
        Some(current)
    }

    fn end(&self, current: Current, hash: Hash) {
        let Some((path, entry)) = self.ledger.file(current.index) else { return };
        if current.length != entry.size {
            let (came, size) = (current.length, entry.size);
            let reason = format!("expected {size} bytes, came {came}: send it again");
            self.ledger.failed(current.index, &reason);
            return;
        }
        if Hash::from(current.hasher.finalize()) != hash {
            // Nobody knows which part is wrong.
            remove(&current.at, &current.partial);
            let reason = "what came has not the hash that the sender names: it was removed, send it \
                          again";
            self.ledger.failed(current.index, reason);
            return;
        }
        let written = Written {
            index: current.index,
            file: current.file,
            at: current.at,
            partial: current.partial,
            name: path.name().to_owned(),
            granted: entry.granted(),
            modified: entry.modified,
            replace: current.replace,
        };
        if self.finishing.send(written).is_err() {
            self.ledger.failed(current.index, "the threads that finish files have ended");
        }
    }
}

/// An unfinished file without content is of no use to the next transfer.
fn forget_if_empty(current: &Current) {
    if current.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        remove(&current.at, &current.partial);
    }
}
