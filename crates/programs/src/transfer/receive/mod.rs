//! The receiver's side.

mod deciding;
mod finishing;
mod folder;
mod ledger;
mod list;
mod telling;
mod writing;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use holepunch_link::{Link, RecvStream};
use rustix::fs::Access;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::error::{TransferError, explain};
use super::progress::Progress;
use super::summary::Summary;
use super::wire::{self, FromSender};
use super::{Part, closing, meet};
use deciding::{Deciding, same_size};
use finishing::Finishing;
use folder::Folder;
use ledger::{Asked, Ledger};
use writing::{Command, Writing};

/// Pieces that have come and wait to be written: enough that the link and the disk work at the same
/// time. A sender that is faster than the disk is held back by its window.
const COMMANDS_QUEUED_MAX: usize = 4;

/// How to receive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// Replace files that are there and differ.
    pub force: bool,
}

/// Receives what the peer sends, into a folder, which is made where there is none. Where it fails as a
/// whole, it closes the link, so that the peer learns why.
///
/// # Errors
/// The folder cannot be used, or the peer does not send, does not keep to the protocol, or is gone.
/// Failures of single files are in the summary.
pub async fn receive(
    link: &Link,
    into: &Path,
    options: ReceiveOptions,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    closing(link, run(link, into, options, progress).await)
}

fn unusable(into: &Path, error: &io::Error) -> TransferError {
    TransferError::Folder(explain(&format!("the folder {}", into.display()), error))
}

/// Whether a folder is there, or may be made there: what is known without a peer, and without making it.
///
/// # Errors
/// Something else is in its place, or this user may not write there.
pub fn check_folder(into: &Path) -> Result<(), TransferError> {
    for path in into.ancestors() {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() && path == into => return Ok(()),
            // It would be made in here.
            Ok(found) if found.is_dir() => {
                let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
                let may = rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
                return may.map_err(|error| unusable(into, &error.into()));
            }
            Ok(_) => return Err(unusable(into, &Errno::NOTDIR.into())),
            // What is above it decides.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(unusable(into, &error)),
        }
    }
    Ok(())
}

async fn run(
    link: &Link,
    into: &Path,
    options: ReceiveOptions,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    let folder = Folder::open(into).map_err(|error| unusable(into, &error))?;
    let (mut send, mut recv) = meet(link, Part::Receive).await?;
    let (items, totals, unoffered) = list::read(&mut recv).await?;
    for (path, reason) in &unoffered.first {
        progress.failed(path, &format!("at the sender: {reason}"));
    }
    progress.others_failed(u64::from(unoffered.count) - unoffered.first.len() as u64);
    progress.listed(totals);
    // Without a bound: an answer and a result for each entry of the list, which is bounded.
    let (told, telling) = mpsc::unbounded_channel();
    let ledger = Arc::new(Ledger::new(items, progress, told));
    let _until_the_end = CancelOnDrop(Arc::clone(&ledger));
    let (commands, threads) = start(&ledger, &folder, options);
    let mut threads = threads;
    let taking = Taking { ledger: &ledger, commands, current: None };
    let outcome = tokio::try_join!(
        taking.run(&mut recv, &mut threads, folder),
        telling::tell(&mut send, telling)
    );
    ledger.cancel();
    join(&mut threads).await?;
    outcome?;
    Ok(progress.summary())
}

/// The threads look at this between two pieces.
struct CancelOnDrop(Arc<Ledger>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn start(
    ledger: &Arc<Ledger>,
    folder: &Folder,
    options: ReceiveOptions,
) -> (mpsc::Sender<Command>, Vec<JoinHandle<()>>) {
    let (commands, to_write) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (finishing, written) = std::sync::mpsc::sync_channel(finishing::WAITING_MAX);
    let deciding = Deciding {
        ledger: Arc::clone(ledger),
        folder: folder.clone(),
        force: options.force,
        free_bytes: folder.free_bytes(),
        partials: 0,
    };
    let writing = Writing {
        ledger: Arc::clone(ledger),
        folder: folder.clone(),
        commands: to_write,
        finishing,
    };
    let finishing = Arc::new(Finishing {
        ledger: Arc::clone(ledger),
        written: Mutex::new(written),
        ours: Mutex::new(BTreeSet::new()),
    });
    let mut threads = vec![spawn_blocking(|| deciding.run()), spawn_blocking(|| writing.run())];
    for _ in 0..finishing::THREADS {
        let finishing = Arc::clone(&finishing);
        threads.push(spawn_blocking(move || finishing.run()));
    }
    (commands, threads)
}

/// Waits for every thread; none is forgotten where the wait is broken off.
async fn join(threads: &mut Vec<JoinHandle<()>>) -> Result<(), TransferError> {
    while let Some(thread) = threads.last_mut() {
        let ended = thread.await;
        threads.pop();
        ended.map_err(|error| TransferError::Thread(error.to_string()))?;
    }
    Ok(())
}

/// Takes what the sender says.
struct Taking<'a> {
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

impl Taking<'_> {
    async fn run(
        mut self,
        recv: &mut BufReader<RecvStream>,
        threads: &mut Vec<JoinHandle<()>>,
        folder: Folder,
    ) -> Result<(), TransferError> {
        let mut json = Vec::new();
        while wire::read_json(recv, &mut json).await? {
            if self.message(FromSender::parse(&json)?, recv).await? {
                return self.finish(threads, folder).await;
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
        let mut piece = vec![0; bytes as usize];
        recv.read_exact(&mut piece).await?;
        let index = current.index;
        self.ledger.progress.transferred(bytes.into());
        self.ledger.progress.spent(index, bytes.into());
        self.command(Command::Data(piece)).await
    }

    async fn failed(&mut self, index: u32, reason: &str) -> Result<(), TransferError> {
        if self.current.take_if(|current| current.index == index).is_some() {
            self.command(Command::Leave).await?;
        } else {
            self.asked(index)?;
        }
        self.ledger.failed(index, &format!("at the sender: {reason}"));
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

fn protocol(why: impl Into<String>) -> TransferError {
    TransferError::Protocol(why.into())
}

/// Brings the names to the disk: those of every file, and of every folder that leads there.
fn sync_folders(ledger: &Ledger, mut folder: Folder) {
    let mut folders = BTreeSet::from([""]);
    for item in ledger.items.iter().flatten() {
        let mut path = item.path.folder();
        while folders.insert(path) {
            path = path.rsplit_once('/').map_or("", |(outer, _)| outer);
        }
    }
    for path in folders {
        // A name that is lost with the power leaves its unfinished file, which the next run finds.
        if let Ok(Some(open)) = folder.find(path) {
            let _when_it_cannot = rustix::fs::fsync(&*open);
        }
    }
}
