//! `holepunch send` and `holepunch receive` as processes that are killed.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Program, Served, within};
use serde_json::Value;
use tempfile::TempDir;

/// The large file, and how many small ones lie beside it.
const LARGE_BYTES: usize = 64 * MIB as usize;
const SMALL: usize = 40;
const MIB: u64 = 1 << 20;
/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// When a process is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    /// The two are linked, and nothing has come.
    Linked,
    /// So many bytes of the large file have come.
    Bytes(u64),
    /// The large file has its name; small ones are under way.
    Named,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Sender,
    Receiver,
}

/// A rendezvous and two folders.
struct Scene {
    served: Served,
    from: TempDir,
    into: TempDir,
}

impl Scene {
    async fn start() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        let scene = Self { served: Served::start().await, from: folder(), into: folder() };
        // The first by its name, so that it is sent first.
        scene.write("a-large", LARGE_BYTES);
        for number in 0..SMALL {
            scene.write(&format!("small/{number}"), number * 7919);
        }
        scene
    }

    /// Bytes that differ everywhere.
    fn write(&self, name: &str, length: usize) {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
        let path = self.from.path().join("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn side(&self, who: Who) -> Program {
        self.side_with(who, &[])
    }

    fn side_with(&self, who: Who, further: &[&str]) -> Program {
        let tree = self.from.path().join("tree");
        let (command, path) = match who {
            Who::Sender => ("send", tree.as_path()),
            Who::Receiver => ("receive", self.into.path()),
        };
        self.served.program(&[command, path.to_str().unwrap(), "--json"], "box", further)
    }

    /// What there is of the large file: its bytes, and whether it has its name.
    fn large(&self) -> (u64, bool) {
        let files = tree(self.into.path());
        let named = self.into.path().join("tree/a-large");
        let large = files.iter().find(|path| **path == named || is_partial_of(path, "a-large"));
        let bytes = large.and_then(|path| fs::metadata(path).ok()).map_or(0, |it| it.len());
        (bytes, named.exists())
    }

    /// Runs both until then, and kills one of them, then the other.
    async fn broken_off(&self, who: Who, moment: Moment) -> u64 {
        let mut sides = [self.side(Who::Receiver), self.side(Who::Sender)];
        let waiting = async {
            sides[1].log.line("linked with").await;
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                let (bytes, named) = self.large();
                match moment {
                    Moment::Linked => return,
                    Moment::Bytes(enough) if bytes >= enough && !named => return,
                    Moment::Named if named => return,
                    Moment::Bytes(_) | Moment::Named => {}
                }
                assert!(matches!(moment, Moment::Named) || !named, "too late for {moment:?}");
                looks.tick().await;
            }
        };
        within("the moment to kill", waiting).await;
        let [receiver, sender] = sides;
        let (first, second) =
            if who == Who::Receiver { (receiver, sender) } else { (sender, receiver) };
        for side in [first, second] {
            side.signal("KILL").await;
            assert_eq!(side.end().await.code, None, "{who:?} {moment:?}: it had ended before");
        }
        self.large().0
    }
}

/// Waits until so much of the large file has come.
async fn has_come(scene: &Scene, bytes: u64) {
    let coming = async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while scene.large().0 < bytes {
            looks.tick().await;
        }
    };
    within("a part of the large file", coming).await;
}

fn is_partial_of(path: &Path, name: &str) -> bool {
    let text = path.file_name().unwrap_or_default().to_string_lossy();
    text.starts_with(&format!(".{name}.")) && text.ends_with(".part")
}

/// All files below a folder.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The path below the folder and the hash of every file.
fn hashes(folder: &Path) -> Vec<(PathBuf, blake3::Hash)> {
    let hash = |path: PathBuf| {
        let hash = blake3::hash(&fs::read(&path).unwrap());
        (path.strip_prefix(folder).unwrap().to_owned(), hash)
    };
    tree(folder).into_iter().map(hash).collect()
}

fn summary(out: &str) -> Value {
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "summary", "{out}");
    last
}

#[tokio::test]
async fn a_transfer_whose_sides_are_killed_at_any_moment_goes_on_from_there() {
    let scene = Scene::start().await;
    let mut kept = 0;
    for (who, moment) in [
        (Who::Receiver, Moment::Linked),
        (Who::Receiver, Moment::Bytes(1)),
        (Who::Sender, Moment::Bytes(8 * MIB)),
        (Who::Receiver, Moment::Bytes(20 * MIB)),
        (Who::Sender, Moment::Bytes(32 * MIB)),
        (Who::Receiver, Moment::Bytes(48 * MIB)),
        (Who::Sender, Moment::Named),
    ] {
        let bytes = scene.broken_off(who, moment).await;
        assert!(bytes >= kept, "{who:?} {moment:?}: {kept} bytes were there, {bytes} are left");
        kept = bytes;
    }
    assert_eq!(kept, LARGE_BYTES as u64);
    let (receiver, sender) = (scene.side(Who::Receiver), scene.side(Who::Sender));
    let (received, sent) = tokio::join!(receiver.end(), sender.end());
    assert_eq!((received.code, sent.code), (Some(0), Some(0)), "{received:?} {sent:?}");
    assert_eq!(hashes(scene.from.path()), hashes(scene.into.path()));
    let summary = summary(&received.out);
    let count = |field: &str| summary[field].as_u64().unwrap();
    assert!(count("bytes_already_there") >= kept, "{summary}");
    assert_eq!(count("bytes_already_there") + count("bytes_transferred"), count("bytes"));
}

