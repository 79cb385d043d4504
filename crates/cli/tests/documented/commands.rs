//! The commands that the documents name.

use crate::links::documents;
use crate::markdown::fences;
use crate::{none_of, read, scenarios};

/// What a block of code may be; `sh` is a command.
const KINDS: [&str; 9] =
    ["sh", "text", "json", "toml", "rust", "nginx", "caddy", "haproxy", "apache"];

/// The documents whose commands count: README, and all below `docs`.
fn of_people() -> impl Iterator<Item = String> {
    documents().into_iter().filter(|path| path == "README.md" || path.starts_with("docs/"))
}

#[test]
fn every_block_of_code_says_what_it_is() {
    let mut faults = Vec::new();
    for path in of_people() {
        for fence in fences(&read(&path)) {
            if !KINDS.contains(&fence.info.as_str()) {
                let (line, info) = (fence.line, fence.info);
                faults.push(format!("{path}:{line}: {info:?}: expected one of {KINDS:?}"));
            }
            if fence.lines.iter().any(|line| line.contains("```")) {
                faults.push(format!("{path}:{}: a fence within a fence", fence.line));
            }
        }
    }
    none_of(&faults);
}

/// The commands that are not run here, by how they begin, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo run ", "it builds: `.ci/run` does, and the tests of each crate run what is built"),
    ("cargo test ", "it is the test command itself, or one that measures"),
    ("sudo ", "it needs root, and measures"),
    ("scripts/bench-", "it measures"),
    ("ADMIN_TOKEN=", "the tests of the rendezvous run it, with a free port"),
    ("STORE=", "the tests of the store run several, with a Redis server of their own"),
    ("RELAY_KEY=", "the tests of the relay run both, with free ports"),
    ("ssh ", "there is no SSH server: a test's own server takes its place"),
    ("turnserver ", "the tests of TURN run it, with free ports"),
    ("time ", "it carries 3 GB"),
    ("dd ", "it carries 3 GB"),
    ("holepunch load relay", "it measures"),
    ("holepunch load stay", "it measures"),
    (
        "holepunch bench --room x --seconds 2 --json --wait-direct-sec 1",
        "as the one without a wait",
    ),
    ("holepunch bench --room x --seconds 4", "as the one of 2 s"),
    ("holepunch bench --room x --json", "as the one of 2 s"),
    ("holepunch lab --only birthday", "it plays for minutes in a build for tests"),
    ("holepunch lab --html", "it plays for minutes in a build for tests"),
    ("holepunch invite", "the tests of programs run it"),
    ("holepunch forward --room", "the tests of `forward` run rooms of many, and UDP"),
    (
        "holepunch rendezvous --listen 0.0.0.0:443",
        "the tests of TLS run it, with certificates of their own",
    ),
    (
        "holepunch rendezvous --print-config",
        "the tests of a managed service run it, with settings of their own",
    ),
    ("holepunch rendezvous --check-config", "as `--print-config`"),
    ("holepunch token ", "the tests of tokens run it"),
    ("holepunch rendezvous --auth token", "the tests of tokens run it, with free ports"),
    ("holepunch worker --token-file", "the tests of tokens run it"),
    ("holepunch login https://rendezvous.example --token-file", "the tests of tokens run it"),
    ("holepunch rendezvous --stun-listen", "the addresses are those of somebody's network"),
];
/// Those that `lab` plays for minutes, by the whole line.
const LONG: [&str; 2] = ["holepunch lab", "holepunch lab --matrix"];

/// The commands of a block, without comments, each in one line.
fn commands_of(lines: &[String]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut begun = String::new();
    for line in lines {
        let line = line.split(" # ").next().unwrap_or_default().trim();
        match line.strip_suffix('\\') {
            Some(part) => begun = format!("{begun}{} ", part.trim()),
            None => commands.push(std::mem::take(&mut begun) + line),
        }
    }
    commands.retain(|command| !command.is_empty() && !command.starts_with('#'));
    commands
}

/// All commands of the documents, with their places.
fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in of_people() {
        for fence in fences(&read(&path)).iter().filter(|fence| fence.info == "sh") {
            let place = format!("{path}:{}", fence.line);
            found.extend(
                commands_of(&fence.lines).into_iter().map(|command| (place.clone(), command)),
            );
        }
    }
    found
}

fn is_run(command: &str) -> bool {
    scenarios::ALL.iter().any(|commands| commands.contains(&command))
}

fn is_not_run(command: &str) -> bool {
    LONG.contains(&command) || NOT_RUN.iter().any(|(start, _)| command.starts_with(start))
}

#[test]
fn every_command_of_the_documents_is_run_or_there_is_a_reason() {
    let all = all();
    let mut faults = Vec::new();
    for (place, command) in &all {
        if !is_run(command) && !is_not_run(command) {
            faults.push(format!(
                "{place}: {command:?} is neither in a scenario (scenarios.rs) nor in NOT_RUN with the reason"
            ));
        }
    }
    let is_there = |command: &&&str| all.iter().any(|(_, there)| there == **command);
    let gone =
        scenarios::ALL.iter().flat_map(|commands| commands.iter()).filter(|it| !is_there(it));
    faults.extend(gone.map(|command| format!("no document has {command:?} (any more)")));
    let is_begun =
        |start: &str| all.iter().any(|(_, there)| there.starts_with(start) && !is_run(there));
    let unused = NOT_RUN.iter().filter(|(start, _)| !is_begun(start));
    faults.extend(unused.map(|(start, _)| format!("NOT_RUN has {start:?}, which no document has")));
    none_of(&faults);
}

#[test]
fn every_command_line_of_the_program_is_one_that_it_takes() {
    let mut faults = Vec::new();
    for (place, command) in all() {
        for part in command.split(['|', '<', '>', '(', ')']) {
            let words =
                part.split_whitespace().skip_while(|word| *word == "time" || word.contains('='));
            let words: Vec<&str> = words.collect();
            if words.first() != Some(&"holepunch") {
                continue;
            }
            if let Err(why) = holepunch_cli::command().try_get_matches_from(words) {
                faults.push(format!("{place}: {part}: {why}"));
            }
        }
    }
    none_of(&faults);
}
