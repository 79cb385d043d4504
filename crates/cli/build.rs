//! Tells the crate which commit it is built from: `HOLEPUNCH_COMMIT`, as a packager sets it, else what git says of the
//! repository, else "unknown".

use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that a packager sets, and that the crate is compiled with.
const VARIABLE: &str = "HOLEPUNCH_COMMIT";
/// Hexadecimal digits of a commit: enough for repositories of any size.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let given = std::env::var(VARIABLE).ok().filter(|commit| !commit.trim().is_empty());
    let commit = match given {
        Some(commit) => commit.trim().to_owned(),
        // Whoever develops commits often, and each change here links every test anew.
        None if std::env::var("PROFILE").is_ok_and(|profile| profile == "debug") => {
            "unknown, a debug build".to_owned()
        }
        None => match repository(&root()).and_then(|root| Some((commit(&root)?, root))) {
            Some((commit, root)) => {
                for file in watched(&root) {
                    println!("cargo::rerun-if-changed={}", file.display());
                }
                commit
            }
            None => "unknown".to_owned(),
        },
    };
    println!("cargo::rustc-env={VARIABLE}={commit}");
}

/// The folder of the whole project.
fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    own.join("../..")
}

/// The project's folder, where it is that of a repository. The source may also lie in a repository of somebody else, such as
/// a packager's.
pub(crate) fn repository(root: &Path) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let of_git = PathBuf::from(git(&root, &["rev-parse", "--show-toplevel"])?);
    (of_git.canonicalize().ok()? == root).then_some(root)
}

/// The commit that is checked out.
pub(crate) fn commit(root: &Path) -> Option<String> {
    git(root, &["rev-parse", &format!("--short={DIGITS}"), "HEAD"])
}

/// The files of git that change with the commit: HEAD, what it points to, packed or not, and the log of both. Files that are
/// not there are left out, since Cargo takes each of those for a change.
pub(crate) fn watched(root: &Path) -> Vec<PathBuf> {
    let branch = git(root, &["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let path = |name| Some(root.join(git(root, &["rev-parse", "--git-path", name])?));
    names.filter_map(path).filter(|path| path.exists()).collect()
}

/// What git answers, in one line.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
