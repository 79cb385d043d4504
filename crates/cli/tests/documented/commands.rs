//! The commands that the documents name.

use crate::links::documents;
use crate::markdown::fences;
use crate::{none_of, read};

/// What a block of code may be; `sh` is a command.
const KINDS: [&str; 9] =
    ["sh", "text", "json", "toml", "rust", "nginx", "caddy", "haproxy", "apache"];

/// The documents whose commands count: README, and all below `docs`.
fn of_people() -> impl Iterator<Item = String> {
    documents().into_iter().filter(|path| path == "README.md" || path.starts_with("docs/"))
}

#[test]
fn every_block_of_code_says_what_it_is() {
    let mut faults = Vec::new();
    for path in of_people() {
        for fence in fences(&read(&path)) {
            if !KINDS.contains(&fence.info.as_str()) {
                let (line, info) = (fence.line, fence.info);
                faults.push(format!("{path}:{line}: {info:?}: expected one of {KINDS:?}"));
            }
            if fence.lines.iter().any(|line| line.contains("```")) {
                faults.push(format!("{path}:{}: a fence within a fence", fence.line));
            }
        }
    }
    none_of(&faults);
}
