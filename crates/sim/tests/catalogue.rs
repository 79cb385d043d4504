//! The catalogue of pairs, with few seeds each: `holepunch lab --full` plays them all.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use holepunch_sim::lab::{Incident, Outcome, Pair, Summary, catalogue};
use holepunch_sim::presets::NatKind;
use holepunch_sim::report::{Control, Request, run};

/// Seeds per pair.
const SEEDS: u64 = 50;
/// Seeds per cell of the matrix of all kinds, of which there are 2,500.
const MATRIX_SEEDS: u64 = 4;
/// Threads, on a machine with two cores.
const THREADS: usize = 2;

/// What does not hold for a pair. A share counts as too small when its whole interval is: fifty
/// histories say no more.
fn violations(pair: &Pair) -> Vec<String> {
    let outcomes: Vec<Outcome> = (0..SEEDS).map(|seed| pair.scenario.run(seed)).collect();
    let summary = Summary::of(&outcomes, pair.scenario.incident != Incident::None);
    let few = pair.requirement.direct.is_some_and(|least| summary.direct.high >= least);
    let violations = pair.requirement.violations(&summary).into_iter();
    let counts = violations.filter(|it| !(few && it.text.starts_with("direct")));
    counts.map(|it| format!("{}: {} (seed {:?})", pair.name, it.text, it.seed)).collect()
}

#[test]
fn every_pair_of_the_catalogue_does_what_is_required_of_it() {
    let pairs = Mutex::new(catalogue());
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some(pair) = pairs.lock().unwrap().pop() else { return };
                    let violations = violations(&pair);
                    found.lock().unwrap().extend(violations);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_kind_of_nat_does_worse_with_any_other_than_the_oracle_says() {
    let request = Request {
        first_seed: 0,
        seeds: Some(MATRIX_SEEDS),
        pairs: Vec::new(),
        kinds: NatKind::all(),
    };
    let threads = NonZeroUsize::new(THREADS).unwrap();
    let summaries = run(&request.jobs(), threads, &Control::default()).unwrap();
    let matrix = request.report(summaries).matrix.unwrap();
    let violated = matrix.cells.iter().filter(|cell| !cell.violations.is_empty());
    let found: Vec<_> = violated
        .map(|cell| (cell.scenario.first, cell.scenario.second, &cell.violations))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_history_depends_on_its_seed_alone() {
    let pair = catalogue().into_iter().find(|pair| pair.name.contains("block64-reuse")).unwrap();
    assert_eq!(pair.scenario.run(7), pair.scenario.run(7));
    assert_eq!(pair.scenario.trace(7).0, pair.scenario.run(7));
    let times: Vec<_> = (0..10).map(|seed| pair.scenario.run(seed).link_time).collect();
    assert!(times.iter().any(|time| *time != times[0]), "{times:?}");
}
