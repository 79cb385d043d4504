//! Replays the corpus of the relay's fuzz target (`fuzz/`).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../fuzz/relays.rs"]
mod relays;

use std::path::{Path, PathBuf};

use relays::{DECODERS, decode};

/// Most files of one target: the corpus is read by people, too.
const FILES_MAX: usize = 30;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_decoder_holds_its_promises_on_every_file_of_the_corpus() {
    for (target, _) in DECODERS {
        let corpus = files(&format!("corpus/{target}"));
        assert!((1..=FILES_MAX).contains(&corpus.len()), "{target}: {} files", corpus.len());
        for file in corpus {
            let input = std::fs::read(&file).unwrap();
            let outcome = std::panic::catch_unwind(|| decode(target, &input));
            assert!(outcome.is_ok(), "{} (its panic stands above)", file.display());
        }
    }
}

#[test]
fn every_target_is_in_the_table() {
    let targets = files("relay_targets");
    let stems = targets.iter().map(|file| file.file_stem().unwrap().to_str().unwrap());
    assert!(stems.eq(DECODERS.iter().map(|(name, _)| *name)));
}
