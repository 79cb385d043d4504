//! Many histories at once, and what is said of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroUsize;
use std::time::Duration;

use holepunch_sim::lab::{Group, Pair, Requirement, Scenario, Summary, catalogue};
use holepunch_sim::presets::NatKind;
use holepunch_sim::report::{
    Control, Job, Made, Report, Request, RunError, Style, html, json, one, replay, run, text, trace,
};
use serde_json::Value;

fn kind(name: &str) -> NatKind {
    name.parse().unwrap()
}

fn scenario(first: &str, second: &str) -> Scenario {
    Scenario::new(kind(first), kind(second))
}

fn played(jobs: &[Job], threads: usize) -> Vec<Summary> {
    run(jobs, NonZeroUsize::new(threads).unwrap(), &Control::default()).unwrap()
}

fn report(request: &Request) -> Report {
    request.report(played(&request.jobs(), 2))
}

/// Two rows, of which the second cannot be as required, and a matrix of three kinds.
fn small() -> Report {
    let pair = |name: &str, scenario: Scenario, requirement| Pair {
        group: Group::Plain,
        name: name.to_owned(),
        scenario,
        requirement,
        seeds: 1000,
    };
    let possible = Requirement { direct: Some(0.9), ..Requirement::default() };
    let impossible = Requirement { p50: Some(Duration::from_millis(1)), ..possible };
    let pairs = vec![
        pair("eim-apdf × public", scenario("eim-apdf", "public"), possible),
        pair("too <b>fast</b> & \"so\"", scenario("eim-apdf", "eim-apdf"), impossible),
    ];
    let kinds = ["public", "hard-apdf-random", "udp-blocked"].map(kind).to_vec();
    report(&Request { first_seed: 7, seeds: Some(3), pairs, kinds })
}

fn made() -> Made {
    Made { command: "holepunch lab --only '<script>'".to_owned(), version: "1.2.3".to_owned() }
}

