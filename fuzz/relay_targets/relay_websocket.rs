#![no_main]

#[path = "../relays.rs"]
mod relays;

libfuzzer_sys::fuzz_target!(|input: &[u8]| relays::decode("relay_websocket", input));
