//! Ctrl-C on a terminal, at every stage of a program over a link: the exit code is 130, the terminal is left as it was, and
//! the peer learns of it at once.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{Program, Served, within};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Ctrl-C, as the terminal has it.
const INTERRUPT: &str = "\u{3}";
/// A busy machine may take its time.
const WITHIN_S: u64 = 40;
/// More than is transferred by then, and no byte of it on a disk.
const LARGE_BYTES: u64 = 4 << 30;

/// A program on a terminal of its own.
struct Terminal {
    _child: Child,
    told: Lines<BufReader<ChildStdout>>,
}

/// How it has ended.
#[derive(Debug)]
struct Left {
    code: i64,
    said: String,
}

impl Terminal {
    /// Runs it; each step waits for a text, and types another one.
    async fn run(arguments: &[&str], variables: &[(&str, &str)], steps: &[(&str, &str)]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/terminal.py");
        let mut child = Command::new("python3")
            .arg(script)
            .env_clear()
            .envs([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("TERM", "xterm")])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let command = [&[env!("CARGO_BIN_EXE_holepunch")][..], arguments].concat();
        let asked = json!({ "command": command, "steps": steps, "within": WITHIN_S });
        let mut input = child.stdin.take().unwrap();
        input.write_all(format!("{asked}\n").as_bytes()).await.unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, told }
    }

    async fn next(&mut self) -> Value {
        let line = within("the terminal", self.told.next_line()).await.unwrap();
        let told: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert!(told.get("error").is_none(), "{told:#}");
        told
    }

    /// Its end, in which the terminal is as it was.
    async fn left(mut self) -> Left {
        loop {
            let told = self.next().await;
            if told.get("seen").is_some() {
                continue;
            }
            assert_eq!(told["is_sane"], true, "{told:#}");
            assert_eq!(told["cursor_is_hidden"], false, "{told:#}");
            let said = told["said"].as_str().unwrap().to_owned();
            return Left { code: told["code"].as_i64().unwrap(), said };
        }
    }

    /// The end of a program that was interrupted.
    async fn interrupted(self) -> Left {
        let left = self.left().await;
        assert_eq!(left.code, 130, "{}", left.said);
        left
    }
}

/// The variables by which a program finds its rendezvous.
fn variables(served: &Served) -> Vec<(&'static str, String)> {
    let (http, stun) = served.addresses();
    vec![
        ("RENDEZVOUS_SERVICE_URL", format!("http://{http}")),
        ("STUN_SERVERS", stun.to_owned()),
        ("NO_PORT_MAPPING", "true".to_owned()),
    ]
}

async fn run(served: &Served, arguments: &[&str], steps: &[(&str, &str)]) -> Terminal {
    let variables = variables(served);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Terminal::run(arguments, &variables, steps).await
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
        Terminal::run(&arguments, &variables, &steps).await.interrupted().await;
    }
}

#[tokio::test]
async fn while_the_peer_is_waited_for() {
    let served = Served::start().await;
    let (_folder, file) = large();
    for arguments in [&["send", &file][..], &["receive", "7-abandon-ability"], &["chat"], &["pipe"]]
    {
        run(&served, arguments, &[("waiting for the", INTERRUPT)]).await.interrupted().await;
    }
}

#[tokio::test]
async fn at_the_question_for_the_code() {
    let served = Served::start().await;
    run(&served, &["receive"], &[("completes a word)", INTERRUPT)]).await.interrupted().await;
    let mistyped = [
        ("completes a word)", "7 aband abilitx\r"),
        ("is not a word", ""),
        ("completes a word)", INTERRUPT),
    ];
    run(&served, &["receive"], &mistyped).await.interrupted().await;
}

