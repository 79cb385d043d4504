//! What a TURN server answers a worker (`crates/worker`). What must hold stands there. The fuzz target and the replay of
//! its corpus (`crates/worker/tests/corpus.rs`) run the same code.

/// One decoder with its properties; it panics where one does not hold.
pub(crate) type Decoder = fn(&[u8]);

/// All of them, by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 1] =
    [("turn_answers", holepunch_worker::turn_testing::answers)];

/// Runs the decoder of one target.
pub(crate) fn decode(target: &str, input: &[u8]) {
    let decoder = DECODERS.iter().find(|(name, _)| *name == target);
    let (_, decoder) = decoder.expect("a target that is in the table");
    decoder(input);
}
