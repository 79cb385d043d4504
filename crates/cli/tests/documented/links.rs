//! Links between the documents: each file is there, and each anchor is a heading of it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::markdown::{anchors, heading, outside_fences};
use crate::{none_of, read, repository};

/// The folders whose documents are looked at, beside those at the top.
const FOLDERS: [&str; 4] = ["docs", "deploy", "tests/lab", "fuzz"];

/// All documents, by their paths in the repository.
pub(crate) fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in [&[""], &FOLDERS[..]].concat() {
        for entry in std::fs::read_dir(repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "md") {
                found.push(
                    Path::new(folder).join(path.file_name().unwrap()).to_str().unwrap().to_owned(),
                );
            }
        }
    }
    found.sort();
    found
}

/// The targets of all links of a document, with their lines; what stands in code is none.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut targets = Vec::new();
    for (number, line) in outside_fences(text) {
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in prose.split("](").skip(1) {
            targets.push((number, rest.split(')').next().unwrap_or_default().to_owned()));
        }
    }
    targets
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                assert!(plain.pop(), "{} leads out of the repository", path.display())
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// What is wrong with the links of these documents.
fn faults(texts: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in texts {
        for (line, target) in targets(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = Path::new(path).parent().unwrap();
            let file =
                if file.is_empty() { PathBuf::from(path) } else { plain(&folder.join(file)) };
            let file = file.to_str().unwrap();
            if !repository().join(file).exists() {
                faults.push(format!("{path}:{line}: {target}: there is no {file}"));
            } else if !anchor.is_empty() {
                let known = texts.get(file).map(|text| anchors(text)).unwrap_or_default();
                if !known.iter().any(|known| known == anchor) {
                    faults.push(format!(
                        "{path}:{line}: {target}: {file} has no such heading, but {known:?}"
                    ));
                }
            }
        }
    }
    faults
}

#[test]
fn every_link_leads_somewhere() {
    let texts: BTreeMap<String, String> =
        documents().into_iter().map(|path| (path.clone(), read(&path))).collect();
    assert!(texts.contains_key("README.md") && texts.len() > 15, "{:?}", texts.keys());
    none_of(&faults(&texts));
}

#[test]
fn a_link_to_nowhere_is_found() {
    let text = "# A\n## The `b`, c\n[1](#the-b-c) [2](#b) [3](nowhere.md) [4](nat.md#b)\n`[5](nowhere.md)` [6](../README.md)";
    let texts = [("docs/nat.md".to_owned(), text.to_owned())].into();
    let found = faults(&texts);
    let starts = ["docs/nat.md:3: #b:", "docs/nat.md:3: nowhere.md:", "docs/nat.md:3: nat.md#b:"];
    assert_eq!(found.len(), starts.len(), "{found:?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:?}");
    assert_eq!(anchors("# A b\n# A b\n# A b-c"), ["a-b", "a-b-1", "a-b-c"]);
}

#[test]
fn the_book_has_every_document_of_its_folder() {
    let summary = read("docs/SUMMARY.md");
    let listed: Vec<String> = targets(&summary).into_iter().map(|(_, target)| target).collect();
    let mut faults: Vec<String> = documents()
        .iter()
        .filter_map(|path| path.strip_prefix("docs/"))
        .filter(|name| *name != "SUMMARY.md" && !listed.iter().any(|listed| listed == name))
        .map(|name| format!("docs/SUMMARY.md does not list {name}"))
        .collect();
    for path in documents() {
        let first = read(&path).lines().next().and_then(heading).map(|(level, _)| level);
        if first != Some(1) {
            faults.push(format!("{path} does not begin with its title"));
        }
    }
    none_of(&faults);
}
