//! Reads the sender's list, within bounds.

use std::collections::BTreeSet;

use holepunch_link::RecvStream;
use tokio::io::BufReader;

use super::super::error::TransferError;
use super::super::name::RelativePath;
use super::super::summary::Totals;
use super::super::wire::{
    self, Entry, EntryKind, FILES_MAX, FOLDERS_MAX, FromSender, PATHS_BYTES_MAX, Unoffered,
};
use super::ledger::Item;
use super::protocol;

/// The entries, each with its place; of one whose name is refused, the name and the rule.
type Items = Vec<Result<Item, (String, String)>>;

/// The list, and what the sender could not put there.
pub(super) async fn read(
    recv: &mut BufReader<RecvStream>,
) -> Result<(Items, Totals, Unoffered), TransferError> {
    let mut list = List::default();
    let mut json = Vec::new();
    while wire::read_json(recv, &mut json).await? {
        match FromSender::parse(&json)? {
            FromSender::Entries(entries) => {
                entries.into_iter().try_for_each(|entry| list.push(entry))?;
            }
            FromSender::Listed { entries, bytes, unoffered } => {
                let (items, mut totals) = list.complete(entries, bytes)?;
                totals.files += u64::from(unoffered.count);
                return Ok((items, totals, unoffered));
            }
            FromSender::File { .. }
            | FromSender::Data { .. }
            | FromSender::End { .. }
            | FromSender::Have { .. }
            | FromSender::Same { .. }
            | FromSender::Differs { .. }
            | FromSender::Failed { .. }
            | FromSender::Finished {}
            | FromSender::Known {} => {
                return Err(protocol("a file before the list is complete"));
            }
        }
    }
    Err(TransferError::Ended)
}

#[derive(Default)]
struct List {
    items: Items,
    totals: Totals,
    path_bytes: usize,
}

impl List {
    fn push(&mut self, entry: Entry) -> Result<(), TransferError> {
        self.path_bytes += entry.path.len();
        let file = match entry.kind {
            EntryKind::Folder {} => {
                self.totals.folders += 1;
                None
            }
            EntryKind::File(file) => {
                self.totals.files += 1;
                self.totals.bytes = self.totals.bytes.saturating_add(file.size);
                Some(file)
            }
        };
        if wire::is_too_much(self.totals, self.path_bytes) {
            return Err(TransferError::TooMuch(format!(
                "the peer lists more than {FILES_MAX} files, {FOLDERS_MAX} folders, or {PATHS_BYTES_MAX} bytes of \
                 names"
            )));
        }
        self.items.push(match RelativePath::new(&entry.path) {
            Ok(path) => Ok(Item { path, file }),
            Err(rule) => Err((entry.path, rule.to_string())),
        });
        Ok(())
    }

    fn complete(self, entries: u32, bytes: u64) -> Result<(Items, Totals), TransferError> {
        let came = (self.items.len(), self.totals.bytes);
        if came != (entries as usize, bytes) {
            return Err(protocol(format!(
                "a list of {entries} entries and {bytes} bytes, but {} entries and {} bytes came",
                came.0, came.1
            )));
        }
        self.check_folders()?;
        Ok((self.items, self.totals))
    }

    /// Whatever a path leads through is made, and kept in mind to be brought to the disk: few entries may name many folders.
    fn check_folders(&self) -> Result<(), TransferError> {
        let mut folders = BTreeSet::new();
        for Item { path, file } in self.items.iter().flatten() {
            add_folders(&mut folders, if file.is_some() { path.folder() } else { path.as_str() });
            if folders.len() > FOLDERS_MAX {
                let why = format!(
                    "the paths in the peer's list lead through more than {FOLDERS_MAX} folders"
                );
                return Err(TransferError::TooMuch(why));
            }
        }
        Ok(())
    }
}

/// Adds a folder, and those that lead to it; the outermost one is not among them.
pub(super) fn add_folders<'a>(folders: &mut BTreeSet<&'a str>, mut path: &'a str) {
    while !path.is_empty() && folders.insert(path) {
        path = path.rsplit_once('/').map_or("", |(outer, _)| outer);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::{FileEntry, Modified};
    use super::*;

    fn list(entries: impl Iterator<Item = (String, bool)>) -> Result<Totals, String> {
        let mut list = List::default();
        let mut count = 0;
        for (path, is_file) in entries {
            let file =
                FileEntry { size: 0, executable: false, rights: None, modified: Modified(0, 0) };
            let kind = if is_file { EntryKind::File(file) } else { EntryKind::Folder {} };
            list.push(Entry { path, kind }).map_err(|error| error.to_string())?;
            count += 1;
        }
        list.complete(count, 0).map(|(_, totals)| totals).map_err(|error| error.to_string())
    }

    #[test]
    fn a_million_small_files_in_their_folders_are_taken_and_not_one_more() {
        let entries = |files| {
            let folders = (0..1000).map(|folder| (format!("all/{folder}"), false));
            folders.chain((0..files).map(|file| (format!("all/{}/{file}", file % 1000), true)))
        };
        let totals = list(entries(FILES_MAX)).unwrap();
        assert_eq!((totals.files, totals.folders), (FILES_MAX as u64, 1000));
        let error = list(entries(FILES_MAX + 1)).unwrap_err();
        assert!(error.contains("more than 1000000 files"), "{error}");
    }

    #[test]
    fn folders_that_paths_lead_through_are_counted_once_and_bounded() {
        let deep = |number: usize, is_file| (format!("{number}{}", "/a".repeat(100)), is_file);
        for (is_file, below) in [(true, 0), (false, 1)] {
            let most = FOLDERS_MAX / (100 + below);
            assert!(list((0..most).map(|number| deep(number, is_file))).is_ok());
            let twice = (0..2 * most).map(|number| deep(number / 2, is_file));
            assert!(list(twice).is_ok(), "the same ones");
            let error = list((0..=most).map(|number| deep(number, is_file))).unwrap_err();
            assert!(error.contains("more than 1000000 folders"), "{error}");
        }
    }
}
