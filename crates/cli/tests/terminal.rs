//! What a hostile rendezvous says does nothing to the terminal on which a program tells of it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{MAPPED, Program, Rendezvous, StunServer};
use serde_json::{Value, json};

/// Sets the title, clears the screen, colours text and turns it around, and begins a line of its own.
const HOSTILE: &str = "\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{1b}[31m\u{202e}\u{9b}31m\r\nworker forged";
/// The same as it is shown.
const SHOWN: &str =
    r"\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{1b}[31m\u{202e}\u{9b}31m\u{d}\u{a}worker forged";
/// No control character, and so an id.
const PEER: &str = "peer\u{202e}\u{200b}";

fn welcome() -> Value {
    json!({
        "type": "welcome",
        "server": HOSTILE,
        "observed_ip": "127.0.0.1",
        "observed_port": 40001,
        "stun": [],
        "challenge": "00ff",
        "resume": "token",
        "sessions_max": 64,
    })
}

fn offer() -> Value {
    let credentials = |ufrag: &str| json!({ "ufrag": ufrag, "password": ufrag.repeat(6) });
    json!({
        "type": "p2p_connection_offer",
        "peer_worker_id": PEER,
        "peer_key": "07".repeat(32),
        "session": "0000000000000001",
        "role": "controlled",
        "credentials": credentials("worker01"),
        "peer_credentials": credentials("peer0001"),
        "candidates": [],
        "plan": { "number": 1, "strategy": "plain", "reason": HOSTILE },
    })
}

#[tokio::test]
async fn a_reason_and_an_id_of_a_hostile_rendezvous_are_told_without_acting_on_the_terminal() {
    let (rendezvous, stun) = (Rendezvous::bind(), StunServer::bind().await);
    let url = format!("http://{}", rendezvous.address);
    let servers = stun.address.to_string();
    let room = ["chat", "--room", "tea", "--no-port-mapping", "--rendezvous-url", &url];
    let more = ["--why", "--give-up-after-sec", "4", "--log-format", "text", "--log", "debug"];
    let mut program = Program::run(&[&room[..], &more].concat(), &[("STUN_SERVERS", &servers)]);
    let mut session = rendezvous.accept_selecting("holepunch.v1").await;
    session.send(welcome()).await;
    assert_eq!(session.receive().await["type"], "hello");
    stun.answer_next(MAPPED).await;
    session.send(offer()).await;
    let end = json!({ "type": "session_ended", "session": "0000000000000001", "reason": HOSTILE });
    session.send(end).await;
    let told = program.log.line("no link with ").await;
    assert_eq!(told, format!(r"no link with peer\u{{202e}}\u{{200b}}: {SHOWN}"));
    let ended = program.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let given_up = "holepunch: given up, since there is no link: no link with peer";
    assert!(ended.err.contains(given_up), "{}", ended.err);
    assert!(ended.err.contains("session 0000000000000001 with peer"), "--why: {}", ended.err);
    for line in ended.err.lines() {
        assert!(!line.starts_with("worker forged"), "{}", ended.err);
        let acts = |it: char| it.is_control() || matches!(it, '\u{202e}' | '\u{200b}');
        assert!(!line.contains(acts), "{line:?}");
    }
}
