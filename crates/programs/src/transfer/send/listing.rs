//! What a sender offers: its arguments, and what is in the folders among them.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::{TransferError, explain};
use super::super::name::{NameError, RelativePath, shown};
use super::super::summary::{Failure, Totals};
use super::super::wire::{
    Entry, EntryKind, FILES_MAX, FOLDERS_MAX, FileEntry, Modified, PATHS_BYTES_MAX,
    UNOFFERED_TOLD_MAX, Unoffered, is_too_much, told,
};
use super::opened::{FileId, open_regular};
use super::sizeless::{self, HELD_BYTES_MAX, HELD_IN_ALL_BYTES_MAX, Sizeless};

/// The bit that lets a file's owner execute it.
const OWNER_EXECUTES: u32 = 0o100;
/// The bits of a mode that say who may do what.
const RIGHTS: u32 = 0o777;

/// Everything that is offered, in the order in which it is sent.
#[derive(Debug, Default)]
pub struct Listing {
    pub(super) entries: Vec<Listed>,
    pub(super) totals: Totals,
    pub(super) skipped: Vec<Failure>,
    pub(super) failed: Vec<Failure>,
    /// What has failed, as the receiver is told: by its name there, not by its place here.
    pub(super) unoffered: Unoffered,
    /// Whether one of the arguments is among that.
    lacks_argument: bool,
    path_bytes: usize,
    /// Bytes of files that are held, since their systems name no size.
    held_bytes: usize,
}

/// One entry, and where it is on this machine.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) source: PathBuf,
    pub(super) entry: Entry,
    pub(super) content: Content,
}

/// Where the content of an entry is.
#[derive(Debug)]
pub(super) enum Content {
    /// A folder has none.
    Nothing,
    /// In this file.
    Of(FileId),
    /// Here, read when it was listed.
    Held(Arc<[u8]>),
}

impl Listed {
    /// The file's part of the entry; `None` for a folder.
    pub(super) fn file(&self) -> Option<&FileEntry> {
        match &self.entry.kind {
            EntryKind::File(file) => Some(file),
            EntryKind::Folder {} => None,
        }
    }
}

/// Something that is still to be looked at.
struct Found {
    source: PathBuf,
    path: String,
    is_argument: bool,
}

impl Listing {
    /// Lists files and folders. What cannot be read is a failure of its own; symbolic links and special
    /// files are left out of folders, and are failures as arguments.
    ///
    /// # Errors
    /// There is more than one transfer may hold.
    pub fn of(arguments: &[PathBuf]) -> Result<Self, TransferError> {
        let mut listing = Self::default();
        let mut names = BTreeSet::new();
        for source in arguments {
            let before = listing.failed.len();
            if let Some(path) = listing.name_of(source) {
                if names.insert(path.clone()) {
                    listing.walk(Found { source: source.clone(), path, is_argument: true })?;
                } else {
                    let reason = format!("another argument is named {path:?}, too");
                    listing.fails(source, &path, &reason);
                }
            }
            let own = shown(&source.to_string_lossy());
            listing.lacks_argument |= listing.failed[before..].iter().any(|it| it.path == own);
        }
        Ok(listing)
    }

