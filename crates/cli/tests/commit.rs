//! From which commit a binary says that it is built.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "the build script has more than is tested")]
#[path = "../build.rs"]
mod build;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn git(folder: &Path, arguments: &[&str]) {
    let own = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "gc.auto=0"];
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").current_dir(folder).args(own).args(arguments);
    assert!(command.output().unwrap().status.success(), "git {arguments:?}");
}

fn commit(folder: &Path) -> String {
    git(folder, &["commit", "--quiet", "--allow-empty", "--message", "a step"]);
    build::commit(folder).unwrap()
}

/// What Cargo looks at to see whether the commit is another one.
fn watched(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    build::watched(folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn the_commit_is_that_of_the_own_repository_and_a_file_that_is_watched_changes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    git(root, &["init", "--quiet", "--initial-branch", "main"]);
    let first = commit(root);
    assert!(first.len() == 12 && first.bytes().all(|it| it.is_ascii_hexdigit()), "{first}");
    assert_eq!(build::repository(root), Some(root.canonicalize().unwrap()));
    let before = watched(root);
    git(root, &["commit", "--quiet", "--amend", "--allow-empty", "--message", "another step"]);
    assert_ne!(build::commit(root).unwrap(), first);
    assert!(before.iter().any(|(path, was)| fs::read(path).unwrap() != *was), "{before:?}");
    let before = watched(root);
    git(root, &["checkout", "--quiet", "-b", "other"]);
    assert!(before.iter().any(|(path, was)| fs::read(path).unwrap() != *was), "{before:?}");
}

#[test]
fn a_working_tree_beside_the_repository_has_its_own_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (main, side) = (folder.path().join("main"), folder.path().join("side"));
    fs::create_dir(&main).unwrap();
    git(&main, &["init", "--quiet", "--initial-branch", "main"]);
    let first = commit(&main);
    git(&main, &["worktree", "add", "--quiet", "-b", "side", side.to_str().unwrap()]);
    assert_eq!(build::commit(&side).as_deref(), Some(&*first));
    let before = watched(&side);
    assert_ne!(commit(&side), first);
    assert!(before.iter().any(|(path, was)| fs::read(path).unwrap() != *was), "{before:?}");
    assert_eq!(build::repository(&side), Some(side.canonicalize().unwrap()));
}

#[test]
fn sources_within_somebody_elses_repository_have_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--initial-branch", "main"]);
    commit(folder.path());
    let sources = folder.path().join("holepunch");
    fs::create_dir(&sources).unwrap();
    assert_eq!(build::repository(&sources), None);
    assert_eq!(build::repository(&folder.path().join("nothing")), None);
}
