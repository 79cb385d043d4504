//! Ctrl-C on a terminal, at every stage of a program over a link: the exit code is 130, the terminal is left as it was, and
//! the peer learns of it at once.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::terminal::{EndedThere, Terminal};
use common::{Program, Served};

/// Ctrl-C, as the terminal has it.
const INTERRUPT: &str = "\u{3}";
/// More than is transferred by then, and no byte of it on a disk.
const LARGE_BYTES: u64 = 4 << 30;

/// The variables by which a program finds its rendezvous.
fn variables(served: &Served) -> Vec<(&'static str, String)> {
    let (http, stun) = served.addresses();
    vec![
        ("RENDEZVOUS_SERVICE_URL", format!("http://{http}")),
        ("STUN_SERVERS", stun.to_owned()),
        ("NO_PORT_MAPPING", "true".to_owned()),
    ]
}

fn run(served: &Served, arguments: &[&str]) -> Terminal {
    let variables = variables(served);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Terminal::run(80, arguments, &variables)
}

/// A file, and the folder that it is in.
fn large() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    std::fs::File::create(&path).unwrap().set_len(LARGE_BYTES).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// The code that a program prints for the other side.
async fn code(program: &mut Program) -> String {
    let line = program.log.line("on the other side:").await;
    line.rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn before_the_rendezvous_answers() {
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let variables = [("RENDEZVOUS_SERVICE_URL", url.as_str()), ("STUN_SERVERS", "127.0.0.1:9")];
    let (_folder, file) = large();
    for arguments in [
        &["send", &file][..],
        &["receive", "7-abandon-ability"],
        &["chat"],
        &["pipe"],
        &["pipe", "--room", "tea"],
    ] {
        let arguments = [arguments, &["--no-port-mapping"]].concat();
        let steps = [("connecting to", INTERRUPT)];
        Terminal::run(80, &arguments, &variables).interrupted(&steps).await;
    }
}

#[tokio::test]
async fn while_the_peer_is_waited_for() {
    let served = Served::start().await;
    let (_folder, file) = large();
    for arguments in [&["send", &file][..], &["receive", "7-abandon-ability"], &["chat"], &["pipe"]]
    {
        run(&served, arguments).interrupted(&[("waiting for the", INTERRUPT)]).await;
    }
}

#[tokio::test]
async fn at_the_question_for_the_code() {
    let served = Served::start().await;
    run(&served, &["receive"]).interrupted(&[("completes a word)", INTERRUPT)]).await;
    let mistyped = [
        ("completes a word)", "7 aband abilitx\r"),
        ("is not a word", ""),
        ("completes a word)", INTERRUPT),
    ];
    run(&served, &["receive"]).interrupted(&mistyped).await;
}

#[tokio::test]
async fn at_the_question_whether_to_take_it() {
    let served = Served::start().await;
    let (folder, file) = large();
    let mut sender = served.by_code(&["send", &file]);
    let code = code(&mut sender).await;
    let into = folder.path().join("in");
    let steps = [("take it? [y/N]", INTERRUPT)];
    run(&served, &["receive", &code, into.to_str().unwrap()]).interrupted(&steps).await;
    let sender = sender.end().await;
    assert_eq!(sender.code, Some(1), "{sender:?}");
    assert!(sender.err.contains("interrupted"), "{}", sender.err);
    assert!(!into.exists());
    // What comes while a question stands there begins a line of its own.
    let mut sender = served.by_code(&["send", &file]);
    let asked = self::code(&mut sender).await;
    let mut receiver = run(&served, &["receive", &asked, into.to_str().unwrap()]);
    receiver.until("take it? [y/N]").await;
    sender.log.line("the other side is being asked").await;
    sender.signal("INT").await;
    let left = receiver.left(&[]).await;
    assert!(left.code == 1 && left.has_line("holepunch: the link has ended"), "{left:?}");
}

#[tokio::test]
async fn in_the_middle_of_what_is_received() {
    let served = Served::start().await;
    let (folder, file) = large();
    let mut sender = served.by_code(&["send", &file]);
    let code = code(&mut sender).await;
    let into = folder.path().join("in");
    let arguments = ["receive", &code, into.to_str().unwrap(), "--yes"];
    run(&served, &arguments).interrupted(&[("large [", INTERRUPT)]).await;
    let sender = sender.end().await;
    assert_eq!(sender.code, Some(1), "{sender:?}");
    assert!(sender.err.contains("interrupted"), "{}", sender.err);
}

#[tokio::test]
async fn in_the_middle_of_what_is_sent() {
    let served = Served::start().await;
    let (folder, file) = large();
    let into = folder.path().join("in");
    let room = ["--room", "middle"];
    let steps = [("large [", INTERRUPT)];
    let sending = run(&served, &[&["send", &file][..], &room].concat());
    let receiving = served.by_code(&[&["receive", into.to_str().unwrap()][..], &room].concat());
    sending.interrupted(&steps).await;
    let receiving = receiving.end().await;
    assert_eq!(receiving.code, Some(1), "{receiving:?}");
    assert!(receiving.err.contains("interrupted"), "{}", receiving.err);
}

/// Two programs in a room, each on a terminal: the first is interrupted, the second learns of it.
async fn in_a_room(program: &str, steps: [&[(&str, &str)]; 2]) -> EndedThere {
    let served = Served::start().await;
    let arguments = [program, "--room", "tea"];
    let (first, second) = (run(&served, &arguments), run(&served, &arguments));
    tokio::join!(first.interrupted(steps[0]), second.left(steps[1])).1
}

#[tokio::test]
async fn in_a_chat_with_half_a_line_typed() {
    let first = [(": hi", "half a li"), ("half a li", INTERRUPT)];
    let left = in_a_room("chat", [&first, &[("Ctrl-D to end", "hi\n")]]).await;
    assert_eq!(left.code, 0, "an interruption is the end of a chat: {}", left.written);
    assert!(left.written.contains("the peer has left"), "{}", left.written);
    assert!(!left.written.contains("half a li"), "{}", left.written);
}

#[tokio::test]
async fn in_a_pipe_before_and_after_the_end_of_what_is_typed() {
    let before = [("hoy!", INTERRUPT)];
    let left = in_a_room("pipe", [&before, &[("linked with", "hoy!\n")]]).await;
    assert_eq!(left.code, 1, "what comes is not complete: {}", left.written);
    let behind = [("hoy!", "typed\n\u{4}"), ("typed", INTERRUPT)];
    let left = in_a_room("pipe", [&behind, &[("linked with", "hoy!\n")]]).await;
    assert_eq!(left.code, 1, "what was sent was perhaps not wanted: {}", left.written);
}

#[tokio::test]
async fn a_terminal_at_which_nothing_is_typed_ends_with_the_peers_pipe() {
    let served = Served::start().await;
    let mut peer = served.by_code_with(&["pipe"], &[], "all of it");
    let code = code(&mut peer).await;
    let left = run(&served, &["pipe", &code]).left(&[]).await;
    assert_eq!(left.code, 0, "{}", left.written);
    let says = |text: &str| left.written.contains(text);
    assert!(
        says("all of it") && says("nothing was typed here: this is the end"),
        "{}",
        left.written
    );
    assert_eq!(peer.end().await.code, Some(0));
}

#[tokio::test]
async fn without_a_rendezvous_the_question_for_the_code_says_that_it_has_to_name_one() {
    let steps = [
        ("the code has to name one", "7-abandon-ability\r"),
        ("names no rendezvous", ""),
        ("a word)", INTERRUPT),
    ];
    Terminal::run(80, &["receive"], &[]).interrupted(&steps).await;
    let ended = Program::end_of(&["receive"], &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("the URL of the rendezvous is missing"), "{}", ended.err);
}
