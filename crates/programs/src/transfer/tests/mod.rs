//! Transfers over two real links on loopback.

mod changing;
mod disk;
mod hostile;
mod intact;
mod refusing;
mod resume;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holepunch_link::testing;
use tempfile::TempDir;

use super::{
    Listing, Progress, ReceiveOptions, Summary, TransferError, check_folder, receive, send,
};

/// A folder to send from, and one to receive into.
struct Folders {
    from: TempDir,
    into: TempDir,
}

impl Folders {
    fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder");
        Self { from: folder(), into: folder() }
    }

    fn source(&self, path: &str) -> PathBuf {
        self.from.path().join(path)
    }

    fn target(&self, path: &str) -> PathBuf {
        self.into.path().join(path)
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.source(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Sends what has these names; both sides' outcomes.
    async fn transfer(&self, names: &[&str], options: ReceiveOptions) -> Outcomes {
        let sources: Vec<PathBuf> = names.iter().map(|name| self.source(name)).collect();
        transfer(&sources, self.into.path(), options).await
    }

    /// The same, where both succeed.
    async fn sent(&self, names: &[&str]) -> (Summary, Summary) {
        let (sent, received) = self.transfer(names, ReceiveOptions::default()).await;
        (sent.unwrap(), received.unwrap())
    }
}

type Outcomes = (Result<Summary, TransferError>, Result<Summary, TransferError>);

const FORCE: ReceiveOptions = ReceiveOptions { force: true, hidden: false };

async fn transfer(sources: &[PathBuf], into: &Path, options: ReceiveOptions) -> Outcomes {
    let (a, b, _sockets) = testing::pair().await;
    let listing = Arc::new(Listing::of(sources).unwrap());
    let (sending, receiving) = (Arc::default(), Arc::default());
    let ended = tokio::join!(send(&a, &listing, &sending), receive(&b, into, options, &receiving));
    // Pauses are each side's own.
    let counts = |summary| Summary { longest_pause: Duration::ZERO, ..summary };
    (ended.0.map(counts), ended.1.map(counts))
}

/// What a transfer keeps of a file: its content (`None` for a folder), whether it is executable, and
/// when it was modified.
type Kept = (Option<Vec<u8>>, bool, i64, i64);

/// Everything below a folder.
fn tree(root: &Path) -> BTreeMap<PathBuf, Kept> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let key = path.strip_prefix(root).unwrap().to_owned();
            if metadata.is_dir() {
                found.insert(key, (None, false, 0, 0));
                open.push(path);
            } else {
                let content = Some(fs::read(&path).unwrap());
                let executable = metadata.mode() & 0o100 != 0;
                let time = (metadata.mtime(), metadata.mtime_nsec());
                found.insert(key, (content, executable, time.0, time.1));
            }
        }
    }
    found
}

/// Bytes that no part of which repeats.
fn bytes(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The unfinished files below a folder.
fn partials(root: &Path) -> Vec<PathBuf> {
    let is_partial = |path: &PathBuf| path.to_string_lossy().ends_with(".part");
    tree(root).into_keys().filter(is_partial).map(|path| root.join(path)).collect()
}

/// The one failure of a summary.
fn failure(summary: &Summary) -> String {
    assert_eq!((summary.failed, summary.failures.len()), (1, 1), "{summary:?}");
    summary.failures[0].to_string()
}

fn silent() -> Arc<Progress> {
    Arc::default()
}
