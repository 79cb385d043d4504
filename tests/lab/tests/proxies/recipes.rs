//! The recipes of `docs/operating.md`, as they stand there.

use std::fmt;

const OPERATING: &str = include_str!("../../../../docs/operating.md");
/// Certificate and key of `rendezvous.example.com` and `example.com`, for a hundred years, in one file.
pub(crate) const CERTIFICATE: &str = include_str!("rendezvous.pem");
/// The certificate of the authority that has made it, and that nobody else knows.
pub(crate) const AUTHORITY: &str = include_str!("authority.pem");
/// Where a server finds the one, and a worker the other.
pub(crate) const CERTIFICATE_FILE: &str = "/run/rendezvous.pem";
pub(crate) const AUTHORITY_FILE: &str = "/run/authority.pem";

/// A piece of a server's configuration.
#[derive(Debug, Clone)]
pub(crate) struct Recipe(String);

impl Recipe {
    /// The block of this language and number in a section.
    pub(crate) fn of(section: &str, language: &str, number: usize) -> Self {
        let heading = format!("\n## {section}\n");
        let (_, rest) = OPERATING.split_once(&heading).expect("the docs have the section");
        let section = rest.split("\n## ").next().unwrap_or(rest);
        let fence = format!("```{language}\n");
        let block = section.split(&fence).nth(number + 1).expect("the section has the recipe");
        Self(block.split("```").next().unwrap_or(block).to_owned())
    }

    /// The same with something else in the place of `what`, which has to be there.
    pub(crate) fn with(self, what: &str, other: &str) -> Self {
        assert!(self.0.contains(what), "the recipe has no {what:?}: {self}");
        Self(self.0.replace(what, other))
    }

    /// The same without the lines that hold `what`, of which there has to be one.
    pub(crate) fn without(self, what: &str) -> Self {
        assert!(self.0.contains(what), "the recipe has no {what:?}: {self}");
        let lines = self.0.lines().filter(|line| !line.contains(what));
        Self(lines.map(|line| format!("{line}\n")).collect())
    }

    /// The lines between the first one that holds `from` and the next that is `to`.
    pub(crate) fn inside(&self, from: &str, to: &str) -> Self {
        let lines = self.0.lines().skip_while(|line| !line.contains(from)).skip(1);
        let lines = lines.take_while(|line| line.trim() != to);
        Self(lines.map(|line| format!("{line}\n")).collect())
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The words of the rendezvous' command line for all recipes but the last two, its names.
pub(crate) fn rendezvous() -> Vec<&'static str> {
    let (_, rest) = OPERATING.split_once("`holepunch rendezvous ").expect("the docs have it");
    let words: Vec<&str> = rest.split('`').next().unwrap_or_default().split_whitespace().collect();
    let names = ["--public-host", "rendezvous.example.com"];
    assert!(words.ends_with(&names), "the rendezvous is told its name last: {words:?}");
    // Without them, a worker that proves its key shows that the proxy passes the host on.
    words[..words.len() - names.len()].to_vec()
}
