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
    way: Way,
    /// What was said of a list: a peer that comes back with the same one is not asked about again.
    said: Mutex<Option<(Incoming, Answer)>>,
}

impl Approval {
    /// `yes`: nobody is to be asked. Nobody can be where standard input or error is no terminal.
    pub(super) fn new(into: Option<PathBuf>, yes: bool, way: &Way) -> Self {
        let can_ask = std::io::stdin().is_terminal() && is_terminal(Stream::Err);
        let asks = !yes && can_ask && !matches!(way, Way::Json);
        Self { into, asks, way: way.clone(), said: Mutex::default() }
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
            Way::Bar(_) | Way::Lines => lines(incoming, &into).iter().for_each(output::progress),
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

/// What comes, for a person.
fn lines(incoming: &Incoming, into: &Path) -> Vec<String> {
    let Incoming { totals, tops, more } = incoming;
    let what = counted(totals.files, "file");
    let mut lines = vec![format!("{what}, {}, into {}:", HumanBytes(totals.bytes), into.display())];
    for Top { name, is_folder, files, bytes } in tops {
        lines.push(match is_folder {
            true => format!("  {name}/  {}, {}", counted(*files, "file"), HumanBytes(*bytes)),
            false => format!("  {name}  {}", HumanBytes(*bytes)),
        });
    }
    if *more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines
}

/// Asks on the terminal, which stays as it is: an interruption ends the command as ever.
async fn is_wanted() -> bool {
    let read = spawn_blocking(|| {
        output::prompt("take it? [y/N] ");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
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
        let unnamed = Approval::new(None, true, &Way::Lines);
        assert_eq!(unnamed.place(&incoming(&["a"], 0)), Path::new("."));
        let own = unnamed.place(&incoming(&["a", "b"], 0));
        assert_eq!(own, unnamed.place(&incoming(&["a", "b"], 0)));
        assert_ne!(own, unnamed.place(&incoming(&["a", "c"], 0)));
        assert!(own.to_str().unwrap().starts_with("received-"), "{own:?}");
        let named = Approval::new(Some("in".into()), true, &Way::Lines);
        assert_eq!(named.place(&incoming(&["a", "b"], 5)), Path::new("in"));
    }

    #[test]
    fn what_comes_is_named_with_its_size() {
        let mut list = incoming(&["a"], 2);
        list.tops.push(Top { name: "photos".to_owned(), is_folder: true, files: 7, bytes: 2048 });
        list.totals = Totals { files: 8, folders: 1, bytes: 2049 };
        let told = lines(&list, Path::new("in"));
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
}
