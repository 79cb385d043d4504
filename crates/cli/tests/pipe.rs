//! `holepunch pipe` as processes, with real pipes and files at their ends.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::process::Stdio;

use common::{Served, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;

/// More than every queue and window on the way holds.
const BYTES: usize = 64 * 1024 * 1024;

/// How a process has ended: its code, and what it has said.
async fn end(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    let mut log = child.stderr.take().unwrap();
    let (status, _) =
        within("the end", async { tokio::join!(child.wait(), log.read_to_string(&mut said)) })
            .await;
    (status.unwrap().code(), said)
}

fn content() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; BYTES];
    blake3::Hasher::new().update(b"pipe").finalize_xof().fill(&mut bytes);
    std::fs::write(folder.path().join("source"), &bytes).unwrap();
    (folder, bytes)
}

#[tokio::test]
async fn what_goes_in_comes_out_and_both_know() {
    let served = Served::start().await;
    let (folder, bytes) = content();
    let open = |name: &str| File::open(folder.path().join(name)).unwrap();
    let target = File::create(folder.path().join("target")).unwrap();
    let receiving = served.command(&["pipe"], "tea").stdout(target).spawn().unwrap();
    let sending = served.command(&["pipe", "--json"], "tea").stdin(open("source")).spawn().unwrap();
    let (received, sent) = tokio::join!(end(receiving), end(sending));
    assert_eq!((received.0, sent.0), (Some(0), Some(0)), "{received:?} {sent:?}");
    assert!(std::fs::read(folder.path().join("target")).unwrap() == bytes);
    let counted = format!(r#""sent_bytes":{BYTES},"received_bytes":0"#);
    assert!(sent.1.contains(&counted), "{}", sent.1);
}

#[tokio::test]
async fn the_end_of_one_direction_is_passed_on_while_the_other_one_is_open() {
    let served = Served::start().await;
    let ((mut heard, output), (input, mut open)) = (pipe().unwrap(), pipe().unwrap());
    // The command goes at once, and with it what this process holds of the output.
    let asking = served.command(&["pipe"], "tea").stdin(input).stdout(output).spawn().unwrap();
    let (answer, mut answering) = pipe().unwrap();
    answering.write_all(b"all").unwrap();
    drop(answering);
    let answering = served.command(&["pipe"], "tea").stdin(answer).spawn().unwrap();
    let came = spawn_blocking(move || {
        let mut came = String::new();
        heard.read_to_string(&mut came).map(|_| came)
    });
    assert_eq!(within("the end of the output", came).await.unwrap().unwrap(), "all");
    open.write_all(b"more").unwrap();
    drop(open);
    let (asked, answered) = tokio::join!(end(asking), end(answering));
    assert_eq!((asked.0, answered.0), (Some(0), Some(0)), "{asked:?} {answered:?}");
}

/// Starts it, and returns when it is linked; the rest of what it says is read by nobody.
async fn linked(mut command: Command) -> (Child, BufReader<tokio::process::ChildStderr>) {
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    within("the link", async {
        let mut line = String::new();
        while !line.contains("linked with") {
            line.clear();
            assert!(log.read_line(&mut line).await.unwrap() > 0, "it has ended");
        }
    })
    .await;
    (child, log)
}

#[tokio::test]
async fn an_input_and_an_output_that_stall_hold_up_nobody_who_ends_it() {
    let served = Served::start().await;
    let ((_unread, output), (input, _open)) = (pipe().unwrap(), pipe().unwrap());
    let mut stalled = served.command(&["pipe"], "tea");
    stalled.stdin(input).stdout(output);
    let mut endless = served.command(&["pipe"], "tea");
    endless.stdin(Stdio::from(File::open("/dev/zero").unwrap()));
    let (stalled, endless) = tokio::join!(linked(stalled), linked(endless));
    let ((mut stalled, _log), (mut endless, _other_log)) = (stalled, endless);
    let kill = format!("kill -INT {}", stalled.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    let interrupted = within("the end of the one", stalled.wait()).await.unwrap();
    let left = within("the end of the other one", endless.wait()).await.unwrap();
    assert_eq!((interrupted.code(), left.code()), (Some(130), Some(1)));
}

#[tokio::test]
async fn a_full_disk_is_told_on_both_sides() {
    let served = Served::start().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let zero = File::open("/dev/zero").unwrap();
    let receiving = served.command(&["pipe"], "tea").stdout(full).spawn().unwrap();
    let sending = served.command(&["pipe"], "tea").stdin(zero).spawn().unwrap();
    let (received, sent) = tokio::join!(end(receiving), end(sending));
    assert_eq!((received.0, sent.0), (Some(1), Some(1)), "{received:?} {sent:?}");
    assert!(received.1.contains("cannot write the output: No space left"), "{}", received.1);
}

#[tokio::test]
async fn a_chat_whose_output_is_a_file_beyond_the_limit_of_sizes_fails_with_the_reason() {
    let served = Served::start().await;
    let target = tempfile::tempfile().unwrap();
    let (line, mut typing) = pipe().unwrap();
    typing.write_all(b"hello\n").unwrap();
    drop(typing);
    // It hears: one that had ended its own side might leave before anything came.
    let (open, _typing) = pipe().unwrap();
    let mut limited = served.command_under("-f 0", &["chat", "--json"], "tea");
    let limited = limited.stdin(open).stdout(target).spawn();
    let talking = served.command(&["chat"], "tea").stdin(line).spawn().unwrap();
    let (told, _) = tokio::join!(end(limited.unwrap()), end(talking));
    assert_eq!(told.0, Some(1), "{told:?}");
    assert!(told.1.contains("File too large"), "{}", told.1);
}

#[tokio::test]
async fn a_file_beyond_the_limit_of_sizes_is_told_on_both_sides() {
    let served = Served::start().await;
    let (folder, _) = content();
    let source = File::open(folder.path().join("source")).unwrap();
    let target = File::create(folder.path().join("target")).unwrap();
    // Bash counts in 1,024 bytes, other shells in 512: less than the source has in either.
    let limited = served.command_under("-f 2048", &["pipe"], "tea").stdout(target).spawn();
    let sending = served.command(&["pipe"], "tea").stdin(source).spawn().unwrap();
    let (received, sent) = tokio::join!(end(limited.unwrap()), end(sending));
    assert_eq!((received.0, sent.0), (Some(1), Some(1)), "{received:?} {sent:?}");
    let told = received.1.contains("cannot write the output") && received.1.contains("ulimit -f");
    assert!(told, "{}", received.1);
}
