//! What became of each entry: counted, and told to the sender, exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::super::name::RelativePath;
use super::super::progress::Progress;
use super::super::wire::{Answer, FileEntry, Hash, told};
use super::deciding::same_size;

/// An entry of the list that may be written.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) path: RelativePath,
    /// `None` for a folder.
    pub(super) file: Option<FileEntry>,
}

/// What was asked of the sender for one file.
#[derive(Debug)]
pub(super) struct Asked {
    /// What an earlier transfer has left: opened, locked and hashed.
    pub(super) partial: Option<Partial>,
    /// Whether a file that stands there may be replaced.
    pub(super) replace: bool,
    /// Whether the sender is to compare first.
    pub(super) compared: bool,
}

/// The beginning of a file, from an earlier transfer.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) hasher: Box<blake3::Hasher>,
}

/// What is told to the sender next.
#[derive(Debug)]
pub(super) enum Told {
    Answer(u32, Answer),
    Result(u32, Option<String>),
    Finished,
}

/// Shared by the threads of a receiver.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) items: Vec<Result<Item, (String, String)>>,
    pub(super) progress: Arc<Progress>,
    /// Asked for, and the sender has not begun with it.
    asked: Mutex<BTreeMap<u32, Asked>>,
    /// What is here, and what is asked of a sender that proves to have the same.
    compared: Mutex<BTreeMap<u32, (Asked, Answer)>>,
    /// Files that have had their answer and not their result.
    open: Mutex<BTreeSet<u32>>,
    told: mpsc::UnboundedSender<Told>,
    /// Bytes of files that have come.
    received: AtomicU64,
    /// Every entry has had its answer.
    decided: AtomicBool,
    cancelled: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub(super) fn new(
        items: Vec<Result<Item, (String, String)>>,
        progress: &Arc<Progress>,
        told: mpsc::UnboundedSender<Told>,
    ) -> Self {
        Self {
            items,
            progress: Arc::clone(progress),
            asked: Mutex::default(),
            compared: Mutex::default(),
            open: Mutex::default(),
            told,
            received: AtomicU64::new(0),
            decided: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    /// An entry that may be written, by its place.
    pub(super) fn item(&self, index: u32) -> Option<&Item> {
        self.items.get(index as usize)?.as_ref().ok()
    }

    /// The path and what is known of a file.
    pub(super) fn file(&self, index: u32) -> Option<(&RelativePath, &FileEntry)> {
        let item = self.item(index)?;
        Some((&item.path, item.file.as_ref()?))
    }

    fn size(&self, index: u32) -> u64 {
        self.file(index).map_or(0, |(_, file)| file.size)
    }

    fn shown(&self, index: u32) -> &str {
        match self.items.get(index as usize) {
            Some(Ok(item)) => item.path.as_str(),
            Some(Err((path, _))) => path,
            None => "",
        }
    }

    /// Asks for a file.
    pub(super) fn ask(&self, index: u32, asked: Asked, answer: Answer) {
        // Before the sender can know of it.
        lock(&self.asked).insert(index, asked);
        lock(&self.open).insert(index);
        self.tell(Told::Answer(index, answer));
    }

    /// Asks what the sender has, before it learns what is here.
    pub(super) fn compare(&self, index: u32, asked: Asked, answer: Answer) {
        let length =
            if let Answer::From { length, .. } = &answer { *length } else { self.size(index) };
        lock(&self.compared).insert(index, (asked, answer));
        lock(&self.open).insert(index);
        self.tell(Told::Answer(index, Answer::Compare { length }));
    }

    /// The sender says what it has; `None` where nobody has asked.
    pub(super) fn has(&self, index: u32, theirs: Hash) -> Option<()> {
        let (asked, answer) = lock(&self.compared).remove(&index)?;
        let (Answer::From { hash, .. } | Answer::Unless { hash, .. }) = &answer else {
            return None;
        };
        if *hash == theirs {
            self.ask(index, asked, answer);
        } else if asked.compared && !asked.replace {
            self.close(index);
            self.refuse(index, same_size());
        } else {
            let asked = Asked { partial: None, compared: false, ..asked };
            self.ask(index, asked, Answer::Whole {});
        }
        Some(())
    }

    /// The sender cannot say what it has; `false` where nobody has asked.
    pub(super) fn has_failed(&self, index: u32, reason: &str) -> bool {
        let was_asked = lock(&self.compared).remove(&index).is_some();
        if was_asked {
            self.close(index);
            self.refuse(index, reason);
        }
        was_asked
    }

    /// The folder is there.
    pub(super) fn there(&self, index: u32) {
        self.tell(Told::Answer(index, Answer::There {}));
    }

    /// Asks for nothing of an entry.
    pub(super) fn refuse(&self, index: u32, reason: &str) {
        self.progress.entry_failed(index, self.size(index), self.shown(index), reason);
        self.tell(Told::Answer(index, Answer::Refused { reason: told(reason) }));
    }

    /// So many bytes of a file have come.
    pub(super) fn received(&self, index: u32, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.progress.transferred(bytes);
        self.progress.spent(index, self.shown(index), bytes);
    }

    /// Bytes of files that have come.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The sender begins with a file: what was asked; `None` where nothing was, or it has begun before.
    pub(super) fn begin(&self, index: u32) -> Option<Asked> {
        lock(&self.asked).remove(&index)
    }

    fn close(&self, index: u32) -> bool {
        lock(&self.open).remove(&index)
    }

    /// The file has its name.
    pub(super) fn completed(&self, index: u32) {
        if self.close(index) {
            self.progress.completed(index, self.shown(index));
            self.tell(Told::Result(index, None));
        }
    }

    /// The file was there.
    pub(super) fn same(&self, index: u32) {
        if self.close(index) {
            self.progress.already_there(self.shown(index), self.size(index));
            self.tell(Told::Result(index, None));
        }
    }

    /// The file has failed. What happens to it afterwards is not counted again.
    pub(super) fn failed(&self, index: u32, reason: &str) {
        if self.close(index) {
            self.progress.entry_failed(index, self.size(index), self.shown(index), reason);
            self.tell(Told::Result(index, Some(told(reason))));
        }
    }

    /// Files without a result.
    pub(super) fn open_files(&self) -> usize {
        lock(&self.open).len()
    }

    /// Every entry has had its answer.
    pub(super) fn decided(&self) {
        self.decided.store(true, Ordering::Release);
    }

    /// Whether the sender owes nothing but its last word.
    pub(super) fn is_all_here(&self) -> bool {
        self.decided.load(Ordering::Acquire) && self.open_files() == 0
    }

    /// Everything has its result.
    pub(super) fn finished(&self) {
        self.tell(Told::Finished);
    }

    fn tell(&self, told: Told) {
        // Where nobody tells any more, the link is gone.
        let _when_ended = self.told.send(told);
    }

    /// Asks the threads to end at the next piece.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}
