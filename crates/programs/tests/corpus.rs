//! Replays the corpus of the fuzz targets of the programs (`fuzz/`), each file through the decoder of its
//! target.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../fuzz/programs.rs"]
mod programs;

use std::path::{Path, PathBuf};

use programs::{DECODERS, decode};

/// Most files of one target: the corpus is read by people, too.
const FILES_MAX: usize = 30;

/// The files of one target.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_decoder_holds_its_promises_on_every_file_of_its_corpus() {
    for (target, _) in DECODERS {
        let files = corpus(target);
        assert!((1..=FILES_MAX).contains(&files.len()), "{target}: {} files", files.len());
        for file in files {
            let input = std::fs::read(&file).unwrap();
            let outcome = std::panic::catch_unwind(|| decode(target, &input));
            assert!(outcome.is_ok(), "{} (its panic stands above)", file.display());
        }
    }
}

#[test]
fn the_input_of_one_target_harms_no_other() {
    for (from, _) in DECODERS {
        for file in corpus(from) {
            let input = std::fs::read(&file).unwrap();
            DECODERS.iter().for_each(|(target, _)| decode(target, &input));
        }
    }
}

#[test]
fn every_target_is_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with("program_"))
        .collect();
    let mut names: Vec<String> = DECODERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
}
