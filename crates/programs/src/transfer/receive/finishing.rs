//! The threads that bring written files to the disk, and give them their names. Several at once, since
//! a file system brings many files to the disk in about the time that one takes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, Timespec, Timestamps};

use super::super::error::explain;
use super::super::wire::Modified;
use super::folder::{FileId, id_of, name_instead, name_new};
use super::ledger::Ledger;

/// Files that are brought to the disk at once.
pub(super) const THREADS: usize = 8;
/// Files that wait for it; each holds two descriptors.
pub(super) const WAITING_MAX: usize = 64;

/// A file that is complete but for its name.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) index: u32,
    pub(super) file: File,
    pub(super) at: Arc<OwnedFd>,
    pub(super) partial: String,
    pub(super) name: String,
    /// What anybody may do with it, before the umask.
    pub(super) granted: u32,
    pub(super) modified: Modified,
    pub(super) replace: bool,
}

/// Shared by the threads.
pub(super) struct Finishing {
    pub(super) ledger: Arc<Ledger>,
    pub(super) written: Mutex<Receiver<Written>>,
    /// What the umask lets anybody do with a new file.
    pub(super) umask_grants: u32,
    /// Files that have got their names in this transfer.
    pub(super) ours: Mutex<BTreeSet<FileId>>,
}

impl Finishing {
    /// Until nobody writes any more.
    pub(super) fn run(&self) {
        loop {
            let next = self.written.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(written) = next else { return };
            match self.finish(&written) {
                Ok(()) => self.ledger.completed(written.index),
                Err(reason) => self.ledger.failed(written.index, &reason),
            }
        }
    }

    fn finish(&self, written: &Written) -> Result<(), String> {
        let outcome = attributes(written, self.umask_grants)
            .map_err(|error| explain("its attributes", &error));
        outcome?;
        // Before the name: a file under its name is whole, even after the power has failed.
        let synced = written.file.sync_all();
        synced.map_err(|error| explain("cannot be brought to the disk", &error))?;
        let unnamed = |error: io::Error| explain("is complete, but cannot get its name", &error);
        let stat = rustix::fs::fstat(&written.file).map_err(|error| unnamed(error.into()))?;
        // Held for the whole step: two names that the file system takes for one are named in turn.
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        let Written { at, partial, name, .. } = written;
        let named = if written.replace {
            name_instead(at, partial, name, |id| ours.contains(&id))
        } else {
            name_new(at, partial, name)
        };
        named.map_err(unnamed)?;
        ours.insert(id_of(&stat));
        Ok(())
    }
}

fn attributes(written: &Written, umask_grants: u32) -> io::Result<()> {
    let mode = rustix::fs::fstat(&written.file)?.st_mode & 0o777;
    let wanted = written.granted & umask_grants;
    if wanted != mode {
        rustix::fs::fchmod(&written.file, Mode::from_raw_mode(wanted))?;
    }
    let Modified(seconds, nanoseconds) = written.modified;
    let modified = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: modified, last_modification: modified };
    Ok(rustix::fs::futimens(&written.file, &times)?)
}
