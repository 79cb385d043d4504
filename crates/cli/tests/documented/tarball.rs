//! `scripts/release-tarball`, with the binary of the tests.

use std::path::Path;
use std::process::Command;

use crate::repository;

/// What a command prints; it has to succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

fn make(out: &Path) -> String {
    let script = repository().join("scripts/release-tarball");
    let binary = env!("CARGO_BIN_EXE_holepunch");
    let mut command = Command::new(script);
    let made = output(command.args(["--binary", binary, "--out"]).arg(out).env("SOURCE_DATE_EPOCH", "1"));
    Path::new(made.trim()).file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_tarball_has_a_program_that_runs_and_what_belongs_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let name = make(folder.path());
    let within = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(folder.path());
        command
    };
    output(within("sha256sum").args(["-c", &format!("{name}.sha256")]));
    output(within("tar").args(["xzf", &name]));
    let inside = folder.path().join(name.strip_suffix(".tar.gz").unwrap());
    for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "docs/settings.md", "docs/picture.svg"] {
        assert!(inside.join(file).exists(), "{file} is in {name}");
    }
    let version = output(Command::new(inside.join("holepunch")).arg("--version"));
    let number = env!("CARGO_PKG_VERSION");
    assert!(version.starts_with(&format!("holepunch {number}")), "{version}");
    assert!(name.starts_with(&format!("holepunch-{number}-")), "{name}");
}

#[test]
fn the_same_binary_makes_the_same_tarball() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = make(one.path());
    assert_eq!(make(other.path()), name);
    let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
    assert!(read(one.path()) == read(other.path()), "they differ");
}

#[test]
fn what_is_no_argument_is_a_usage_error() {
    let script = repository().join("scripts/release-tarball");
    let output = Command::new(script).arg("--nonsense").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("unknown argument --nonsense") && text.contains("Usage:"), "{text}");
}
