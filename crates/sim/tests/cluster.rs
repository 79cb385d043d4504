//! Several rendezvous: whatever fails, what must hold does.

use std::path::Path;

use holepunch_sim::cluster::{Chance, Failing, Setting, play};

/// How many histories of each kind are played; more with `HOLEPUNCH_HISTORIES`, and others with another `HOLEPUNCH_SEED` than 0.
const HISTORIES: u64 = 60;
/// Most files of the corpus: it is read by people, too.
const FILES_MAX: usize = 30;

/// Plays the history of a seed, in which these may fail: how many sessions it had.
fn history(seed: u64, faults: &'static [Failing]) -> usize {
    let (instances, workers) = (1 + (seed % 3) as usize, 3 + (seed / 3 % 8) as usize);
    let setting = Setting { instances, workers, faults };
    match std::panic::catch_unwind(|| play(setting, Chance::of_seed(seed))) {
        Ok(Ok(sessions)) => sessions,
        Ok(Err(broken)) => panic!("seed {seed}, {setting:?}:\n{broken}"),
        Err(_) => panic!("seed {seed}, {setting:?} (its panic stands above)"),
    }
}

/// Plays histories in which these may fail.
fn histories(faults: &'static [Failing]) {
    let asked = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let count = asked("HOLEPUNCH_HISTORIES").unwrap_or(HISTORIES);
    let first = asked("HOLEPUNCH_SEED").unwrap_or(0);
    let mut sessions = 0;
    for seed in first..first + count {
        sessions += history(seed, faults);
    }
    assert!(sessions as u64 > 5 * count, "{sessions} sessions in {count} histories");
}

#[test]
fn everybody_has_a_peer_at_whichever_rendezvous_it_is() {
    histories(&[]);
}

#[test]
fn a_fabric_that_loses_doubles_and_delays_keeps_nobody_apart() {
    histories(&[Failing::Fabric]);
}

#[test]
fn two_rendezvous_that_do_not_hear_each_other_do_not_lose_a_worker() {
    histories(&[Failing::Partition]);
}

#[test]
fn without_the_store_for_a_while_nothing_is_lost() {
    histories(&[Failing::Store]);
}

#[test]
fn what_the_store_forgets_is_told_it_again() {
    histories(&[Failing::FailOver]);
}

#[test]
fn a_rendezvous_that_has_stood_still_speaks_for_no_room_until_it_owns_it_again() {
    histories(&[Failing::Pause]);
}

#[test]
fn workers_that_lose_their_connections_find_their_sessions_at_another_rendezvous() {
    histories(&[Failing::Connection]);
}

#[test]
fn whoever_dies_its_rooms_have_another_owner_that_learns_all_from_the_desks() {
    histories(&[Failing::Crash]);
}

#[test]
fn whatever_fails_together_what_must_hold_does() {
    histories(&Failing::ALL);
}

/// What a worker says to a rendezvous that stands still is lost when that one is killed.
#[test]
fn a_session_that_is_left_at_a_rendezvous_that_never_hears_of_it_is_over_for_both() {
    history(5947, &Failing::ALL);
}

/// The histories of the fuzz target.
#[test]
fn every_history_of_the_corpus_ends_well() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/cluster");
    let entries = std::fs::read_dir(&folder).unwrap();
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!((1..=FILES_MAX).contains(&files.len()), "{} files", files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let (setting, chance) = Setting::from_bytes(&bytes);
        match std::panic::catch_unwind(|| play(setting, chance)) {
            Ok(Ok(_)) => {}
            Ok(Err(broken)) => panic!("{}:\n{broken}", file.display()),
            Err(_) => panic!("{} (its panic stands above)", file.display()),
        }
    }
}
