//! Replays the corpus of the fuzz targets (`fuzz/`), each file through the decoder of its target.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../fuzz/links.rs"]
mod links;

use std::path::{Path, PathBuf};

use links::{DECODERS, decode};

/// Most files of one target: the corpus is read by people, too.
const FILES_MAX: usize = 30;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_decoder_holds_its_promises_on_every_file_of_every_corpus() {
    for (from, _) in DECODERS {
        let corpus = files(&folder("corpus").join(from));
        assert!((1..=FILES_MAX).contains(&corpus.len()), "{from}: {} files", corpus.len());
        for file in corpus {
            let input = std::fs::read(&file).unwrap();
            for (target, _) in DECODERS {
                let outcome = std::panic::catch_unwind(|| decode(target, &input));
                assert!(outcome.is_ok(), "{target}: {} (its panic stands above)", file.display());
            }
        }
    }
}

#[test]
fn every_target_is_in_the_table() {
    let stem = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
    let targets: Vec<String> = files(&folder("link_targets")).iter().map(stem).collect();
    let mut names: Vec<String> = DECODERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(targets, names);
}
