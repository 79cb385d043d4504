//! `scripts/release-tarball`, with the binary of the tests.

use std::os::unix::fs::PermissionsExt;
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

/// Makes one, and tells its name.
fn make(out: &Path, binary: &Path, strip: &str) -> String {
    let mut command = Command::new(repository().join("scripts/release-tarball"));
    command.arg("--binary").arg(binary).arg("--out").arg(out);
    let made = output(command.env("SOURCE_DATE_EPOCH", "1").env("STRIP", strip));
    Path::new(made.trim()).file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_tarball_has_a_program_that_runs_and_what_belongs_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let name = make(folder.path(), Path::new(env!("CARGO_BIN_EXE_holepunch")), "strip");
    let within = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(folder.path());
        command
    };
    output(within("sha256sum").args(["-c", &format!("{name}.sha256")]));
    output(within("tar").args(["xzf", &name]));
    let inside = folder.path().join(name.strip_suffix(".tar.gz").unwrap());
    for file in [
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "docs/settings.md",
        "docs/picture.svg",
        "man/man1/holepunch-send.1",
        "completions/holepunch.fish",
    ] {
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
    let program = one.path().join("program");
    std::fs::write(&program, "#!/bin/sh\n[ \"$1\" != --version ] || echo holepunch 7\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let name = make(one.path(), &program, "true");
    assert!(name.starts_with("holepunch-7-"), "{name}");
    assert_eq!(make(other.path(), &program, "true"), name);
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
