//! The flags of `lab`, from command lines.

use clap::{CommandFactory, Parser};
use holepunch_sim::lab::Group;
use holepunch_sim::report::replay;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &str) -> Args {
    let words = line.split(' ').filter(|word| !word.is_empty());
    Line::try_parse_from(std::iter::once("lab").chain(words)).unwrap().args
}

fn refused(line: &str) -> bool {
    Line::try_parse_from(std::iter::once("lab").chain(line.split(' '))).is_err()
}

#[test]
fn the_flags_do_not_contradict_each_other() {
    Line::command().debug_assert();
}

#[test]
fn the_command_that_replays_a_history_plays_the_same_scenario() {
    for pair in catalogue() {
        let command = replay(&pair.scenario, 11);
        let args = args(command.strip_prefix("holepunch lab ").unwrap());
        assert!(args.trace && args.seed == Some(11), "{command}");
        let mut found = args.unusual.scenario(&args.pair.unwrap());
        // Functions are compared by what they are for: there is one.
        assert_eq!(found.lie.is_some(), pair.scenario.lie.is_some(), "{command}");
        found.lie = pair.scenario.lie;
        assert_eq!(format!("{found:?}"), format!("{:?}", pair.scenario), "{command}");
    }
}

#[test]
fn without_flags_the_table_is_played_and_with_a_page_the_matrix_too() {
    let of = |line: &str| {
        let request = args(line).request().unwrap();
        (!request.pairs.is_empty(), request.kinds.len(), request.seeds)
    };
    assert_eq!(of(""), (true, 0, Some(SEEDS)));
    assert_eq!(of("--matrix --seeds 7"), (false, 17, Some(7)));
    assert_eq!(of("--kinds public,remap"), (false, 2, Some(SEEDS)));
    assert_eq!(of("--html lab.html"), (true, 17, Some(SEEDS)));
    assert_eq!(of("--html lab.html --kinds public --full"), (true, 1, None));
}

#[test]
fn only_chooses_rows_by_their_group_or_pair() {
    let of = |line: &str| args(line).request().unwrap().pairs;
    assert!(of("--only birthday").iter().all(|pair| pair.group == Group::Birthday));
    let words = ["lab", "--only", "REMAP x remap"];
    let request = Line::try_parse_from(words).unwrap().args.request().unwrap();
    assert!(!request.pairs.is_empty());
    assert!(request.pairs.iter().all(|pair| pair.name.starts_with("remap × remap")));
    assert!(args("--only nonsense").request().is_err());
    assert!(args("--only birthday --matrix").request().is_err());
}

#[test]
fn flags_of_one_pair_want_a_pair() {
    for line in ["--loss 10", "--trace", "--seed 3", "--ipv6", "--incident rebind"] {
        assert!(refused(line), "{line}");
    }
    for line in ["--matrix --pair public,remap", "--seeds 0", "--threads 0", "--full --seeds 3"] {
        assert!(refused(line), "{line}");
    }
}
