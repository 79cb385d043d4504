//! Programs over a link as processes: what they say of what is in the way, and how they end.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;

use common::{Program, Served, within};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";
/// What lets `forward` run without doing anything, until its link has ended.
const IDLE: [&str; 4] = ["forward", "--once", "--allow", "127.0.0.1:9"];

/// A rendezvous.
struct Scene(Served);

impl Scene {
    async fn start() -> Self {
        Self(Served::start().await)
    }

    fn program(&self, arguments: &[&str], more: &[&str]) -> Program {
        self.0.program(arguments, "tea", more)
    }

    /// A program that waits in the room, and its id.
    async fn waiting(&self, arguments: &[&str], more: &[&str]) -> (Program, String) {
        let mut program = self.program(arguments, more);
        let id = program.log.line("worker ").await;
        program.log.line("waiting for the peer in the room \"tea\"").await;
        (program, id.strip_prefix("worker ").unwrap().to_owned())
    }
}

#[tokio::test]
async fn a_third_is_told_that_the_peer_is_busy_and_an_orderly_end_is_none_of_a_failure() {
    let scene = Scene::start().await;
    let (called, id) = scene.waiting(&IDLE, &[]).await;
    let mut first = scene.program(&IDLE, &["--peer", &id]);
    first.log.line("linked with").await;
    let third = scene.program(&IDLE, &["--peer", &id]).end().await;
    assert_eq!(third.code, Some(1), "{third:?}");
    assert!(third.err.contains("the peer is busy with another link"), "{}", third.err);
    first.signal("INT").await;
    let (first, called) = (first.end().await, called.end().await);
    assert_eq!((first.code, called.code), (Some(130), Some(0)), "{first:?} {called:?}");
    for side in [&first, &called] {
        assert!(side.err.contains("0 connections through the peer, 0"), "{}", side.err);
    }
    assert!(called.err.contains("turned away") && called.err.contains("the peer has left"));
}

#[tokio::test]
async fn a_peer_with_another_secret_is_given_up_by_its_caller_and_not_by_its_room() {
    let scene = Scene::start().await;
    let (called, id) = scene.waiting(&IDLE, &["--room-secret", "one two"]).await;
    for (secret, words) in [
        (&["--room-secret", "one three"][..], "it came with other words"),
        (&[], "this side has none; give the same words here"),
    ] {
        let caller = scene.program(&IDLE, &[&["--peer", &id], secret].concat()).end().await;
        assert_eq!(caller.code, Some(1), "{caller:?}");
        assert!(caller.err.contains(words), "{}", caller.err);
        let told = caller.err.lines().filter(|line| line.contains("no link with")).count();
        assert_eq!(told, 2, "once, and in the end: {}", caller.err);
    }
    let mut right = scene.program(&IDLE, &["--peer", &id, "--room-secret", "One  TWO"]);
    right.log.line("linked with").await;
    called.signal("TERM").await;
    let called = called.end().await;
    assert!(called.err.contains("; waiting for others"), "{}", called.err);
}

#[tokio::test]
async fn without_a_rendezvous_a_program_tells_seldom_and_gives_up_when_it_is_to() {
    for more in [&["--give-up-after-sec", "4"][..], &[]] {
        let room = ["chat", "--room", "tea", "--rendezvous-url", NOWHERE];
        let variables = [("GIVE_UP_AFTER_SEC", "4")];
        let variables = if more.is_empty() { &variables[..] } else { &[] };
        let ended = Program::end_of(&[&room[..], more].concat(), variables).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let of = |text: &str| ended.err.lines().filter(|line| line.contains(text)).count();
        assert_eq!(of("connecting to 127.0.0.1:9"), 1, "{}", ended.err);
        assert!((1..=6).contains(&of("next try within")), "{}", ended.err);
        let start = "given up, since there is no link: not yet connected to the rendezvous";
        assert!(ended.err.contains(start), "{}", ended.err);
    }
}

#[tokio::test]
async fn what_is_wrong_on_this_side_is_said_before_anything_is_written_or_anybody_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (key, file) = (folder.path().join("key.pem"), file.to_str().unwrap());
    let url = ["--rendezvous-url", NOWHERE, "--identity", key.to_str().unwrap()];
    for (arguments, code, words) in [
        (&["receive"][..], 2, "whose?"),
        (&["chat", "--room", "tea", "--room-secret", " "], 2, "--room-secret"),
        (&["pipe", "--room", "tea", "--stun-host", "two words"], 2, "--stun-host"),
        (&["forward", "--room", "tea"], 2, "nothing to forward"),
        (&["forward", "--room", "tea", "--listen", "a", "--to", "a:1"], 2, "127.0.0.1:2222"),
        (&["forward", "--room", "tea", "-R", "0:a:1"], 2, "from 1 to 65535"),
        (&["forward", "--room-mode", "mesh", "--allow", "a:1"], 2, "--room-mode without --room"),
        (&["receive", "--room", "tea", file], 1, "a file stands where a folder is needed"),
    ] {
        let ended = Program::end_of(&[arguments, &url].concat(), &[]).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
        assert!(!ended.err.contains("connecting"), "{arguments:?}: {}", ended.err);
        assert!(!key.exists(), "{arguments:?}: a key was written");
    }
}

