//! The programs on a terminal: what is shown fits it, what comes does not mix with what is typed, and nothing that is typed is
//! left for the shell.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::Stdio;

use common::terminal::Terminal;
use common::{Program, Served, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// The widths that everything is shown in.
const WIDTHS: [u16; 3] = [60, 80, 200];

/// More than is transferred by the end of a test, and no byte of it on a disk.
const LARGE_BYTES: u64 = 4 << 30;

/// Whether a text has colours or other looks of characters (ECMA-48 §8.3.117).
fn has_colours(written: &str) -> bool {
    written.split("\u{1b}[").skip(1).any(|rest| {
        let end = rest.trim_start_matches(|it: char| it.is_ascii_digit() || it == ';');
        end.starts_with('m')
    })
}

/// What was written, line by line, without what acts on the terminal.
fn lines(written: &str) -> Vec<String> {
    let mut parts = written.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.strip_prefix('[').map(|rest| {
            rest.trim_start_matches(|it: char| !it.is_ascii_alphabetic())
                .get(1..)
                .unwrap_or_default()
        });
        plain += rest.unwrap_or(part);
    }
    plain.split(['\r', '\n']).map(str::to_owned).collect()
}

/// That each line fits, but for words that are longer by themselves.
fn assert_fits(written: &str, columns: u16, what: &str) {
    for line in lines(written) {
        let width = line.chars().count();
        // What stands in quotes is one word to a shell.
        let unquoted: String = line.split('\'').step_by(2).collect();
        let words = unquoted.split_whitespace().filter(|word| *word != "\\").count();
        assert!(
            width <= usize::from(columns) || words <= 1,
            "{what}: {width} of {columns}: {line}"
        );
    }
}

/// A program at the other side of a link, with pipes.
struct Other {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn chat(served: &Served, room: &str) -> Self {
        let mut command = served.command(&["chat", "--name", "Bob"], room);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output }
    }

    async fn says(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The text of the next message that it hears.
    async fn hears(&mut self) -> String {
        let line = within("a message", self.output.next_line()).await.unwrap().unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    }

    /// Its input ends, and so does its program.
    async fn leaves(mut self) {
        drop(self.input);
        assert!(within("its end", self.child.wait()).await.unwrap().success());
    }
}

/// Whether `stty -a` shows a terminal as a shell has it.
fn is_cooked(shown: &str) -> bool {
    let modes: Vec<&str> = shown.split_whitespace().collect();
    ["icanon", "echo", "isig", "icrnl"].iter().all(|mode| modes.contains(mode))
}

const HINT: &str = "type a line to send it, Ctrl-D to end";

#[tokio::test]
async fn what_comes_stands_above_the_line_that_is_typed_also_when_the_terminal_is_resized() {
    let served = Served::start().await;
    let mut other = Other::chat(&served, "tea");
    let mut ada = Terminal::run(60, &["chat", "--name", "Ada"], &served.variables("tea"));
    ada.until(HINT).await;
    ada.typed("hel").await;
    ada.until("> hel").await;
    other.says("are you there?").await;
    let shown = ada.until_shown("the message above the line", |shown| {
        shown.contains("Bob: are you there?") && shown.ends_with("> hel")
    });
    let shown = shown.await;
    assert_eq!(shown.matches("hel").count(), 1, "{shown}");
    ada.resize(40);
    for number in 0..20 {
        other.says(&format!("number {number}")).await;
    }
    let shown = ada.until_shown("all messages above the line", |shown| {
        shown.contains("Bob: number 19") && shown.ends_with("> hel")
    });
    let shown = shown.await;
    for number in 0..20 {
        let message = format!("Bob: number {number}");
        assert_eq!(shown.lines().filter(|line| line.ends_with(&message)).count(), 1, "{shown}");
    }
    ada.typed("lo, Bob\rand a second line\r").await;
    assert_eq!(other.hears().await, "hello, Bob");
    assert_eq!(other.hears().await, "and a second line");
    ada.typed("\u{4}").await;
    let ended = ada.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    other.leaves().await;
}

#[tokio::test]
async fn what_is_typed_when_the_peer_leaves_does_not_reach_the_shell() {
    let served = Served::start().await;
    let mut other = Other::chat(&served, "tea");
    let script = r#""$0" chat; echo "ended $?"; IFS= read -r left; echo "left <$left>"; stty -a"#;
    let mut ada = Terminal::script(80, script, &served.variables("tea"));
    ada.until(HINT).await;
    ada.typed("half a line; rm -r *").await;
    ada.until("> half a line; rm -r *").await;
    other.says("bye").await;
    other.leaves().await;
    let shown = ada.until("ended 0").await;
    assert!(shown.contains("Bob: bye\n") && shown.contains("\nthe peer has left\n"), "{shown}");
    ada.typed("a line for the shell\r").await;
    let ended = ada.end().await;
    assert!(ended.shown.contains("left <a line for the shell>"), "{}", ended.shown);
    assert!(is_cooked(&ended.shown), "{}", ended.shown);
}

