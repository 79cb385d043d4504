//! The receiver's side.

mod deciding;
mod finishing;
mod folder;
mod incoming;
mod knowing;
mod ledger;
mod list;
mod taking;
mod telling;
mod writing;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use holepunch_link::Link;
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::error::{TransferError, explain};
use super::progress::Progress;
use super::summary::{Phase, Summary};
use super::wire::{self, FromReceiver};
use super::{Met, Part, closing, meet};
use crate::size_limit::outlive_the_size_limit;
use deciding::Deciding;
use finishing::Finishing;
use folder::Folder;
pub use incoming::{Answer, Ask, Incoming, Top};
use ledger::Ledger;
use taking::Taking;
use telling::Telling;
use writing::{Command, Writing};

/// Pieces that have come and wait to be written: enough that the link and the disk work at the same
/// time. A sender that is faster than the disk is held back by its window.
const COMMANDS_QUEUED_MAX: usize = 4;

/// How to receive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// Replace files that are there and differ.
    pub force: bool,
    /// Take what would be hidden: names that begin with a dot.
    pub hidden: bool,
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
    receive_asking(link, &into.to_owned(), options, progress).await
}

/// The same where somebody is asked, once the sender has listed what it has: nothing is made or written before.
///
/// # Errors
/// Likewise, and where the answer is that nothing is to come.
pub async fn receive_asking(
    link: &Link,
    ask: &dyn Ask,
    options: ReceiveOptions,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    closing(link, run(link, ask, options, progress).await).await
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
            Ok(found) if found.is_dir() && path == into => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::open(path, flags, Mode::empty());
                let probed = opened.map_err(Into::into).and_then(|it| folder::probe(&it));
                return probed.map(|_| ()).map_err(|error| unusable(into, &error));
            }
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
    ask: &dyn Ask,
    options: ReceiveOptions,
    progress: &Arc<Progress>,
) -> Result<Summary, TransferError> {
    outlive_the_size_limit();
    let Met { mut send, mut recv, reports, confirms, proves, asks } =
        meet(link, Part::Receive).await?;
    let (items, totals, unoffered) = list::read(&mut recv).await?;
    let incoming = Incoming::of(&items, totals);
    let mut answer = ask.ask(&incoming);
    let at_once = tokio::select! {
        biased;
        answer = &mut answer => Some(answer),
        () = std::future::ready(()) => None,
    };
    let answer = match at_once {
        Some(answer) => answer,
        None => {
            progress.is_at(Phase::Asking);
            if asks {
                let mut message = Vec::new();
                wire::encode(&FromReceiver::Asking {}, &mut message);
                send.write_chunk(message.into()).await?;
            }
            // A person may take their time, and is not to answer for a peer that has gone.
            tokio::select! {
                answer = answer => answer,
                ended = link.closed() => return Err(ended.into()),
            }
        }
    };
    progress.answered();
    let Answer::Into(into) = answer else { return Err(TransferError::Declined) };
    let folder = Folder::open(&into).map_err(|error| unusable(&into, &error))?;
    for (path, reason) in &unoffered.first {
        progress.failed(path, &format!("at the sender: {reason}"));
    }
    progress.others_failed(u64::from(unoffered.count) - unoffered.first.len() as u64);
    progress.named(incoming.names());
    progress.listed(totals);
    // Without a bound: an answer and a result for each entry of the list, which is bounded.
    let (told, telling) = mpsc::unbounded_channel();
    let ledger = Arc::new(Ledger::new(items, progress, told));
    let _until_the_end = CancelOnDrop(Arc::clone(&ledger));
    let (commands, threads) = start(&ledger, &folder, options, proves);
    let mut threads = threads;
    let taking = Taking::new(&ledger, commands);
    let telling = Telling { told: telling, ledger: &ledger, reports };
    let outcome =
        tokio::try_join!(taking.run(&mut recv, &mut threads, folder), telling.run(&mut send));
    ledger.cancel();
    join(&mut threads).await?;
    outcome?;
    knowing::until_known(link, (&mut send, &mut recv), confirms, progress).await?;
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
    proves: bool,
) -> (mpsc::Sender<Command>, Vec<JoinHandle<()>>) {
    let (commands, to_write) = mpsc::channel(COMMANDS_QUEUED_MAX);
    let (finishing, written) = std::sync::mpsc::sync_channel(finishing::WAITING_MAX);
    let deciding = Deciding {
        ledger: Arc::clone(ledger),
        folder: folder.clone(),
        force: options.force,
        hidden: options.hidden,
        proves,
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
        umask_grants: folder.umask_grants,
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

fn protocol(why: impl Into<String>) -> TransferError {
    TransferError::Protocol(why.into())
}