    /// What is offered.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What cannot be offered, and why.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failed
    }

    /// Whether nothing that was named is missing as a whole: a file or a folder that is not there or cannot be read, or a name
    /// that breaks a rule. What is in a folder does not count.
    #[must_use]
    pub fn has_all_arguments(&self) -> bool {
        !self.lacks_argument
    }

    /// The name of an argument with the receiver: its last component, whatever led there.
    fn name_of(&mut self, source: &Path) -> Option<String> {
        let named = match source.file_name() {
            Some(name) => Some(name.to_owned()),
            // `.` and `..` are named by what they stand for.
            None => match fs::canonicalize(source) {
                Ok(real) => real.file_name().map(ToOwned::to_owned),
                Err(error) => {
                    let reason = explain("cannot be looked up", &error);
                    let last = source.components().next_back();
                    let name = last.map(|it| it.as_os_str().to_string_lossy().into_owned());
                    self.fails(source, &name.unwrap_or_default(), &reason);
                    return None;
                }
            },
        };
        let name = named.unwrap_or_default();
        let lossy = name.to_string_lossy().into_owned();
        let name = name.into_string().ok().filter(|name| !name.is_empty());
        if name.is_none() {
            let reason = "has no name in UTF-8 that it could have with the receiver";
            self.fails(source, &lossy, reason);
        }
        name
    }

    fn walk(&mut self, first: Found) -> Result<(), TransferError> {
        let mut open = vec![first];
        while let Some(found) = open.pop() {
            if let Err(rule) = RelativePath::new(&found.path) {
                self.refuses(&found, rule);
                continue;
            }
            match fs::symlink_metadata(&found.source) {
                Ok(metadata) => self.look_at(found, &metadata, &mut open)?,
                Err(error) => {
                    let reason = explain("cannot be looked at", &error);
                    self.fails(&found.source, &found.path, &reason);
                }
            }
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        found: Found,
        metadata: &Metadata,
        open: &mut Vec<Found>,
    ) -> Result<(), TransferError> {
        if metadata.is_dir() {
            match children(&found) {
                Ok(children) => {
                    for child in children.into_iter().rev() {
                        match child {
                            Ok(child) => open.push(child),
                            Err(source) => {
                                let last = source.file_name().unwrap_or_default();
                                let name = format!("{}/{}", found.path, last.to_string_lossy());
                                self.fails(&source, &name, "the name is not UTF-8");
                            }
                        }
                    }
                }
                Err(error) => {
                    let reason = explain("cannot be listed", &error);
                    self.fails(&found.source, &found.path, &reason);
                }
            }
            self.totals.folders += 1;
            return self.push(found, EntryKind::Folder {}, Content::Nothing);
        }
        if metadata.is_file() {
            // Whether what is in a folder can be read is seen when its turn comes.
            let opened =
                if found.is_argument { open_regular(&found.source).map(drop) } else { Ok(()) };
            return match opened.and_then(|()| self.content(&found.source, metadata)) {
                Ok((file, content)) => {
                    self.totals.files += 1;
                    self.totals.bytes = self.totals.bytes.saturating_add(file.size);
                    self.push(found, EntryKind::File(file), content)
                }
                Err(reason) => {
                    self.fails(&found.source, &found.path, &reason);
                    Ok(())
                }
            };
        }
        let kind = if metadata.is_symlink() { "a symbolic link" } else { "no regular file" };
        if found.is_argument {
            let hint = if metadata.is_symlink() { ": name what it stands for instead" } else { "" };
            self.fails(&found.source, &found.path, &format!("is {kind}{hint}"));
        } else {
            let path = shown(&found.source.to_string_lossy());
            self.skipped.push(Failure { path, reason: kind.to_owned() });
        }
        Ok(())
    }

    /// A file's part of its entry, and where its content is.
    fn content(
        &mut self,
        source: &Path,
        metadata: &Metadata,
    ) -> Result<(FileEntry, Content), String> {
        let sized = |it: &Metadata| (file_entry(it), Content::Of(FileId::of(it)));
        if metadata.len() > 0 {
            return Ok(sized(metadata));
        }
        let left = HELD_IN_ALL_BYTES_MAX - self.held_bytes;
        Ok(match sizeless::read(source, left.min(HELD_BYTES_MAX))? {
            Sizeless::Empty => sized(metadata),
            Sizeless::Sized(metadata) => sized(&metadata),
            Sizeless::Held(bytes) => {
                self.held_bytes += bytes.len();
                let size = bytes.len() as u64;
                (FileEntry { size, ..file_entry(metadata) }, Content::Held(bytes))
            }
        })
    }

    fn push(
        &mut self,
        found: Found,
        kind: EntryKind,
        content: Content,
    ) -> Result<(), TransferError> {
        self.path_bytes += found.path.len();
        if is_too_much(self.totals, self.path_bytes) {
            return Err(TransferError::TooMuch(format!(
                "more than {FILES_MAX} files, {FOLDERS_MAX} folders, or {PATHS_BYTES_MAX} bytes of names: send them in \
                 parts, or as an archive"
            )));
        }
        let entry = Entry { path: found.path, kind };
        self.entries.push(Listed { source: found.source, entry, content });
        Ok(())
    }

    /// An unfinished file of an earlier transfer is nobody's content; any other bad name is a failure.
    fn refuses(&mut self, found: &Found, rule: NameError) {
        if rule == NameError::Reserved && !found.is_argument {
            let path = shown(&found.source.to_string_lossy());
            self.skipped.push(Failure { path, reason: rule.to_string() });
        } else {
            let reason = format!("the receiver would refuse it: {rule}");
            self.fails(&found.source, &found.path, &reason);
        }
    }

    /// `name` is what the receiver is told.
    fn fails(&mut self, source: &Path, name: &str, reason: &str) {
        self.totals.files += 1;
        self.unoffered.count = self.unoffered.count.saturating_add(1);
        if self.unoffered.first.len() < UNOFFERED_TOLD_MAX {
            self.unoffered.first.push((told(name), told(reason)));
        }
        let path = shown(&source.to_string_lossy());
        self.failed.push(Failure { path, reason: reason.to_owned() });
    }
}

pub(super) fn file_entry(metadata: &Metadata) -> FileEntry {
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    FileEntry {
        size: metadata.len(),
        executable: metadata.mode() & OWNER_EXECUTES != 0,
        rights: Some(metadata.mode() & RIGHTS),
        modified: Modified(metadata.mtime(), nanoseconds),
    }
}

/// What is in a folder, by name; where a name is not UTF-8, its path alone.
fn children(folder: &Found) -> io::Result<Vec<Result<Found, PathBuf>>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(&folder.source)? {
        sources.push(entry?.path());
    }
    sources.sort();
    let child = |source: PathBuf| {
        let name = source.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned);
        match name {
            Some(name) => {
                let path = format!("{}/{name}", folder.path);
                Ok(Found { source, path, is_argument: false })
            }
            None => Err(source),
        }
    };
    Ok(sources.into_iter().map(child).collect())
}
