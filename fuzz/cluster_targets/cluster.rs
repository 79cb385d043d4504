#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (setting, chance) = holepunch_sim::cluster::Setting::from_bytes(input);
    if let Err(broken) = holepunch_sim::cluster::play(setting, chance) {
        panic!("{broken}");
    }
});
