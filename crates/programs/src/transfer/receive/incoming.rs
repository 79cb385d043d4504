//! What a sender has listed, as the one who is to take it sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use super::super::name::shown;
use super::super::summary::{NAMES_MAX, Names, Totals};
use super::ledger::Item;

/// A file or a folder of the sender's list that stands in no other folder of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Its name, with what acts on a terminal made visible.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Files: 1, or those in the folder and below.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// What a sender has listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// All of it.
    pub totals: Totals,
    /// What stands in no folder of the list, in the order of the names; 20 at most.
    pub tops: Vec<Top>,
    /// How many more there are.
    pub more: usize,
}

/// What the receiver says of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is to come into this folder, which is made where there is none.
    Into(PathBuf),
    /// Nothing is to come.
    Declined,
}

/// Whoever decides what becomes of a list.
pub trait Ask: Send + Sync {
    /// What becomes of it. It is dropped where the peer leaves meanwhile.
    fn ask<'a>(
        &'a self,
        incoming: &'a Incoming,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
}

/// Into this folder, without a question.
impl Ask for PathBuf {
    fn ask<'a>(&'a self, _: &'a Incoming) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(std::future::ready(Answer::Into(self.clone())))
    }
}

impl Incoming {
    pub(super) fn of(items: &[Result<Item, (String, String)>], totals: Totals) -> Self {
        let mut tops: BTreeMap<&str, Top> = BTreeMap::new();
        for item in items.iter().flatten() {
            let mut parts = item.path.components();
            let Some(name) = parts.next() else { continue };
            let is_below = parts.next().is_some();
            let top = tops.entry(name).or_insert_with(|| Top {
                name: shown(name),
                is_folder: is_below || item.file.is_none(),
                files: 0,
                bytes: 0,
            });
            if let Some(file) = &item.file {
                top.files += 1;
                top.bytes = top.bytes.saturating_add(file.size);
            }
        }
        let more = tops.len().saturating_sub(NAMES_MAX);
        Self { totals, tops: tops.into_values().take(NAMES_MAX).collect(), more }
    }

    pub(super) fn names(&self) -> Names {
        let first = self.tops.iter().map(|top| top.name.clone()).collect();
        Names { first, more: self.more }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::name::RelativePath;
    use super::super::super::wire::{FileEntry, Modified};
    use super::*;

    fn item(path: &str, size: Option<u64>) -> Result<Item, (String, String)> {
        let modified = Modified(0, 0);
        let file = size.map(|size| FileEntry { size, executable: false, rights: None, modified });
        Ok(Item { path: RelativePath::new(path).unwrap(), file })
    }

    #[test]
    fn what_stands_in_no_folder_is_named_with_all_that_is_below_it() {
        let items =
            [item("a", None), item("a/b", Some(3)), item("a/c/d", Some(4)), item("z", Some(5))];
        let incoming = Incoming::of(&items, Totals::default());
        let top = |name: &str, is_folder, files, bytes| Top {
            name: name.to_owned(),
            is_folder,
            files,
            bytes,
        };
        assert_eq!(incoming.tops, [top("a", true, 2, 7), top("z", false, 1, 5)]);
        assert_eq!(incoming.more, 0);
    }

    #[test]
    fn of_many_names_some_are_told_and_the_rest_is_counted() {
        let items: Vec<_> =
            (0..50).map(|number| item(&format!("{number:02}"), Some(u64::MAX))).collect();
        let incoming = Incoming::of(&items, Totals::default());
        assert_eq!((incoming.tops.len(), incoming.more), (NAMES_MAX, 30));
    }
}
