//! Reads the sender's list, within bounds.

use holepunch_link::RecvStream;
use tokio::io::BufReader;

use super::super::error::TransferError;
use super::super::name::RelativePath;
use super::super::summary::Totals;
use super::super::wire::{
    self, ENTRIES_MAX, Entry, EntryKind, FromSender, PATHS_BYTES_MAX, Unoffered,
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
        if self.items.len() == ENTRIES_MAX || self.path_bytes > PATHS_BYTES_MAX {
            return Err(TransferError::TooMuch(format!(
                "the peer lists more than {ENTRIES_MAX} files and folders, or {PATHS_BYTES_MAX} \
                 bytes of names"
            )));
        }
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
        Ok((self.items, self.totals))
    }
}