#[tokio::test]
async fn ctrl_c_ends_a_chat_with_130_and_the_terminal_is_as_before() {
    let served = Served::start().await;
    let mut other = Other::chat(&served, "tea");
    let script = r#""$0" chat; echo "ended $?"; stty -a"#;
    let mut ada = Terminal::script(80, script, &served.variables("tea"));
    ada.until(HINT).await;
    other.says("hello").await;
    ada.until("Bob: hello").await;
    ada.typed("not sent").await;
    ada.until("> not sent").await;
    ada.typed("\u{3}").await;
    let ended = ada.end().await;
    assert!(ended.shown.contains("ended 130"), "{}", ended.shown);
    assert!(is_cooked(&ended.shown), "{}", ended.shown);
    let prompts: Vec<&str> = ended.shown.lines().filter(|it| it.starts_with('>')).collect();
    assert_eq!(prompts, ["> not sent"], "{}", ended.shown);
    other.leaves().await;
}

#[tokio::test]
async fn a_bar_fits_the_terminal_that_is_made_narrower() {
    let (served, folder) = (Served::start().await, tempfile::tempdir().unwrap());
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(LARGE_BYTES).unwrap();
    let variables = served.variables("tea");
    let mut ada = Terminal::run(80, &["send", large.to_str().unwrap()], &variables);
    let into = folder.path().join("in");
    let _receiver = served.program(&["receive", into.to_str().unwrap()], "tea", &[]);
    ada.until("large [").await;
    for columns in [60, 40, 100] {
        ada.resize(columns);
        let shown = ada.until_shown("a bar of this width", |shown| {
            let bar = shown.lines().last().unwrap_or_default();
            let width = bar.trim_end().chars().count();
            bar.starts_with("large") && width <= usize::from(columns) && width + 30 > columns.into()
        });
        shown.await;
    }
}

/// What needs no peer, and shows something.
const ALONE: [&[&str]; 5] = [
    &["config"],
    &["invite", "--rendezvous-url", "https://a-rather-long-name.rendezvous.example"],
    &["lab", "--list"],
    &["lab", "--pair", "eim-apdf,hard-apdf-random", "--seeds", "2"],
    &["nat", "--stun-host", "127.0.0.1", "--stun-port", "9", "--timeout-sec", "1"],
];

#[tokio::test]
async fn what_is_shown_fits_the_terminal() {
    for columns in WIDTHS {
        for arguments in ALONE {
            let ended = Terminal::run(columns, arguments, &[("HOME", "/nowhere")]).end().await;
            assert!(ended.code <= 1, "{ended:?}");
            assert_fits(&ended.written, columns, &arguments.join(" "));
        }
    }
}

#[tokio::test]
async fn a_command_that_is_wrapped_means_the_same_to_a_shell() {
    let url = "https://a-rather-long-name.rendezvous.example";
    let invite = ["invite", "--rendezvous-url", url];
    let written = Terminal::run(60, &invite, &[]).end().await.written.replace('\r', "");
    let (_, commands) = written.split_once("the one that uses it:\n").unwrap();
    let command = commands.replace("holepunch", "printenv ROOM_SECRET; :");
    assert!(command.contains("\\\n"), "{command}");
    let output = tokio::process::Command::new("sh").args(["-c", &command]).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).split_whitespace().count(), 12, "{command}");
}

#[tokio::test]
async fn no_color_leaves_all_colours_out() {
    let logged: &[&str] = &["demo", "--log", "info"];
    let all = ALONE.into_iter().chain([&["--help"][..], &["send", "-h"], &["--wrong"], logged]);
    for arguments in all {
        for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let variables = [("HOME", "/nowhere"), ("CLICOLOR_FORCE", "1"), plain];
            let ended = Terminal::run(80, arguments, &variables).end().await;
            assert!(!has_colours(&ended.written), "{arguments:?}: {:?}", ended.written);
        }
    }
    for arguments in [&["--help"][..], &["--wrong"], logged] {
        let ended = Terminal::run(80, arguments, &[]).end().await;
        assert!(has_colours(&ended.written), "colours are there without it: {ended:?}");
    }
}

#[tokio::test]
async fn without_a_terminal_nothing_is_wrapped_or_coloured() {
    let variables = [("COLUMNS", "20"), ("TERM", "xterm"), ("HOME", "/nowhere")];
    let invite = ["invite", "--rendezvous-url", "https://a-rather-long-name.rendezvous.example"];
    let ended = Program::end_of(&invite, &variables).await;
    assert!(ended.out.lines().any(|line| line.chars().count() > 120), "{}", ended.out);
    assert!(!has_colours(&ended.out) && !ended.out.contains('\\'), "{}", ended.out);
    let ended =
        Program::end_of(&["demo", "--log", "info", "--log-format", "text"], &variables).await;
    assert!(!has_colours(&(ended.out + &ended.err)));
}

#[tokio::test]
async fn standard_output_has_what_the_peer_says_and_nothing_for_people() {
    let served = Served::start().await;
    let mut other = Other::chat(&served, "tea");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let script = format!(r#""$0" chat --why > '{}'"#, path.display());
    let mut ada = Terminal::script(80, &script, &served.variables("tea"));
    ada.until(HINT).await;
    other.says("one").await;
    other.says("two").await;
    other.leaves().await;
    let ended = ada.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let out = std::fs::read_to_string(path).unwrap();
    let texts: Vec<&str> = out.lines().map(|line| line.split_once("] Bob: ").unwrap().1).collect();
    assert_eq!(texts, ["one", "two"], "{out}");
    assert!(ended.shown.contains("the peer has left"), "{}", ended.shown);
}
