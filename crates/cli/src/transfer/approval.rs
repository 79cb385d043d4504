//! Whether what a peer would send is wanted, and where it goes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use holepunch_programs::transfer::{Answer, Ask, Incoming, Top};
use indicatif::HumanBytes;
use tokio::task::spawn_blocking;

use super::json::Listed;
use super::show::Way;
use crate::output::{self, counted};
use crate::screen::{Stream, is_terminal};

/// Hexadecimal digits of a folder's name that tell one list from another.
const DIGITS: usize = 6;

/// How a receiver decides.
#[derive(Debug)]
pub(super) struct Approval {
    /// The folder that was named.
    into: Option<PathBuf>,
    asks: bool,
    /// Whether files that are there are replaced.
    force: bool,
    way: Way,
    /// What was said of a list: a peer that comes back with the same one is not asked about again.
    said: Mutex<Option<(Incoming, Answer)>>,
}

impl Approval {
    /// `yes`: nobody is to be asked. Nobody can be where standard input or error is no terminal.
    pub(super) fn new(into: Option<PathBuf>, yes: bool, force: bool, way: &Way) -> Self {
        let can_ask = std::io::stdin().is_terminal() && is_terminal(Stream::Err);
        let asks = !yes && can_ask && !matches!(way, Way::Json);
        Self { into, asks, force, way: way.clone(), said: Mutex::default() }
    }

    /// Whether somebody is asked before anything is taken.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    async fn answer(&self, incoming: &Incoming) -> Answer {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, answer)) = said.filter(|(known, _)| known == incoming) {
            return answer;
        }
        let into = self.place(incoming);
        match &self.way {
            Way::Json => output::json_line(&Listed::new(incoming, &into)),
            Way::Bar(_) | Way::Lines => {
                lines(incoming, &into, self.force).iter().for_each(output::progress);
            }
        }
        // Whoever is declined is not remembered: the next one may be somebody else.
        if self.asks && !is_wanted().await {
            return Answer::Declined;
        }
        let answer = Answer::Into(into);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        *said = Some((incoming.clone(), answer.clone()));
        answer
    }

    /// The folder that was named; where none was, one file or folder comes into this one, and several come into one of
    /// their own, which is the same one when the transfer is begun again.
    fn place(&self, incoming: &Incoming) -> PathBuf {
        match &self.into {
            Some(into) => into.clone(),
            None if incoming.tops.len() + incoming.more <= 1 => PathBuf::from("."),
            None => {
                let mut hasher = blake3::Hasher::new();
                for Top { name, .. } in &incoming.tops {
                    hasher.update(name.as_bytes()).update(b"\0");
                }
                let hex = hasher.finalize().to_hex();
                PathBuf::from(format!("received-{}", &hex[..DIGITS]))
            }
        }
    }
}

impl Ask for Approval {
    fn ask<'a>(
        &'a self,
        incoming: &'a Incoming,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(self.answer(incoming))
    }
}

/// What comes, for a person, and what is there by the same names.
fn lines(incoming: &Incoming, into: &Path, force: bool) -> Vec<String> {
    let Incoming { totals, tops, more } = incoming;
    let what = counted(totals.files, "file");
    let mut lines = vec![format!("{what}, {}, into {}:", HumanBytes(totals.bytes), into.display())];
    for top in tops {
        let Top { name, is_folder, files, bytes } = top;
        let there = there(top, into, force).map_or_else(String::new, |there| format!("; {there}"));
        lines.push(match is_folder {
            true => {
                format!("  {name}/  {}, {}{there}", counted(*files, "file"), HumanBytes(*bytes))
            }
            false => format!("  {name}  {}{there}", HumanBytes(*bytes)),
        });
    }
    if *more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines
}

/// What stands in the way of a name, where something does, and what becomes of it.
fn there(top: &Top, into: &Path, force: bool) -> Option<&'static str> {
    let found = std::fs::symlink_metadata(into.join(&top.name)).ok()?;
    Some(match (top.is_folder, found.is_dir(), found.is_file()) {
        (true, true, _) if force => {
            "a folder of this name is there: files in it that differ are replaced"
        }
        (true, true, _) => {
            "a folder of this name is there: files in it that differ stay (--force replaces them)"
        }
        (false, _, true) if force => "replaces the file of this name that is there, if it differs",
        (false, _, true) if found.len() == top.bytes => {
            "a file of this name and size is there: if it differs, it stays (--force replaces it)"
        }
        (false, _, true) => "another file of this name is there and stays (--force replaces it)",
        (true | false, _, _) => "something else of this name is there and stays",
    })
}

/// Asks on the terminal, which stays as it is: an interruption ends the command as ever.
async fn is_wanted() -> bool {
    let read = spawn_blocking(|| output::answer("take it? [y/N] "));
    let line = read.await.ok().and_then(Result::ok).unwrap_or_default();
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use holepunch_programs::transfer::Totals;

    use super::*;

    fn incoming(names: &[&str], more: usize) -> Incoming {
        let top =
            |name: &&str| Top { name: (*name).to_owned(), is_folder: false, files: 1, bytes: 1 };
        Incoming { totals: Totals::default(), tops: names.iter().map(top).collect(), more }
    }

    #[test]
    fn several_come_into_a_folder_of_their_own_which_is_the_same_each_time() {
        let unnamed = Approval::new(None, true, false, &Way::Lines);
        assert_eq!(unnamed.place(&incoming(&["a"], 0)), Path::new("."));
        let own = unnamed.place(&incoming(&["a", "b"], 0));
        assert_eq!(own, unnamed.place(&incoming(&["a", "b"], 0)));
        assert_ne!(own, unnamed.place(&incoming(&["a", "c"], 0)));
        assert!(own.to_str().unwrap().starts_with("received-"), "{own:?}");
        let named = Approval::new(Some("in".into()), true, false, &Way::Lines);
        assert_eq!(named.place(&incoming(&["a", "b"], 5)), Path::new("in"));
    }

    #[test]
    fn what_comes_is_named_with_its_size() {
        let mut list = incoming(&["a"], 2);
        list.tops.push(Top { name: "photos".to_owned(), is_folder: true, files: 7, bytes: 2048 });
        list.totals = Totals { files: 8, folders: 1, bytes: 2049 };
        let told = lines(&list, Path::new("in"), false);
        assert_eq!(
            told,
            [
                "8 files, 2.00 KiB, into in:",
                "  a  1 B",
                "  photos/  7 files, 2.00 KiB",
                "  and 2 more"
            ]
        );
    }

    #[test]
    fn what_is_there_by_the_same_name_is_told_with_what_becomes_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path();
        std::fs::write(into.join("same"), "x").unwrap();
        std::fs::write(into.join("other"), "longer").unwrap();
        std::fs::create_dir(into.join("folder")).unwrap();
        let top =
            |name: &str, is_folder| Top { name: name.to_owned(), is_folder, files: 1, bytes: 1 };
        let told = |name, is_folder, force| {
            there(&top(name, is_folder), into, force).unwrap_or_default().to_owned()
        };
        assert_eq!(told("new", false, false), "");
        assert!(told("same", false, false).contains("if it differs"));
        assert!(
            told("other", false, false).contains("another file of this name is there and stays")
        );
        assert!(told("other", false, true).starts_with("replaces the file"));
        assert!(told("folder", true, false).contains("files in it that differ stay"));
        assert!(told("folder", false, true).contains("something else of this name"));
        assert!(told("other", true, true).contains("something else of this name"));
    }
}
