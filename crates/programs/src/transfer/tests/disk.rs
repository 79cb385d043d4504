//! Disks that are full or cannot be written to. Each test runs itself again in a mount namespace of its
//! own, which goes away with the process; where that is not permitted, it says so and tests nothing.

use super::super::wire::{FromReceiver, FromSender};
use super::hostile::{Raw, file};
use super::*;
use std::process::{Command, Output};

/// Set where a test runs in its namespace: the folder of the mount.
const MOUNTED: &str = "HOLEPUNCH_TEST_MOUNT";
/// The exit code of the shell where nothing could be mounted.
const NOT_PERMITTED: i32 = 77;

/// The folder of a small file system, within its namespace; outside, runs the test in there.
#[expect(clippy::print_stderr, reason = "whoever reads the test's output is to know")]
fn mounted(test: &str, options: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(MOUNTED) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o \"$1\" tmpfs \"$2\" || exit 77; exec \"$3\" --exact \"$4\"";
    let path = folder.path().to_str().unwrap();
    let program = std::env::current_exe().unwrap();
    let ended = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", options, path])
        .arg(program)
        .arg(format!("transfer::tests::disk::{test}"))
        .env(MOUNTED, path)
        .output();
    let code = ended.as_ref().map_or(Some(NOT_PERMITTED), |ended| ended.status.code());
    if let (Some(0), Ok(ended)) = (code, &ended) {
        has_run(ended);
        return None;
    }
    // `unshare` itself has 1 where it is not permitted, and so has a failed test: the mark tells them apart.
    let may_mount = Command::new("unshare").args(["--mount", "true"]).status();
    if code == Some(NOT_PERMITTED) || !may_mount.is_ok_and(|status| status.success()) {
        eprintln!("not tested: mounting a file system is not permitted here");
        return None;
    }
    panic!("failed in its namespace: {ended:?}");
}

/// A name that no test has would be no failure, and nothing would have been tested.
fn has_run(ended: &Output) {
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{ended:?}");
}

#[tokio::test]
async fn a_file_without_room_is_refused_before_it_is_sent_and_smaller_ones_go_on() {
    let test = "a_file_without_room_is_refused_before_it_is_sent_and_smaller_ones_go_on";
    let Some(into) = mounted(test, "size=1m") else { return };
    let folders = Folders::new();
    folders.write("a-large", &bytes(1, 3_000_000));
    folders.write("b-small", b"fits");
    let sources = [folders.source("a-large"), folders.source("b-small")];
    let (sent, received) = transfer(&sources, &into, ReceiveOptions::default()).await;
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert!(failure(&sent).contains("no space is left"), "{sent:?}");
    assert!(failure(&received).contains("no space is left"), "{received:?}");
    assert_eq!((sent.bytes_transferred, received.files_completed), (4, 1));
    assert_eq!(fs::read(into.join("b-small")).unwrap(), b"fits");
}

#[tokio::test]
async fn a_disk_that_fills_up_within_a_file_fails_it_and_leaves_what_came() {
    let test = "a_disk_that_fills_up_within_a_file_fails_it_and_leaves_what_came";
    let Some(into) = mounted(test, "size=1m") else { return };
    let (a, b, _sockets) = testing::pair().await;
    let playing = async {
        let mut raw = Raw::sender(&a).await;
        raw.list(vec![file("file", 900_000)]).await;
        raw.hear().await.unwrap();
        raw.say(&FromSender::File { index: 0, from: 0 }).await;
        fs::write(into.join("ballast"), vec![0; 700_000]).unwrap();
        raw.content(&bytes(1, 200_000)).await;
        raw.content(&bytes(1, 700_000)).await;
        let Some(FromReceiver::Results(results)) = raw.hear().await else { panic!("a result") };
        raw.say(&FromSender::Failed { index: 0, reason: "given up".to_owned() }).await;
        raw.end().await;
        results
    };
    let progress = silent();
    let options = ReceiveOptions::default();
    let (results, received) = tokio::join!(playing, receive(&b, &into, options, &progress));
    let told = results[0].1.clone().unwrap();
    assert!(told.contains("no space is left"), "{told}");
    assert!(failure(&received.unwrap()).contains("no space is left"));
    assert!(fs::metadata(&partials(&into)[0]).unwrap().len() >= 200_000);
    assert!(!into.join("file").exists());
}

#[tokio::test]
async fn a_file_beyond_the_limit_of_sizes_fails_alone() {
    const LIMITED: &str = "HOLEPUNCH_TEST_FILE_LIMIT";
    const BLOCKS: &str = "2048";
    if std::env::var_os(LIMITED).is_none() {
        let test = "transfer::tests::disk::a_file_beyond_the_limit_of_sizes_fails_alone";
        let mut limited = Command::new("sh");
        limited.args([
            "-c",
            "ulimit -f \"$1\" || exit 1; exec \"$2\" --exact \"$3\"",
            "sh",
            BLOCKS,
        ]);
        limited.arg(std::env::current_exe().unwrap()).arg(test).env(LIMITED, "1");
        return has_run(&limited.output().unwrap());
    }
    let folders = Folders::new();
    let (a, b, _sockets) = testing::pair().await;
    let playing = async {
        let mut raw = Raw::sender(&a).await;
        raw.list(vec![file("large", 3_000_000), file("small", 4)]).await;
        raw.hear().await.unwrap();
        raw.say(&FromSender::File { index: 0, from: 0 }).await;
        for _ in 0..3 {
            raw.content(&bytes(1, 1_000_000)).await;
        }
        raw.say(&FromSender::Failed { index: 0, reason: "given up".to_owned() }).await;
        raw.say(&FromSender::File { index: 1, from: 0 }).await;
        raw.content(b"fits").await;
        raw.say(&FromSender::End { hash: blake3::hash(b"fits").into() }).await;
        raw.end().await;
    };
    let (progress, options) = (silent(), ReceiveOptions::default());
    let ((), received) =
        tokio::join!(playing, receive(&b, folders.into.path(), options, &progress));
    let received = received.unwrap();
    assert!(failure(&received).contains("ulimit -f"), "{received:?}");
    assert_eq!(fs::read(folders.target("small")).unwrap(), b"fits");
}

#[tokio::test]
async fn a_file_system_that_is_read_only_fails_each_file_with_the_reason() {
    let test = "a_file_system_that_is_read_only_fails_each_file_with_the_reason";
    let Some(into) = mounted(test, "size=1m,ro") else { return };
    let folders = Folders::new();
    folders.write("tree/file", b"x");
    folders.write("alone", b"y");
    let sources = [folders.source("tree"), folders.source("alone")];
    let refused = check_folder(&into.join("new/deep")).unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    let refused = check_folder(&into).unwrap_err().to_string();
    assert!(refused.contains("read-only"), "{refused}");
    let (sent, received) = transfer(&sources, &into, ReceiveOptions::default()).await;
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!((sent.failed, received.failed), (3, 3));
    assert!(received.failures.iter().all(|it| it.reason.contains("read-only")), "{received:?}");
}

#[tokio::test]
async fn a_folder_that_is_a_file_is_told_before_anything_is_sent() {
    let folders = Folders::new();
    folders.write("file", b"x");
    fs::write(folders.target("here"), b"").unwrap();
    let sources = [folders.source("file")];
    let (sent, received) =
        transfer(&sources, &folders.target("here"), ReceiveOptions::default()).await;
    let received = received.unwrap_err().to_string();
    assert!(received.contains("here"), "{received}");
    let sent = sent.unwrap_err().to_string();
    assert!(sent.contains("the peer has closed the link"), "{sent}");
}
