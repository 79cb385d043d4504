//! Replays the committed corpus, for the tests of the crates whose decoders are fuzzed.

use std::path::{Path, PathBuf};

/// Most files of one target: the corpus is read by people, too.
const FILES_MAX: usize = 30;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs every target on every file of the corpus of each: the input of one harms no other.
///
/// # Panics
/// A target does not hold its promises, or a corpus is empty or too large.
pub(crate) fn every_corpus<'a>(
    targets: impl Iterator<Item = &'a str> + Clone,
    decode: fn(&str, &[u8]),
) {
    for from in targets.clone() {
        let corpus = files(&format!("corpus/{from}"));
        assert!((1..=FILES_MAX).contains(&corpus.len()), "{from}: {} files", corpus.len());
        for file in corpus {
            let input = std::fs::read(&file).unwrap();
            for target in targets.clone() {
                let outcome = std::panic::catch_unwind(|| decode(target, &input));
                assert!(outcome.is_ok(), "{target}: {} (its panic stands above)", file.display());
            }
        }
    }
}

/// Looks whether the targets are those that have a file in `folder`.
///
/// # Panics
/// They are not.
pub(crate) fn same_targets<'a>(folder: &str, targets: impl Iterator<Item = &'a str>) {
    let stem = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
    let built: Vec<String> = files(folder).iter().map(stem).collect();
    let mut targets: Vec<&str> = targets.collect();
    targets.sort_unstable();
    assert_eq!(built, targets);
}
