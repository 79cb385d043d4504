#![no_main]

#[path = "../programs.rs"]
mod programs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| programs::decode("program_forward_pieces", input));