#[tokio::test]
async fn forward_tells_both_sides_what_is_not_connected_in_words_and_in_json() {
    let scene = Scene::start().await;
    let (mut far, _) = scene.waiting(&IDLE, &[]).await;
    let pair = ["forward", "--json", "-L", "127.0.0.1:0=192.0.2.1:9"];
    let mut near = scene.program(&pair, &[]);
    let event = |line: String| serde_json::from_str::<Value>(&line).unwrap();
    let listening = event(near.out.line("listening").await);
    let linked = event(near.out.line("linked").await);
    assert!(linked["peer"].is_string() && linked["path"].is_string(), "{linked}");
    // The system takes the connection before the program listens to it.
    let mut tcp = TcpStream::connect(listening["address"].as_str().unwrap()).await.unwrap();
    let _reset = within("the end of the connection", tcp.read(&mut [0])).await;
    let not_made = event(near.out.line("not_made").await);
    assert_eq!(
        (&not_made["asked_by"], &not_made["target"]),
        (&"this_side".into(), &"192.0.2.1:9".into())
    );
    assert!(not_made["reason"].as_str().unwrap().contains("not allowed"), "{not_made}");
    far.log.line("no connection for the peer: 192.0.2.1:9 is not allowed").await;
    near.signal("INT").await;
    let near = near.end().await;
    let ended = event(near.out.lines().last().unwrap().to_owned());
    assert_eq!((&ended["type"], &ended["why"]), (&"ended".into(), &"interrupted".into()));
    assert_eq!(ended["summary"]["refused_by_peer"], 1, "{ended}");
    assert_eq!(far.end().await.code, Some(0));
}

/// An HTTP proxy that connects everybody to `to`, and tells what it was asked for.
async fn proxy(to: String) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let (sender, to) = (sender.clone(), to.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await.unwrap());
                }
                let _unless_nobody_reads = sender.send(String::from_utf8(head).unwrap());
                let mut far = TcpStream::connect(to).await.unwrap();
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _until_one_ends = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn behind_a_proxy_both_the_rendezvous_and_its_relay_are_reached_by_it() {
    let scene = Scene::start().await;
    let (http, stun) = scene.0.addresses();
    let (address, mut asked) = proxy(http.to_owned()).await;
    let proxy = format!("http://a:b@{address}");
    let variables = [("HTTP_PROXY", proxy.as_str()), ("STUN_SERVERS", stun)];
    let url = ["--room", "tea", "--rendezvous-url", "http://rendezvous.example:8080"];
    let bench = ["bench", "--seconds", "0.2", "--json", "--no-port-mapping"];
    let sides = [(); 2].map(|()| Program::run(&[&bench[..], &url].concat(), &variables));
    for _registration_and_relay_of_both in 0..4 {
        let head = within("a connection to the proxy", asked.recv()).await.unwrap();
        assert!(head.starts_with("CONNECT rendezvous.example:8080 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nProxy-Authorization: Basic YTpi\r\n"), "{head}");
    }
    for side in sides {
        let ended = side.end().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.err.contains("a:b"), "{}", ended.err);
    }
}

#[tokio::test]
async fn figures_say_whose_they_are_and_have_no_digits_that_mean_nothing() {
    let scene = Scene::start().await;
    let bench = ["bench", "--seconds", "0.2", "--json", "--now"];
    let (waiting, _) = scene.waiting(&bench, &[]).await;
    let sides = [scene.program(&bench, &[]).end().await, waiting.end().await];
    let reports = sides.each_ref().map(|side| serde_json::from_str::<Value>(&side.out).unwrap());
    assert_eq!(reports[0]["to_peer"], reports[1]["from_peer"], "{reports:#?}");
    assert_eq!(reports[0]["from_peer"], reports[1]["to_peer"], "{reports:#?}");
    assert_ne!(reports[0]["measured_by"], reports[1]["measured_by"], "{reports:#?}");
    let long = |line: &&str| {
        let digits = line.rsplit_once('.').map_or("", |(_, digits)| digits.trim_end_matches(','));
        digits.len() > 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    assert_eq!(sides[0].out.lines().find(long), None);
    // The result is not on a terminal: the steps are there beside it.
    assert!(sides[0].err.contains("to the peer ") && sides[0].err.contains("from the peer "));
}

#[tokio::test]
async fn a_rendezvous_that_takes_tcp_and_says_nothing_is_waited_for_with_a_word() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("http://{address}");
    for own in [&["--room", "tea"][..], &[]] {
        let of = [&["chat", "--rendezvous-url", &url, "--give-up-after-sec", "4"], own].concat();
        let ended = Program::end_of(&of, &[]).await;
        let line = format!("still waiting for an answer of the rendezvous {address}");
        assert_eq!(ended.err.lines().filter(|it| **it == line).count(), 1, "{}", ended.err);
    }
}