#[test]
fn a_seed_makes_one_history() {
    for each in [scenario("eim-apdf", "hard-apdf-random"), scenario("remap", "remap")] {
        assert_eq!(each.run(5), each.run(5));
        assert_eq!(each.run(5), each.trace(5).0, "whether it is watched or not");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut lossy = scenario("eim-apdf", "firewall");
    lossy.loss = 0.1;
    // More than one chunk of seeds each, the last one not full.
    let job = |scenario: &Scenario, seeds| Job { scenario: scenario.clone(), first_seed: 3, seeds };
    let jobs = [
        job(&lossy, 50),
        job(&scenario("hard-apdf-block64", "eim-apdf"), 17),
        job(&scenario("udp-blocked", "public"), 1),
    ];
    let alone = played(&jobs, 1);
    assert_eq!(alone, played(&jobs, 4));
    let outcomes: Vec<_> = (3..53).map(|seed| lossy.run(seed)).collect();
    assert_eq!(alone[0], Summary::of(&outcomes, false));
    let counts: Vec<usize> = alone.iter().map(|summary| summary.direct.of).collect();
    assert_eq!(counts, [50, 17, 1]);
}

#[test]
fn a_run_that_is_stopped_has_no_result() {
    let control = Control::default();
    control.stop();
    let job = Job { scenario: scenario("public", "public"), first_seed: 0, seeds: 5 };
    let result = run(&[job], NonZeroUsize::MIN, &control);
    assert_eq!((result, control.done()), (Err(RunError::Stopped), 0));
}

#[test]
fn a_panic_names_the_job_and_the_seed() {
    let fine = Job { scenario: scenario("public", "public"), first_seed: 0, seeds: 1 };
    let mut broken = fine.clone();
    broken.first_seed = 40;
    broken.scenario.lie = Some(|_| panic!("no profile"));
    let result = run(&[fine, broken], NonZeroUsize::MIN, &Control::default());
    let expected = RunError::Panicked { job: 1, seed: 40, text: "no profile".to_owned() };
    assert_eq!(result, Err(expected));
}

#[test]
fn what_does_not_hold_is_said_with_the_command_that_shows_it() {
    let report = small();
    assert_eq!(report.violated(), 1);
    assert_eq!(report.rows[0].violations, []);
    let violation = &report.rows[1].violations[0];
    assert!(violation.text.starts_with("p50 ") && violation.text.ends_with(" > 1 ms"));
    let seed = violation.seed.unwrap();
    assert!((7..10).contains(&seed));
    let text = text(&report, Style::default());
    assert!(text.contains("✓ eim-apdf × public"), "{text}");
    assert!(text.contains("✗ too <b>fast</b>"), "{text}");
    assert!(text.contains(&violation.text), "{text}");
    let command = format!("holepunch lab --pair eim-apdf,eim-apdf --seed {seed} --trace");
    assert!(text.contains(&command), "{text}");
    assert!(text.ends_with("11 pairs, 33 histories: 1 NOT AS REQUIRED\n"), "{text}");
}

#[test]
fn a_cell_below_what_the_oracle_allows_is_a_violation() {
    // Nothing is lost on one way and everything is different on the next: summaries that belong to
    // others.
    let request = Request {
        first_seed: 0,
        seeds: Some(2),
        pairs: Vec::new(),
        kinds: ["public", "udp-blocked"].map(kind).to_vec(),
    };
    let mut summaries = played(&request.jobs(), 1);
    summaries.swap(0, 3);
    let report = request.report(summaries);
    let texts: Vec<Vec<&str>> = report
        .matrix
        .as_ref()
        .unwrap()
        .cells
        .iter()
        .map(|cell| cell.violations.iter().map(|it| it.text.as_str()).collect())
        .collect();
    let short = "direct 0 % < 99.9 %; the oracle says: plain checks suffice";
    let impossible = "a direct path that the oracle rules out";
    assert_eq!(texts, [vec![short], vec![], vec![], vec![impossible]]);
    assert_eq!(report.violated(), 2);
}

#[test]
fn the_tables_of_all_pairs_fit_on_a_narrow_terminal_with_every_cell_of_the_matrix() {
    let kinds = holepunch_sim::report::usual_kinds();
    let request = Request { first_seed: 0, seeds: Some(1), pairs: catalogue(), kinds };
    let report = report(&request);
    for columns in [60, 80] {
        let text = text(&report, Style { columns: Some(columns), ..Style::default() });
        // Prose is broken where it is printed.
        let has_numbers = |line: &&str| line.contains("100.00") || line.starts_with(" 1 ");
        assert!(text.lines().filter(has_numbers).count() > 100, "{text}");
        for line in text.lines().filter(has_numbers) {
            assert!(line.chars().count() <= columns, "{}: {line}", line.chars().count());
        }
        let head = |number: usize| format!(" {number:>4} ");
        let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
        let is_head =
            |line: &&str| line.starts_with("     ") && line.split_whitespace().all(is_number);
        let heads = text.lines().filter(is_head);
        let heads: String = heads.map(|line| format!("{line} \n")).collect();
        for number in 1..=request.kinds.len() {
            assert_eq!(heads.matches(&head(number)).count(), 2, "{number}: {heads}");
        }
    }
}

#[test]
fn the_text_of_all_pairs_fits_on_a_terminal_of_120_columns() {
    let kinds = holepunch_sim::report::usual_kinds();
    let request = Request { first_seed: 0, seeds: Some(2), pairs: catalogue(), kinds };
    let report = report(&request);
    let text = text(&report, Style::default());
    for line in text.lines().filter(|line| !line.contains("holepunch lab --pair")) {
        assert!(line.chars().count() <= 120, "{}: {line}", line.chars().count());
    }
    for pair in catalogue() {
        let kinds = format!("{} × {}", pair.scenario.first, pair.scenario.second);
        assert!(text.contains(&kinds), "{kinds}");
    }
}

#[test]
fn json_has_the_fields_that_are_promised() {
    let report: Value = serde_json::from_str(&json(&small())).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let fields =
        ["first_seed", "format", "histories", "matrix", "requirements", "seeds", "violated"];
    assert_eq!(sorted(keys(&report)), fields);
    assert_eq!(
        (&report["format"], &report["first_seed"], &report["seeds"]),
        (&1.into(), &7.into(), &3.into())
    );
    let measured = [
        "direct",
        "failed_seeds",
        "histories",
        "link_ms",
        "link_round_trips",
        "new_flows_per_second",
        "packets",
        "packets_before_verdict",
        "reasons",
        "relay",
        "repair_ms",
        "repaired",
        "round_trip_ms",
        "sockets",
        "strategies",
        "unsettled",
        "verdict_ms",
    ];
    let with = |more: &[&str]| {
        sorted(measured.iter().chain(more).map(|field| (*field).to_owned()).collect())
    };
    let row = &report["requirements"][0];
    assert_eq!(sorted(keys(row)), with(&["group", "pair", "required", "scenario", "violations"]));
    assert_eq!(row["group"], "plain");
    assert_eq!(row["scenario"]["first"], "eim-apdf");
    assert_eq!(row["required"]["direct"], 0.9);
    assert_eq!(row["direct"]["count"], 3);
    assert_eq!(row["direct"]["share"], 1.0);
    assert_eq!(row["round_trip_ms"], 160.0);
    assert!(row["link_ms"]["p50"].as_f64().unwrap() >= 160.0);
    let violation = &report["requirements"][1]["violations"][0];
    assert!(violation["replay"].as_str().unwrap().ends_with("--trace"));
    let cells = report["matrix"]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 9);
    let oracles: Vec<&str> = cells.iter().map(|cell| cell["oracle"].as_str().unwrap()).collect();
    let expected = ["plain", "plain", "impossible", "plain", "hopeless"];
    assert_eq!(oracles[..5], expected);
    assert_eq!(
        sorted(keys(&cells[4])),
        with(&["excuse", "first", "oracle", "required_direct", "second", "violations"])
    );
    assert_eq!(
        (&cells[4]["required_direct"], &cells[0]["required_direct"]),
        (&Value::Null, &0.999.into())
    );
    assert_eq!(report["matrix"]["kinds"][2]["name"], "udp-blocked");
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn the_page_shows_everything_and_needs_nothing_else() {
    let report = small();
    let page = html(&report, &made());
    for kind in &report.matrix.as_ref().unwrap().kinds {
        assert!(page.contains(&format!("<span>{kind}</span>")), "{kind}");
    }
    assert_eq!(page.matches("class=\"tip\"").count(), 9);
    assert!(page.contains("eim-<wbr>apdf × public"));
    assert!(page.contains("<b>11</b> pairs") && page.contains("<b>33</b> histories"));
    assert!(page.contains("1.2.3") && page.contains("the seeds 7 to 9 for each pair"));
    assert!(page.contains("--pair eim-apdf,eim-apdf --seed"));
    for foreign in ["http:", "https:", "src=", "@import", "url(", "<link", "<img", "<iframe"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn nothing_in_the_page_is_taken_for_markup() {
    let page = html(&small(), &made());
    assert!(page.contains("too &lt;b&gt;fast&lt;/b&gt; &amp; &quot;so&quot;"));
    assert!(page.contains("holepunch lab --only &#39;&lt;script&gt;&#39;"));
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
}

#[test]
fn a_history_is_told_in_words() {
    let (outcome, text) = trace(&scenario("hard-apdf-random", "eim-apdf"), 5, Style::default());
    assert_eq!(outcome, scenario("hard-apdf-random", "eim-apdf").run(5));
    for words in [
        "first",
        "second",
        "← offer",
        "→ accepts plan",
        "LINKED with worker-1 at",
        "times more until",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    assert!(!text.contains('{') && !text.contains("Some("), "{text}");
}

#[test]
fn one_pair_is_told_in_words() {
    let mut disturbed = scenario("eim-apdf", "full-cone");
    disturbed.incident = holepunch_sim::lab::Incident::Rebind;
    let job = Job { scenario: disturbed.clone(), first_seed: 0, seeds: 4 };
    let text = one(&disturbed, &played(&[job], 2)[0], Style::default());
    for words in [
        "plain checks suffice",
        "100.00 % of 4 histories",
        "repaired",
        "RTT",
        "forgets its mappings",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn the_command_names_what_is_unusual_and_nothing_else() {
    assert_eq!(
        replay(&scenario("public", "remap"), 3),
        "holepunch lab --pair public,remap --seed 3 --trace"
    );
    let mut unusual = scenario("public", "remap");
    unusual.loss = 0.1;
    unusual.bursts = true;
    unusual.lag = [Duration::ZERO, Duration::from_millis(150)];
    unusual.later = Duration::from_secs(300);
    assert_eq!(
        replay(&unusual, 0),
        "holepunch lab --pair public,remap --loss 10 --bursts --lag 0,150 --later 300 --seed 0 --trace"
    );
}
