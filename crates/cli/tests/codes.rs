//! Codes: what one side makes up and the other side types.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::terminal::Terminal;
use common::{MAPPED, Program, Rendezvous, Served, Session, StunServer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a file to send.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes"), "what was sent").unwrap();
    folder
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

/// The code that a program has made up.
async fn code(program: &mut Program, command: &str) -> String {
    let start = format!("on the other side:  holepunch {command} ");
    let line = program.log.line(&start).await;
    line.strip_prefix(&start).unwrap().to_owned()
}

/// One with the same number and two other words.
fn wrong(code: &str) -> String {
    let number = code.split('-').next().unwrap();
    let words = if code.contains("zebra") { "abandon-ability" } else { "zebra-zoo" };
    format!("{number}-{words}")
}

#[tokio::test]
async fn a_file_goes_to_whoever_has_the_code_and_a_stranger_is_seen_and_gets_nothing() {
    let (scene, folder) = (Served::start().await, folder());
    let (notes, into) = (path(&folder, "notes"), path(&folder, "in"));
    let mut sender = scene.by_code(&["send", &notes]);
    let code = code(&mut sender, "receive").await;
    assert!(code.len() <= 20, "{code}");
    let stranger =
        scene.by_code(&["receive", &wrong(&code), &path(&folder, "stranger")]).end().await;
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(stranger.err.contains("this is not the code"), "{}", stranger.err);
    sender.log.line("somebody has come with a wrong code, and got nothing (1 of 3").await;
    // As somebody types it who was read it out; and `receive` goes without saying.
    let receiver = scene.by_code(&[&code, &into]).end().await;
    assert_eq!(receiver.code, Some(0), "{receiver:?}");
    assert_eq!(sender.end().await.code, Some(0));
    assert_eq!(std::fs::read_to_string(folder.path().join("in/notes")).unwrap(), "what was sent");
    assert!(!folder.path().join("stranger").exists(), "nothing was written for the stranger");
}

#[tokio::test]
async fn three_wrong_codes_end_it() {
    let (scene, folder) = (Served::start().await, folder());
    let mut sender = scene.by_code(&["send", "--json", &path(&folder, "notes")]);
    let code = code(&mut sender, "receive").await;
    let told: Value = serde_json::from_str(&sender.out.line("\"code\"").await).unwrap();
    assert_eq!((&told["event"], &told["code"]), (&"code".into(), &code.as_str().into()));
    assert_eq!(told["command"], format!("holepunch receive {code}"));
    for _ in 0..3 {
        let stranger = scene.by_code(&["receive", &wrong(&code), &path(&folder, "in")]).end().await;
        assert_eq!(stranger.code, Some(1), "{stranger:?}");
    }
    let sender = sender.end().await;
    assert_eq!(sender.code, Some(1), "{sender:?}");
    assert!(sender.err.contains("3 wrong codes have come"), "{}", sender.err);
}

#[tokio::test]
async fn a_code_is_taken_from_standard_input_or_from_the_environment() {
    let scene = Served::start().await;
    for is_read in [true, false] {
        let mut host = scene.by_code_with(&["pipe"], &[], "from the host");
        let code = code(&mut host, "pipe").await;
        let guest = if is_read {
            scene.by_code_with(&["pipe", "-"], &[], &format!("{code}\nfrom the guest"))
        } else {
            scene.by_code_with(&["pipe"], &[("CODE", &code)], "from the guest")
        };
        let (guest, host) = (guest.end().await, host.end().await);
        assert_eq!((guest.code, host.code), (Some(0), Some(0)), "{guest:?} {host:?}");
        let carried = (guest.out.as_str(), host.out.as_str());
        assert_eq!(carried, ("from the host", "from the guest"), "{is_read}");
    }
}

#[tokio::test]
async fn a_code_names_the_rendezvous_that_only_one_side_was_told() {
    let (scene, folder) = (Served::start().await, folder());
    let (url, stun) = (format!("http://{}", scene.addresses().0), scene.addresses().1);
    let variables = [("STUN_SERVERS", stun)];
    let flags = ["--rendezvous-url", &url, "--no-port-mapping"];
    let notes = path(&folder, "notes");
    let send = [&["send", &notes][..], &flags].concat();
    let mut sender = Program::run(&send, &variables);
    let code = code(&mut sender, "receive").await;
    assert!(code.ends_with(&format!("@{url}")), "{code}");
    let into = path(&folder, "in");
    let receive = ["receive", &code, &into, "--no-port-mapping"];
    assert_eq!(Program::end_of(&receive, &variables).await.code, Some(0));
    assert_eq!(sender.end().await.code, Some(0));
}

#[tokio::test]
async fn what_cannot_be_a_code_is_said_before_anybody_is_called() {
    let nowhere = ["--rendezvous-url", "http://127.0.0.1:9"];
    for (arguments, words) in [
        (&["receive"][..], "whose? Give the code that the other side has printed"),
        (&["receive", "7-abandon-abilitx"], "\"abilitx\" is not a word of codes"),
        (&["receive", "no-code", "in"], "expected a code before the folder"),
        (&["receive", "7-gui"], "\"7-gui\" ends before its second word"),
        (&["receive", "guitar-fox", "in"], "\"guitar-fox\" does not begin with a number"),
        (&["7-"], "\"7-\" ends before its second word"),
        (&["chat", "7-gui"], "\"7-gui\" ends before its second word"),
        (&["chat", "seven"], "expected a code, such as 7-guitar-fox"),
        (&["chat", "7-abandon-ability", "--room", "tea"], "--room beside a code"),
        (&["chat", "--room-secret", "one two"], "--room-secret beside a code"),
        (&["chat", "7-abandon-ability@ftp://x"], "no rendezvous"),
        (&["send", "--words", "1", "/etc/hostname"], "2..=24"),
    ] {
        let ended = Program::end_of(&[arguments, &nowhere].concat(), &[]).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
        assert!(!ended.err.contains("connecting"), "{arguments:?}: {}", ended.err);
    }
}

/// What the worker says at first.
async fn hello(rendezvous: &Rendezvous) -> (Session, Value) {
    let mut session = rendezvous.accept_selecting("holepunch.v1").await;
    let welcome = json!({
        "type": "welcome", "observed_ip": "127.0.0.1", "challenge": "00ff", "resume": "token",
    });
    session.send(welcome).await;
    let hello = session.receive().await;
    assert_eq!(hello["type"], "hello");
    (session, hello)
}

#[tokio::test]
async fn a_number_that_is_taken_gives_way_to_another_one_and_one_that_is_granted_is_kept() {
    let (rendezvous, stun) = (Rendezvous::bind(), StunServer::bind().await);
    let (url, servers) = (format!("http://{}", rendezvous.address), stun.address.to_string());
    let variables = [("RENDEZVOUS_SERVICE_URL", url.as_str()), ("STUN_SERVERS", &servers)];
    let mut program = Program::run(&["chat", "--no-port-mapping"], &variables);
    let (mut taken, asked) = hello(&rendezvous).await;
    assert_eq!(asked["fresh"], true, "{asked}");
    taken.send(json!({ "type": "error", "code": "room_taken", "message": "no" })).await;
    let (mut granted, asked) = hello(&rendezvous).await;
    assert_eq!(asked["fresh"], true, "{asked}");
    granted.send(json!({ "type": "room_entered" })).await;
    let code = code(&mut program, "chat").await;
    let number = code.split('-').next().unwrap();
    assert!(granted.path.ends_with(&format!("?room=code-{number}")), "{}", granted.path);
    stun.answer_next(MAPPED).await;
    granted.close(1001, "restart").await;
    let (_again, asked) = hello(&rendezvous).await;
    assert_eq!(asked.get("fresh"), None, "a guest may be there by now: {asked}");
}

fn on_terminal(scene: &Served, arguments: &[&str]) -> Terminal {
    let url = format!("http://{}", scene.addresses().0);
    let variables =
        [("RENDEZVOUS_SERVICE_URL", url.as_str()), ("STUN_SERVERS", scene.addresses().1)];
    Terminal::run(80, &[arguments, &["--no-port-mapping"]].concat(), &variables)
}

#[tokio::test]
async fn on_a_terminal_what_comes_is_named_and_taken_only_by_a_yes() {
    let (scene, folder) = (Served::start().await, folder());
    let (notes, more) = (path(&folder, "notes"), path(&folder, "more"));
    std::fs::write(&more, "x").unwrap();
    for (typed, code_expected) in [("n\r", 1), ("y\r", 0), ("\u{4}", 1)] {
        let mut sender = scene.by_code(&["send", &notes, &more]);
        let code = code(&mut sender, "receive").await;
        let into = path(&folder, "in");
        let receiver = on_terminal(&scene, &["receive", &code, &into]);
        sender.log.line("the other side is being asked").await;
        let ended = receiver.left(&[("take it? [y/N]", typed)]).await;
        let said = &ended.shown;
        assert_eq!(ended.code, code_expected, "{said}");
        assert!(said.contains("2 files, 14 B, into") && said.contains("  notes  13 B"), "{said}");
        let sender = sender.end().await;
        assert_eq!(sender.code, Some(code_expected), "{sender:?}");
        if code_expected == 1 {
            assert!(ended.has_line("holepunch: declined: nothing was taken"), "{said}");
            let last = sender.err.lines().last();
            assert_eq!(last, Some("holepunch: the other side does not want it: nothing was sent"));
            assert_eq!(sender.out, "");
        } else {
            assert!(folder.path().join("in").exists());
        }
        // The third time they are there.
        assert_eq!(said.contains("of this name and size is there"), typed == "\u{4}", "{said}");
    }
    // A key is typed once it is asked for: before that the terminal takes Ctrl-D for itself.
    let asked = "(Tab completes a word)";
    let typed = [(asked, "7 aband abilitx\r"), ("is not a word", ""), (asked, "\u{4}")];
    let ended = on_terminal(&scene, &["receive"]).left(&typed).await;
    assert_eq!(ended.code, 130, "the end of what is typed is no code: {}", ended.shown);
}

#[tokio::test]
async fn no_bar_is_drawn_while_somebody_is_asked() {
    let (scene, folder) = (Served::start().await, folder());
    let mut sender = on_terminal(&scene, &["send", &path(&folder, "notes")]);
    let shown = sender.until("with another rendezvous").await;
    let (_, code) = shown.split_once("holepunch receive ").unwrap();
    let code = code.split_whitespace().next().unwrap();
    let receiver = on_terminal(&scene, &["receive", code, &path(&folder, "in")]);
    sender.steps(&[("the other side is being asked", "")]).await;
    let receiver = receiver.left(&[("take it? [y/N]", "n\r")]).await;
    let sender = sender.left(&[]).await;
    assert_eq!((sender.code, receiver.code), (1, 1), "{sender:?} {receiver:?}");
    assert!(!sender.written.contains(" B of "), "{}", sender.shown);
}

#[tokio::test]
async fn at_the_question_for_the_code_ctrl_z_and_fg_leave_all_as_it_was() {
    let scene = Served::start().await;
    let script = r#"set -m; "$0" receive; echo "stopped $?"; stty -a; fg; echo "ended $?""#;
    let url = format!("http://{}", scene.addresses().0);
    let mut terminal = Terminal::script(80, script, &[("RENDEZVOUS_SERVICE_URL", &url)]);
    let steps = [("completes a word): ", "7 aband"), ("7 aband", "\u{1a}"), ("stopped 148", "")];
    terminal.steps(&steps).await;
    let shown = terminal.until_shown("the modes", |shown| shown.contains("echoke")).await;
    let is_on = |mode: &str| shown.split_whitespace().any(|it| it == mode);
    assert!(is_on("icanon") && is_on("echo"), "as a shell has it: {shown}");
    // Where the line is edited again, Tab completes it.
    let steps = [("completes a word): 7 aband", "\t"), ("on", "\u{3}"), ("ended 130", "")];
    terminal.left(&steps).await;
}

#[tokio::test]
async fn nobody_but_one_has_a_code_and_whoever_is_alone_with_one_is_told_what_may_be_wrong() {
    let (scene, folder) = (Served::start().await, folder());
    let mut sender = scene.by_code(&["send", &path(&folder, "notes")]);
    let code = code(&mut sender, "receive").await;
    let into = path(&folder, "in");
    let mut receiver = on_terminal(&scene, &["receive", &code, &into]);
    receiver.until("take it? [y/N]").await;
    let mut alone = scene.by_code(&["receive", "999999999-abandon-ability", &into]);
    for code in [wrong(&code), code] {
        let mut third = scene.by_code(&["receive", &code, &path(&folder, "third")]);
        third.log.line("this code is taken").await;
        third.signal("INT").await;
        assert_eq!(third.end().await.code, Some(130));
    }
    alone.log.line("nobody is there with this code: it is mistyped, used up").await;
    assert_eq!(receiver.left(&[("[y/N]", "y\r")]).await.code, 0);
    assert_eq!(sender.end().await.code, Some(0));
}

#[tokio::test]
async fn all_that_is_to_be_sent_is_looked_at_before_anybody_is_called() {
    let folder = folder();
    let nowhere = ["--rendezvous-url", "http://127.0.0.1:9"];
    let (notes, missing) = (path(&folder, "notes"), path(&folder, "missing"));
    let ended = Program::end_of(&[&["send", &notes, &missing], &nowhere[..]].concat(), &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failed = format!("failed: {missing}: cannot be looked at");
    assert!(ended.err.starts_with(&failed) && !ended.err.contains("connecting"), "{}", ended.err);
    assert!(ended.err.ends_with("nothing was sent, since not everything that was named can be"));
}

#[tokio::test]
async fn several_files_come_into_a_folder_of_their_own_unless_one_is_named() {
    let (scene, folder) = (Served::start().await, folder());
    let (notes, more) = (path(&folder, "notes"), path(&folder, "more"));
    std::fs::write(&more, "x").unwrap();
    let here = tempfile::tempdir().unwrap();
    let mut sender = scene.by_code(&["send", &notes, &more]);
    let code = code(&mut sender, "receive").await;
    let mut receive = scene.command_by_code(&["receive", &code, "--json"]);
    let output = receive.current_dir(here.path()).stdout(std::process::Stdio::piped()).output();
    let ended = common::within("the end", output).await.unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    let listed = said.lines().find(|line| line.contains("\"listed\"")).unwrap();
    let listed: Value = serde_json::from_str(listed).unwrap();
    assert_eq!(listed["names"], json!(["more", "notes"]));
    let into = here.path().join(listed["into"].as_str().unwrap());
    assert_ne!(into, here.path().join("."));
    assert_eq!(std::fs::read_dir(into).unwrap().count(), 2);
    assert_eq!(sender.end().await.code, Some(0));
}
