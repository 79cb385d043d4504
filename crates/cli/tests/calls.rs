//! `--peer ID` where the other side waits for a call: it needs neither a room nor this side's id.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{Program, Served};

/// A key in a file of its own, as the flag has it.
fn identity(folder: &Path, name: &str) -> [String; 2] {
    ["--identity".to_owned(), folder.join(name).to_str().unwrap().to_owned()]
}

/// The id with which a program has begun.
async fn id_of(program: &mut Program) -> String {
    let line = program.log.line("worker ").await;
    line.strip_prefix("worker ").unwrap().to_owned()
}

/// A program with `--accept`, and its id.
async fn accepting(served: &Served, arguments: &[&str]) -> (Program, String) {
    let mut program = served.by_code(arguments);
    let id = id_of(&mut program).await;
    program.log.line("waiting for a call").await;
    (program, id)
}

#[tokio::test]
async fn a_file_is_sent_to_whoever_waits_for_a_call_without_a_room_or_a_code() {
    let served = Served::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "hello").unwrap();
    let into = folder.path().join("in");
    let (mut receiving, id) =
        accepting(&served, &["receive", into.to_str().unwrap(), "--accept", "--yes"]).await;
    let sending = served.by_code(&["send", file.to_str().unwrap(), "--peer", &id]).end().await;
    assert_eq!(sending.code, Some(0), "{sending:?}");
    receiving.log.line("linked with ").await;
    let received = receiving.end().await;
    assert_eq!(received.code, Some(0), "{received:?}");
    assert_eq!(std::fs::read_to_string(into.join("notes.txt")).unwrap(), "hello");
    let command = format!("on the other side:  holepunch send FILE --peer {id}");
    assert!(received.err.contains(&command), "{}", received.err);
    assert!(received.err.contains("whoever calls this id is the peer"), "{}", received.err);
}

#[tokio::test]
async fn a_stranger_who_runs_something_else_does_not_end_a_receiver_that_waits_for_calls() {
    let served = Served::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "hello").unwrap();
    let into = folder.path().join("in");
    let (mut receiving, id) =
        accepting(&served, &["receive", into.to_str().unwrap(), "--accept", "--yes"]).await;
    for stranger in [&["chat"][..], &["receive", "--yes"]] {
        let ended = served.by_code(&[stranger, &["--peer", &id]].concat()).end().await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        receiving.log.line("waiting for another call").await;
    }
    let sending = served.by_code(&["send", file.to_str().unwrap(), "--peer", &id]).end().await;
    assert_eq!((sending.code, receiving.end().await.code), (Some(0), Some(0)), "{sending:?}");
}

#[tokio::test]
async fn whoever_names_its_callers_is_linked_with_them_alone() {
    let served = Served::start().await;
    let keys = tempfile::tempdir().unwrap();
    let [friends, own] = ["friend", "own"].map(|name| identity(keys.path(), name));
    let (friend, id) = accepting(&served, &["chat", "--accept", &friends[0], &friends[1]]).await;
    friend.signal("INT").await;
    friend.end().await;
    let accept = format!("--accept={id}");
    let (mut waiting, called) = accepting(&served, &["pipe", &accept, &own[0], &own[1]]).await;
    let mut stranger = served.by_code(&["pipe", "--peer", &called]);
    stranger.log.line("perhaps it lets others call it alone (--accept=ID there)").await;
    let friend = served.by_code(&["pipe", "--peer", &called, &friends[0], &friends[1]]).end().await;
    assert_eq!(friend.code, Some(0), "{friend:?}");
    waiting.log.line(&format!("linked with {id}")).await;
    let waiting = waiting.end().await;
    assert_eq!(waiting.code, Some(0), "{waiting:?}");
    assert!(!waiting.err.contains("whoever calls this id"), "{}", waiting.err);
}

#[tokio::test]
async fn whoever_waits_in_a_room_is_called_from_elsewhere_only_where_it_says_so() {
    let served = Served::start().await;
    let mut closed = served.program(&["pipe"], "tea", &[]);
    let id = id_of(&mut closed).await;
    closed.log.line("waiting for the peer in the room").await;
    let mut caller = served.by_code(&["pipe", "--peer", &id]);
    caller.log.line("no worker with this id can be called at ").await;
    let mut open = served.program(&["pipe"], "tea 2", &["--accept"]);
    let id = id_of(&mut open).await;
    open.log.line("waiting for the peer in the room").await;
    let caller = served.by_code(&["pipe", "--peer", &id]).end().await;
    assert_eq!(caller.code, Some(0), "{caller:?}");
    assert_eq!(open.end().await.code, Some(0));
}

#[tokio::test]
async fn what_cannot_be_meant_is_said_before_anybody_is_called() {
    let served = Served::start().await;
    for (arguments, why) in [
        (&["receive", "--accept"][..], "nobody can be asked here"),
        (&["receive", "--accept", "--yes", "7-guitar-fox"], "--accept beside a code"),
        (&["chat", "--accept", "--peer", "abc"], "waits for a call, or calls"),
        (&["chat", "--accept=\u{1}"], "--accept"),
    ] {
        let ended = served.by_code(arguments).end().await;
        assert_eq!(ended.code, Some(2), "{arguments:?} {ended:?}");
        assert!(ended.err.contains(why), "{arguments:?} {}", ended.err);
    }
}