#[tokio::test]
async fn a_host_without_a_scheme_is_told_for_what_it_was_taken() {
    let as_code = ["chat", "7-abandon-ability@127.0.0.1:9", "--give-up-after-sec", "1"];
    let as_url = ["chat", "--room", "t", "--rendezvous-url", "127.0.0.1:9"];
    let as_url = [&as_url[..], &["--give-up-after-sec", "1"]].concat();
    for (of, told) in [(&as_code[..], "means https://"), (&as_url, "means http://")] {
        let ended = Program::end_of(of, &[]).await;
        let last = ended.err.lines().last().unwrap();
        assert!(last.contains("Connection refused") && last.contains(told), "{}", ended.err);
    }
    let whole = ["chat", "7-abandon-ability@https://127.0.0.1:9", "--give-up-after-sec", "1"];
    let ended = Program::end_of(&whole, &[]).await;
    assert!(!ended.err.contains("means http"), "{}", ended.err);
}

#[tokio::test]
async fn without_a_link_there_is_a_reason_for_people_and_for_programs() {
    let nowhere =
        ["--room", "tea", "--rendezvous-url", NOWHERE, "--give-up-after-sec", "1", "--why"];
    for program in ["bench", "chat", "receive"] {
        let ended = Program::end_of(&[&[program, "--json"], &nowhere[..]].concat(), &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let last: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(last["type"] == "failed", program != "receive", "{last}");
        let error = last["error"].as_str().unwrap();
        let start = "given up, since there is no link: not yet connected to the rendezvous 127.0.0.1:9, \
                     because Connection refused";
        assert!(error.starts_with(start), "{last}");
        assert_eq!(last["error_code"], "no_rendezvous", "{last}");
        let why = "why: the rendezvous 127.0.0.1:9 was tried ";
        assert!(ended.err.lines().any(|line| line.starts_with(why)), "{}", ended.err);
    }
    let nothing = ["send", "--json", "/no/such/file", "--room", "tea", "--rendezvous-url", NOWHERE];
    let ended = Program::end_of(&nothing, &[]).await;
    let last: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, &last["event"]), (Some(1), &"summary".into()));
    assert_eq!(
        (&last["files_failed"], &last["error"]),
        (&1.into(), &"nothing was sent, since not everything that was named can be".into())
    );
}

#[tokio::test]
async fn a_worker_that_is_not_there_is_told_and_ones_own_id_is_a_usage_error() {
    let scene = Scene::start().await;
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key.pem");
    let key = ["--identity", key.to_str().unwrap()];
    let (waiting, id) = scene.waiting(&IDLE, &key).await;
    let own = scene.program(&IDLE, &[&key[..], &["--peer", &id]].concat()).end().await;
    assert_eq!(own.code, Some(2), "{own:?}");
    assert!(own.err.contains("is the id of this side itself"), "{}", own.err);
    // The same key once more.
    let mut second = scene.program(&IDLE, &key);
    let mut first = waiting;
    first.log.line("another worker or program runs with this id (the same --identity").await;
    second.log.line("another worker or program runs with this id (the same --identity").await;
    let empty = Scene::start().await;
    let mut caller = empty.program(&IDLE, &["--peer", "abc"]);
    caller.log.line("no worker with this id can be called at 127.0.0.1:").await;
}

#[tokio::test]
async fn a_peer_that_is_killed_is_not_said_to_be_reached_by_the_relay() {
    let scene = Scene::start().await;
    let (mut staying, _) = scene.waiting(&IDLE, &[]).await;
    let mut killed = scene.program(&IDLE, &["--log", "debug"]);
    staying.log.line("linked with").await;
    // Of a relay and a direct path the second one: without both there would be nothing to see.
    killed.log.line("path is opened").await;
    killed.signal("KILL").await;
    let staying = staying.end().await;
    assert_eq!(staying.code, Some(1), "{staying:?}");
    let after = staying.err.split_once("linked with").unwrap().1;
    assert!(!after.contains("data goes by: relay"), "{}", staying.err);
    assert!(after.contains("the peer has not come back"), "{}", staying.err);
}
