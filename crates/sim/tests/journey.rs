//! Pairs that are made from bytes: the corpus of the fuzz target (`fuzz/`), and some at random.

use std::path::Path;

use holepunch_sim::lab::{Journey, Verdict};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Most files of the corpus: it is read by people, too.
const FILES_MAX: usize = 30;
/// Journeys at random, and the length of each in bytes.
const JOURNEYS: u64 = 60;
const BYTES: usize = 20;

#[test]
fn every_journey_of_the_corpus_ends_well() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/journey");
    let entries = std::fs::read_dir(&folder).unwrap();
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!((1..=FILES_MAX).contains(&files.len()), "{} files", files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let outcome = std::panic::catch_unwind(|| Journey::from_bytes(&bytes).play());
        assert!(outcome.is_ok(), "{} (its panic stands above)", file.display());
    }
}

#[test]
fn whatever_happens_to_a_pair_it_finds_itself_again() {
    let mut verdicts = Vec::new();
    for seed in 0..JOURNEYS {
        let bytes: [u8; BYTES] = StdRng::seed_from_u64(seed).random();
        let outcome = std::panic::catch_unwind(|| Journey::from_bytes(&bytes).play());
        assert!(outcome.is_ok(), "seed {seed} (its panic stands above)");
        verdicts.extend(outcome);
    }
    let direct = verdicts.iter().filter(|it| **it == Verdict::Direct).count();
    assert!(direct > verdicts.len() / 3, "{direct} of {} are linked", verdicts.len());
}
