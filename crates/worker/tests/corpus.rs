//! Replays the corpus of the fuzz targets (`fuzz/`), each file through every decoder of this crate.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../fuzz/turns.rs"]
mod turns;

use turns::{DECODERS, decode};

fn targets() -> impl Iterator<Item = &'static str> + Clone {
    DECODERS.iter().map(|(name, _)| *name)
}

#[test]
fn every_decoder_holds_its_promises_on_every_file_of_every_corpus() {
    replay::every_corpus(targets(), decode);
}

#[test]
fn every_target_is_in_the_table() {
    replay::same_targets("turn_targets", targets());
}
