//! Several rendezvous: whatever fails, what must hold does.

use holepunch_sim::cluster::{Chance, Failing, Setting, play};

/// Plays these histories; how many sessions there were.
fn histories(seeds: std::ops::Range<u64>, faults: &'static [Failing]) -> usize {
    let mut sessions = 0;
    for seed in seeds {
        let (instances, workers) = (1 + (seed % 3) as usize, 3 + (seed / 3 % 8) as usize);
        let setting = Setting { instances, workers, faults };
        match play(setting, Chance::of_seed(seed)) {
            Ok(played) => sessions += played,
            Err(broken) => panic!("seed {seed}, {setting:?}:\n{broken}"),
        }
    }
    sessions
}

#[test]
fn everybody_has_a_peer_at_whichever_rendezvous_it_is() {
    assert!(histories(0..150, &[]) > 500);
}

#[test]
fn a_fabric_that_loses_doubles_and_delays_keeps_nobody_apart() {
    assert!(histories(0..300, &[Failing::Fabric]) > 1000);
}

#[test]
fn workers_that_lose_their_connections_find_their_sessions_at_another_rendezvous() {
    assert!(histories(0..300, &[Failing::Connection]) > 1000);
}

#[test]
fn whoever_dies_its_rooms_have_another_owner_that_learns_all_from_the_desks() {
    assert!(histories(0..300, &[Failing::Crash]) > 1000);
}
