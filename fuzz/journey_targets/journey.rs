#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // What becomes of the pair is looked at in there.
    let _ = holepunch_sim::lab::Journey::from_bytes(input).play();
});
