//! Takes what the sender says, one message after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BufMut;
use holepunch_link::RecvStream;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::super::error::TransferError;
use super::super::summary::Phase;
use super::super::wire::{self, FromSender};
use super::deciding::same_size;
use super::folder::Folder;
use super::ledger::{Asked, Ledger};
use super::list::add_folders;
use super::writing::Command;
use super::{join, protocol};
use crate::ending::silence;

/// Takes what the sender says.
pub(super) struct Taking<'a> {
    ledger: &'a Arc<Ledger>,
    commands: mpsc::Sender<Command>,
    current: Option<Current>,
}

/// The file that the sender is at.
#[derive(Debug, Clone, Copy)]
struct Current {
    index: u32,
    /// Bytes that may still come.
    left: u64,
}

impl<'a> Taking<'a> {
    pub(super) fn new(ledger: &'a Arc<Ledger>, commands: mpsc::Sender<Command>) -> Self {
        Self { ledger, commands, current: None }
    }

    /// Until the sender has finished, and everything is on the disk.
    pub(super) async fn run(
        mut self,
        recv: &mut BufReader<RecvStream>,
        threads: &mut Vec<JoinHandle<()>>,
        folder: Folder,
    ) -> Result<(), TransferError> {
        let ledger = self.ledger;
        let tell = |text: &str| ledger.progress.waits(text);
        let what =
            "everything that was asked for is here; waiting for the sender to say that this is all";
        let silent = silence(what, &tell, || ledger.is_all_here().then_some(()));
        tokio::select! {
            biased;
            taken = self.take(recv) => taken?,
            silent = silent => return Err(silent.into()),
        }
        self.finish(threads, folder).await
    }

    /// Until the sender has finished.
    async fn take(&mut self, recv: &mut BufReader<RecvStream>) -> Result<(), TransferError> {
        let mut json = Vec::new();
        while wire::read_json(recv, &mut json).await? {
            if self.message(FromSender::parse(&json)?, recv).await? {
                return Ok(());
            }
        }
        Err(TransferError::Ended)
    }

    /// Everything has come: it is brought to the disk before the sender hears of it.
    async fn finish(
        self,
        threads: &mut Vec<JoinHandle<()>>,
        folder: Folder,
    ) -> Result<(), TransferError> {
        let Self { ledger, commands, .. } = self;
        ledger.progress.is_at(Phase::Disk);
        drop(commands);
        join(threads).await?;
        let open = ledger.open_files();
        if open > 0 {
            return Err(protocol(format!("it has finished, but {open} files have not come")));
        }
        let synced = Arc::clone(ledger);
        let syncing = spawn_blocking(move || sync_folders(&synced, folder));
        syncing.await.map_err(|error| TransferError::Thread(error.to_string()))?;
        ledger.finished();
        Ok(())
    }

    /// Takes one message; whether it is the last.
    async fn message(
        &mut self,
        message: FromSender,
        recv: &mut BufReader<RecvStream>,
    ) -> Result<bool, TransferError> {
        match message {
            FromSender::File { index, from } => self.begin(index, from).await?,
            FromSender::Data { bytes } => self.data(bytes, recv).await?,
            FromSender::End { hash } => {
                self.current.take().ok_or_else(|| protocol("the end of no file"))?;
                self.command(Command::End(hash)).await?;
            }
            FromSender::Failed { index, reason } => self.failed(index, &reason).await?,
            FromSender::Have { index, hash } => {
                let unasked =
                    || protocol(format!("a hash of file {index}, which nobody asked for"));
                self.ledger.has(index, hash).ok_or_else(unasked)?;
            }
            FromSender::Same { index } => {
                self.compared(index)?;
                self.ledger.same(index);
            }
            FromSender::Differs { index } => {
                self.compared(index)?;
                self.ledger.failed(index, same_size());
            }
            FromSender::Finished {} if self.current.is_none() => return Ok(true),
            FromSender::Finished {} => return Err(protocol("it has finished within a file")),
            FromSender::Entries(_) | FromSender::Listed { .. } => {
                return Err(protocol("a list after the list"));
            }
            FromSender::Known {} => return Err(protocol("it knows of an end that has not come")),
        }
        Ok(false)
    }

    async fn begin(&mut self, index: u32, from: u64) -> Result<(), TransferError> {
        let asked = self.asked(index)?;
        let size = self.ledger.file(index).map_or(0, |(_, file)| file.size);
        let there = asked.partial.as_ref().map_or(0, |partial| partial.length);
        if self.current.is_some() || (from != 0 && from != there) {
            return Err(protocol(format!(
                "file {index} from {from}, {there} bytes of it are there"
            )));
        }
        self.current = Some(Current { index, left: size - from });
        self.command(Command::Begin { index, asked, from }).await
    }

    async fn data(
        &mut self,
        bytes: u32,
        recv: &mut BufReader<RecvStream>,
    ) -> Result<(), TransferError> {
        let current = self.current.as_mut().ok_or_else(|| protocol("content of no file"))?;
        let left = current.left.checked_sub(bytes.into());
        current.left = left.ok_or_else(|| protocol("a file is longer than its list says"))?;
        let index = current.index;
        let mut piece = Vec::with_capacity(bytes as usize);
        // On a slow line a piece takes seconds, and what has come of it is told.
        while piece.len() < bytes as usize {
            let rest = bytes as usize - piece.len();
            let read = recv.read_buf(&mut (&mut piece).limit(rest)).await?;
            if read == 0 {
                return Err(TransferError::Ended);
            }
            self.ledger.received(index, read as u64);
        }
        self.command(Command::Data(piece)).await
    }

    async fn failed(&mut self, index: u32, reason: &str) -> Result<(), TransferError> {
        let told = format!("at the sender: {reason}");
        if self.ledger.has_failed(index, &told) {
            return Ok(());
        }
        if self.current.take_if(|current| current.index == index).is_some() {
            self.command(Command::Leave).await?;
        } else {
            self.asked(index)?;
        }
        self.ledger.failed(index, &told);
        Ok(())
    }

    fn asked(&self, index: u32) -> Result<Asked, TransferError> {
        let unasked = || protocol(format!("file {index}, which was not asked for"));
        self.ledger.begin(index).ok_or_else(unasked)
    }

    fn compared(&self, index: u32) -> Result<(), TransferError> {
        match self.asked(index)? {
            Asked { compared: true, .. } => Ok(()),
            Asked { .. } => Err(protocol(format!("file {index} is not here to compare with"))),
        }
    }

    async fn command(&self, command: Command) -> Result<(), TransferError> {
        let ended = |_| TransferError::Thread("it writes no more".to_owned());
        self.commands.send(command).await.map_err(ended)
    }
}

/// Brings the names to the disk: those of every file, and of every folder that leads there.
fn sync_folders(ledger: &Ledger, mut folder: Folder) {
    let mut folders = BTreeSet::from([""]);
    for item in ledger.items.iter().flatten() {
        add_folders(&mut folders, item.path.folder());
    }
    for path in folders {
        // A name that is lost with the power leaves its unfinished file, which the next run finds.
        if let Ok(Some(open)) = folder.find(path) {
            let _when_it_cannot = rustix::fs::fsync(&*open);
        }
    }
}