#[tokio::test]
async fn at_the_question_whether_to_take_it() {
    let served = Served::start().await;
    let (folder, file) = large();
    let mut sender = served.by_code(&["send", &file]);
    let code = code(&mut sender).await;
    let into = folder.path().join("in");
    let steps = [("take it? [y/N]", INTERRUPT)];
    run(&served, &["receive", &code, into.to_str().unwrap()], &steps).await.interrupted().await;
    let sender = sender.end().await;
    assert_eq!(sender.code, Some(1), "{sender:?}");
    assert!(sender.err.contains("interrupted"), "{}", sender.err);
    assert!(!into.exists());
}

#[tokio::test]
async fn in_the_middle_of_what_is_received() {
    let served = Served::start().await;
    let (folder, file) = large();
    let mut sender = served.by_code(&["send", &file]);
    let code = code(&mut sender).await;
    let into = folder.path().join("in");
    let arguments = ["receive", &code, into.to_str().unwrap(), "--yes"];
    run(&served, &arguments, &[("large [", INTERRUPT)]).await.interrupted().await;
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
    let sending = run(&served, &[&["send", &file][..], &room].concat(), &steps).await;
    let receiving = served.by_code(&[&["receive", into.to_str().unwrap()][..], &room].concat());
    sending.interrupted().await;
    let receiving = receiving.end().await;
    assert_eq!(receiving.code, Some(1), "{receiving:?}");
    assert!(receiving.err.contains("interrupted"), "{}", receiving.err);
}

/// Two programs in a room, each on a terminal: the first is interrupted, the second learns of it.
async fn in_a_room(program: &str, steps: [&[(&str, &str)]; 2]) -> Left {
    let served = Served::start().await;
    let arguments = [program, "--room", "tea"];
    let first = run(&served, &arguments, steps[0]).await;
    let second = run(&served, &arguments, steps[1]).await;
    first.interrupted().await;
    second.left().await
}

#[tokio::test]
async fn in_a_chat_with_half_a_line_typed() {
    let first = [(": hi", "half a li"), ("half a li", INTERRUPT)];
    let left = in_a_room("chat", [&first, &[("Ctrl-D to end", "hi\n")]]).await;
    assert_eq!(left.code, 0, "an interruption is the end of a chat: {}", left.said);
    assert!(left.said.contains("the peer has left"), "{}", left.said);
    assert!(!left.said.contains("half a li"), "{}", left.said);
}

#[tokio::test]
async fn in_a_pipe_before_and_after_the_end_of_what_is_typed() {
    let before = [("hoy!", INTERRUPT)];
    let left = in_a_room("pipe", [&before, &[("linked with", "hoy!\n")]]).await;
    assert_eq!(left.code, 1, "what comes is not complete: {}", left.said);
    let behind = [("hoy!", "typed\n\u{4}"), ("typed", INTERRUPT)];
    let left = in_a_room("pipe", [&behind, &[("linked with", "hoy!\n")]]).await;
    assert_eq!(left.code, 1, "what was sent was perhaps not wanted: {}", left.said);
}

#[tokio::test]
async fn a_terminal_at_which_nothing_is_typed_ends_with_the_peers_pipe() {
    let served = Served::start().await;
    let mut peer = served.by_code_with(&["pipe"], &[], "all of it");
    let code = code(&mut peer).await;
    let left = run(&served, &["pipe", &code], &[]).await.left().await;
    assert_eq!(left.code, 0, "{}", left.said);
    let says = |text: &str| left.said.contains(text);
    assert!(says("all of it") && says("nothing was typed here: this is the end"), "{}", left.said);
    assert_eq!(peer.end().await.code, Some(0));
}

#[tokio::test]
async fn without_a_rendezvous_the_question_for_the_code_says_that_it_has_to_name_one() {
    let steps = [
        ("the code has to name one", "7-abandon-ability\r"),
        ("names no rendezvous", ""),
        ("a word)", INTERRUPT),
    ];
    Terminal::run(&["receive"], &[], &steps).await.interrupted().await;
    let ended = Program::end_of(&["receive"], &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("the URL of the rendezvous is missing"), "{}", ended.err);
}
