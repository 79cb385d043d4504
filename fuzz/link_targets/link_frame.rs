#![no_main]

#[path = "../links.rs"]
mod links;

libfuzzer_sys::fuzz_target!(|input: &[u8]| links::decode("link_frame", input));