#[tokio::test]
async fn a_transfer_that_was_killed_once_sends_only_what_was_missing() {
    for who in [Who::Receiver, Who::Sender] {
        let scene = Scene::start().await;
        let kept = scene.broken_off(who, Moment::Bytes(24 * MIB)).await;
        let (receiver, sender) = (scene.side(Who::Receiver), scene.side(Who::Sender));
        let (received, sent) = tokio::join!(receiver.end(), sender.end());
        assert_eq!((received.code, sent.code), (Some(0), Some(0)), "{received:?} {sent:?}");
        assert_eq!(hashes(scene.from.path()), hashes(scene.into.path()));
        for out in [&received.out, &sent.out] {
            let summary = summary(out);
            assert_eq!(summary["bytes_already_there"], kept, "{who:?}: {summary}");
        }
    }
}

/// Whoever proves the same key is the same sender, and need not wait until the old process is missed.
#[tokio::test]
async fn a_sender_that_was_killed_and_is_started_again_takes_its_place_in_the_same_transfer() {
    let scene = Scene::start().await;
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key.pem");
    let mut receiver = scene.side(Who::Receiver);
    let id = receiver.log.line("worker ").await;
    receiver.log.line("waiting for the peer").await;
    let call = ["--peer", id.strip_prefix("worker ").unwrap(), "--identity", key.to_str().unwrap()];
    let killed = scene.side_with(Who::Sender, &call);
    has_come(&scene, 8 * MIB).await;
    killed.signal("KILL").await;
    assert_eq!(killed.end().await.code, None, "it had ended before");
    let sender = scene.side_with(Who::Sender, &call);
    let (received, sent) = tokio::join!(receiver.end(), sender.end());
    assert_eq!((received.code, sent.code), (Some(0), Some(0)), "{received:?} {sent:?}");
    assert_eq!(hashes(scene.from.path()), hashes(scene.into.path()));
    assert!(received.err.contains("its new link takes the place"), "{}", received.err);
    assert!(summary(&sent.out)["bytes_already_there"].as_u64().unwrap() >= 8 * MIB);
}

/// Without a key the receiver cannot know; it goes on with whoever is there when the old link has ended.
#[tokio::test]
async fn a_receiver_goes_on_with_a_sender_that_comes_when_the_old_one_is_missed() {
    let scene = Scene::start().await;
    let receiver = scene.side(Who::Receiver);
    let killed = scene.side(Who::Sender);
    has_come(&scene, 8 * MIB).await;
    killed.signal("KILL").await;
    assert_eq!(killed.end().await.code, None, "it had ended before");
    let sender = scene.side(Who::Sender);
    let (received, sent) = tokio::join!(receiver.end(), sender.end());
    assert_eq!((received.code, sent.code), (Some(0), Some(0)), "{received:?} {sent:?}");
    assert_eq!(hashes(scene.from.path()), hashes(scene.into.path()));
    assert!(received.err.contains("the link is lost"), "{}", received.err);
    // One command, one count: what the first link has brought is not sent again.
    let last = summary(&received.out);
    let count = |line: &Value, field: &str| line[field].as_u64().unwrap();
    assert_eq!((&last["bytes_done"], &last["bytes_already_there"]), (&last["bytes"], &0.into()));
    let sent_again = count(&last, "bytes_transferred") - count(&last, "bytes");
    assert!(sent_again < 8 * MIB, "{last}");
    let lines: Vec<Value> =
        received.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is = |event: &'static str| move |line: &&Value| line["event"] == event;
    let events = |line: &&Value| is("linked")(line) || is("link_lost")(line);
    let links: Vec<&str> =
        lines.iter().filter(events).map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(links, ["linked", "link_lost", "linked"]);
    let growing = lines.iter().filter(is("progress"));
    assert!(growing.is_sorted_by_key(|line| count(line, "bytes_transferred")), "{}", received.out);
}

#[tokio::test]
async fn a_peer_that_is_gone_for_good_is_told_with_all_that_had_come() {
    let scene = Scene::start().await;
    let mut receiver = scene.side(Who::Receiver);
    let killed = scene.side(Who::Sender);
    has_come(&scene, 8 * MIB).await;
    killed.signal("KILL").await;
    assert_eq!(killed.end().await.code, None, "it had ended before");
    receiver.log.line("waiting 10 s for the peer to come back").await;
    let received = receiver.end().await;
    assert_eq!(received.code, Some(1), "{received:?}");
    let gone = "the peer is gone, and has not come back within 10 s; run both commands again to go on from here (a \
                code is a new one then)";
    assert!(received.err.lines().last().unwrap().contains(gone), "{}", received.err);
    let last = summary(&received.out);
    assert_eq!(last["error"], gone);
    assert!(last["bytes_done"].as_u64().unwrap() >= 8 * MIB, "{last}");
    assert!(!last["path_history"].as_array().unwrap().is_empty(), "{last}");
}
