//! What stands in `deploy/` against the program: units, packages, Compose, Kubernetes, Terraform.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::markdown::code_spans;
use crate::{none_of, read, repository};

/// What stands before the name of a variable that a program is given, in each of the forms.
const BEFORE: [&str; 6] =
    ["name: ", "Environment=", "ENV ", "name = \"", "name  = \"", "--set-secrets="];

/// The files below a folder, but for the stand-ins of tests.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() {
            found.push(path);
        } else if name != "testing" {
            found.extend(files(&format!("{folder}/{name}")));
        }
    }
    found
}

/// The word in capitals at the beginning of a text, if it is a whole one.
fn word(text: &str) -> Option<&str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    let ends = behind.chars().next().is_none_or(|c| "=:,\" }".contains(c));
    (word.len() > 2 && ends).then_some(word)
}

/// The variables that a file gives to programs.
fn given(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let is_compose = path.ends_with("compose.yaml");
    let lines =
        text.lines().map(|line| line.trim().trim_start_matches("# ").trim_start_matches("- "));
    let found = lines.flat_map(|line| {
        let marked = BEFORE.iter().filter_map(move |before| word(line.split_once(before)?.1));
        // A mapping of Compose, and a list of variables of a script.
        let key = is_compose.then(|| word(line).filter(|it| line[it.len()..].starts_with(": ")));
        let listed = line.split_once("$(variables ").map_or("", |(_, list)| list);
        let listed = listed.split([' ', '"']).filter_map(|part| word(part.split_once('=')?.0));
        marked.chain(key.flatten()).chain(listed)
    });
    found.map(str::to_owned).collect()
}

#[test]
fn every_variable_of_a_recipe_is_a_setting() {
    let document = read("docs/settings.md");
    let known: BTreeSet<&str> = code_spans(&document).into_iter().collect();
    let (mut faults, mut found) = (Vec::new(), BTreeSet::new());
    for path in files("deploy") {
        for name in given(&path) {
            if !known.contains(name.as_str()) {
                faults.push(format!("{}: {name} is no setting", path.display()));
            }
            found.insert(name);
        }
    }
    none_of(&faults);
    for name in ["STORE", "RELAY_KEY", "STUN_LISTEN", "LISTEN", "TRUSTED_PROXY", "IDENTITY"] {
        assert!(
            found.contains(name),
            "{name} is given nowhere: is it looked for in the right places?"
        );
    }
}

#[test]
fn every_command_of_a_unit_is_one_that_the_program_takes() {
    let units = files("deploy/systemd");
    let mut count = 0;
    for path in units.iter().filter(|path| path.extension().is_some_and(|end| end == "service")) {
        let text = std::fs::read_to_string(path).unwrap();
        let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let parsed = holepunch_cli::command().try_get_matches_from(command.split(' '));
        assert!(parsed.is_ok(), "{}: {command}", path.display());
        assert!(text.contains("\nType=notify\n"), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 3);
}

/// Every example of a setting in a file of the package is one, those in comments as well.
#[test]
fn every_settings_file_of_the_package_is_good() {
    let folder = tempfile::tempdir().unwrap();
    for service in ["rendezvous", "relay", "worker"] {
        let text = read(&format!("deploy/debian/{service}.toml"));
        let is_set =
            |line: &&str| line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
        let certificates = repository().join("crates/rendezvous/tests/certificates");
        let lines = text.lines().map(|line| line.trim_start_matches("# ")).filter(is_set);
        let all: String = lines.map(|line| format!("{line}\n")).collect();
        let at = |name: &str| certificates.join(name).display().to_string();
        let all = all.replace("/etc/holepunch/tls/fullchain.pem", &at("one.pem"));
        let all = all.replace("/etc/holepunch/tls/privkey.pem", &at("one.key"));
        let path = folder.path().join(service);
        std::fs::write(&path, &all).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_holepunch"))
            .args([service, "--check-config", "--config"])
            .arg(&path)
            .env_clear()
            .env("RELAY_KEY", "0123456789abcdef0123456789abcdef")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && !all.is_empty(), "{service}: {said}\n{all}");
    }
}

/// Exit code of the script where something that it needs is missing.
const MISSING: i32 = 3;

#[test]
fn the_services_of_compose_link_two_workers_and_outlive_one_of_two_rendezvous() {
    let mut check = Command::new(repository().join("scripts/check-compose"));
    let ended = check.arg("--binary").arg(env!("CARGO_BIN_EXE_holepunch")).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    if ended.status.code() == Some(MISSING) {
        // As the laboratory, it has to run where that has to.
        let is_required = std::env::var_os("HOLEPUNCH_LAB_REQUIRED").is_some_and(|it| it == "1");
        return assert!(!is_required, "{said}");
    }
    assert!(ended.status.success(), "{said}");
}
