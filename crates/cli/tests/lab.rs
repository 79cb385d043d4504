//! `holepunch lab`, the real binary.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::Program;
use common::program::Ended;
use holepunch_sim::lab::{Scenario, catalogue};
use serde_json::Value;

async fn lab(arguments: &[&str]) -> Ended {
    Program::end_of(&[&["lab"], arguments].concat(), &[]).await
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|why| panic!("{why}: {ended:?}"))
}

/// A row whose links are sometimes too slow, and a seed of either kind: half of the birthday's links
/// may take longer than the median that is required.
fn seeds_of_a_search() -> (String, u64, u64) {
    let rows = catalogue();
    let row = rows.iter().find(|row| row.name == "hard-apdf-random × eim-apdf").unwrap();
    let most = row.requirement.p50.unwrap();
    let is_slow = |seed: &u64| row.scenario.run(*seed).link_time.is_none_or(|time| time > most);
    let slow = (0..200).find(is_slow).unwrap();
    let fast = (0..200).find(|seed| !is_slow(seed)).unwrap();
    (row.name.clone(), slow, fast)
}

#[tokio::test]
async fn what_is_required_and_holds_ends_with_0_and_what_does_not_with_1() {
    let (name, slow, fast) = seeds_of_a_search();
    let of = async |seed: u64| {
        let seed = seed.to_string();
        lab(&["--only", &name, "--seeds", "1", "--first-seed", &seed]).await
    };
    let ended = of(fast).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains(&format!("✓ {name}")), "{}", ended.out);
    assert!(ended.out.ends_with("1 pair, 1 history: all as required"), "{}", ended.out);
    let ended = of(slow).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains(&format!("✗ {name}")), "{}", ended.out);
    let replay = format!("holepunch lab --pair hard-apdf-random,eim-apdf --seed {slow} --trace");
    assert!(ended.out.contains(&replay), "{}", ended.out);
}

#[tokio::test]
async fn the_same_seeds_make_the_same_result_whatever_the_number_of_threads() {
    let of = async |threads: &str| {
        lab(&["--only", "remap", "--seeds", "20", "--json", "--threads", threads]).await
    };
    let (one, four) = (of("1").await, of("4").await);
    assert_eq!(one.code, Some(0), "{one:?}");
    assert_eq!(one.out, four.out);
}

#[tokio::test]
async fn only_chooses_rows_and_a_text_that_nothing_contains_is_a_usage_error() {
    let ended = lab(&["--only", "LATE", "--seeds", "1", "--json"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = json(&ended);
    let rows = report["requirements"].as_array().unwrap();
    let is_late =
        |row: &Value| row["group"] == "late" || row["pair"].as_str().unwrap().contains("late");
    assert!(!rows.is_empty() && rows.iter().all(is_late), "{rows:?}");
    assert_eq!(report["matrix"], Value::Null);
    let ended = lab(&["--only", "nonsense"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
    assert!(ended.err.contains("nonsense") && ended.err.contains("birthday"), "{}", ended.err);
}

#[tokio::test]
async fn a_kind_that_there_is_not_is_a_usage_error_with_near_names() {
    for arguments in [["--pair", "eim-adpf,public"], ["--kinds", "public,eim-adpf"]] {
        let ended = lab(&arguments).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
        assert!(ended.err.contains("eim-adpf") && ended.err.contains("eim-apdf"), "{}", ended.err);
    }
}

#[tokio::test]
async fn the_matrix_has_a_cell_for_every_two_kinds() {
    let arguments = ["--matrix", "--kinds", "public,full-cone,udp-blocked", "--seeds", "2"];
    let ended = lab(&[&arguments[..], &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = json(&ended);
    let cells = report["matrix"]["cells"].as_array().unwrap();
    let pair = |cell: &Value| {
        format!("{} {}", cell["first"].as_str().unwrap(), cell["second"].as_str().unwrap())
    };
    assert_eq!(cells.len(), 9);
    assert_eq!(pair(&cells[1]), "public full-cone");
    assert_eq!(cells[2]["oracle"], "impossible");
    assert_eq!(report["requirements"], Value::Array(Vec::new()));
    let ended = lab(&arguments).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains(" 3 udp-blocked"), "{}", ended.out);
}

#[tokio::test]
async fn the_page_is_written_with_the_matrix_and_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lab.html");
    let path = file.to_str().unwrap();
    let arguments = ["--html", path, "--seeds", "1", "--only", "late", "--kinds", "public,remap"];
    let ended = lab(&arguments).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.contains(&format!("holepunch lab --html {path} --seeds 1 --only late")));
    for text in ["<span>remap</span>", "<b>late</b>", "5 minutes late"] {
        assert!(page.contains(text), "{text}");
    }
    let nowhere = folder.path().join("no/such/folder.html");
    let ended = lab(&["--html", nowhere.to_str().unwrap(), "--seeds", "1"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("cannot write"), "{}", ended.err);
}

#[tokio::test]
async fn a_history_is_told_line_by_line() {
    let ended =
        lab(&["--pair", "remap,eim-apdf", "--lag", "0,150", "--seed", "4", "--trace"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("signalling later by 0 ms and 150 ms"), "{}", ended.out);
    let mut scenario = Scenario::new("remap".parse().unwrap(), "eim-apdf".parse().unwrap());
    scenario.lag = [Duration::ZERO, Duration::from_millis(150)];
    let took = scenario.run(4).link_time.unwrap();
    let took = format!("direct path: {:.0} ms", took.as_secs_f64() * 1000.0);
    assert!(ended.out.contains(&took), "{took}: {}", ended.out);
}

#[tokio::test]
async fn one_pair_is_summed_up_in_words_and_as_json() {
    let pair = ["--pair", "eim-apdf,udp-blocked", "--seeds", "3"];
    let ended = lab(&pair).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("no packet of one ever gets to the other"), "{}", ended.out);
    let ended = lab(&[&pair[..], &["--json"]].concat()).await;
    let report = json(&ended);
    assert_eq!((&report["histories"], &report["relay"]["count"]), (&3.into(), &3.into()));
    assert_eq!(report["scenario"]["second"], "udp-blocked");
}

#[tokio::test]
async fn all_kinds_are_listed_with_a_sentence_each() {
    let ended = lab(&["--list"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let list = lab(&["--list", "--json"]).await;
    let kinds = json(&list);
    let kinds = kinds.as_array().unwrap();
    assert_eq!(ended.out.lines().count(), kinds.len() + 1);
    for kind in kinds {
        let [name, sentence] = ["name", "description"].map(|field| kind[field].as_str().unwrap());
        let is_its = |line: &str| line.starts_with(name) && line.ends_with(sentence);
        assert!(ended.out.lines().any(is_its), "{name}: {}", ended.out);
    }
}

#[tokio::test]
async fn an_interrupted_run_ends_with_130() {
    let mut program = Program::run(&["lab", "--full", "--log", "info"], &[]);
    program.log.entry("playing").await;
    program.signal("INT").await;
    let ended = program.end().await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(130), ""), "{ended:?}");
    assert!(ended.err.contains("interrupted"), "{}", ended.err);
}
