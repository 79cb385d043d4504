#![no_main]

#[path = "../turns.rs"]
mod turns;

libfuzzer_sys::fuzz_target!(|input: &[u8]| turns::decode("turn_answers", input));
