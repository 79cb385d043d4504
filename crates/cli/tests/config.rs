//! The settings file: what is remembered, and what is over it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Program, Served};
use serde_json::Value;
use tempfile::TempDir;

/// A home without anything in it.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn variable(&self) -> (&str, &str) {
        ("HOME", self.0.path().to_str().unwrap())
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join(".config/holepunch/config.toml")
    }

    /// What `holepunch config` says of a setting: its value, and where that comes from.
    async fn setting(&self, name: &str, more: &[(&str, &str)]) -> (Value, String) {
        let ended =
            Program::end_of(&["config", "--json"], &[&[self.variable()], more].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let all: Value = serde_json::from_str(&ended.out).unwrap();
        let settings = all["settings"].as_array().unwrap();
        let found = settings.iter().find(|it| it["name"] == name).unwrap();
        (found["value"].clone(), found["from"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn a_rendezvous_that_answers_is_remembered_and_used_by_all_programs() {
    let (scene, home) = (Served::start().await, Home::new());
    let url = format!("http://{}", scene.addresses().0);
    let stun = ("STUN_SERVERS", scene.addresses().1);
    let login = Program::end_of(&["login", &url], &[home.variable()]).await;
    assert_eq!(login.code, Some(0), "{login:?}");
    assert!(login.out.contains("is remembered in"), "{login:?}");
    let remembered = (url.as_str().into(), "file".to_owned());
    assert_eq!(home.setting("rendezvous", &[]).await, remembered);
    let over = [("RENDEZVOUS_SERVICE_URL", "https://u:secret@b.example")];
    let set = ("https://b.example".into(), "environment".to_owned());
    assert_eq!(home.setting("rendezvous", &over).await, set, "and no password is shown");
    let variables = [home.variable(), stun];
    let mut host = Program::run_with_input(&["pipe", "--no-port-mapping"], &variables, "hello");
    let line = host.log.line("on the other side:  ").await;
    let code = line.rsplit(' ').next().unwrap();
    let guest = Program::end_of(&["pipe", code, "--no-port-mapping"], &variables).await;
    assert_eq!((guest.code, guest.out.as_str()), (Some(0), "hello"), "{guest:?}");
    assert_eq!(host.end().await.code, Some(0));
}

#[tokio::test]
async fn a_rendezvous_that_does_not_answer_is_not_remembered() {
    let home = Home::new();
    for (url, code, why) in [
        ("http://127.0.0.1:9", 1, "is not remembered"),
        ("ftp://a.example", 2, "expected https, http, wss or ws"),
        ("example.com:99999", 2, "expected a port from 1 to 65535"),
        ("http://", 2, "expected a host"),
        ("https://ada:secret@", 2, "expected a host"),
        ("", 2, "expected one such as https://"),
    ] {
        let ended = Program::end_of(&["login", url], &[home.variable()]).await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.err.contains(why) && !ended.err.contains("secret"), "{url}: {}", ended.err);
        assert!(!home.file().exists());
    }
    let nowhere = Program::end_of(&["login", "http://127.0.0.1:9"], &[]).await;
    assert!(nowhere.err.contains("--config"), "{nowhere:?}");
}

#[tokio::test]
async fn the_key_called_default_stays_and_a_secret_comes_from_its_file() {
    let (scene, home) = (Served::start().await, Home::new());
    let secret = home.0.path().join("secret");
    std::fs::write(&secret, "One  TWO\n").unwrap();
    std::fs::create_dir_all(home.file().parent().unwrap()).unwrap();
    let text = format!("identity = \"default\"\nroom_secret_file = {secret:?}\n");
    std::fs::write(home.file(), text).unwrap();
    let url = format!("http://{}", scene.addresses().0);
    let variables =
        [home.variable(), ("STUN_SERVERS", scene.addresses().1), ("RENDEZVOUS_SERVICE_URL", &url)];
    let idle = ["forward", "--allow", "127.0.0.1:9", "--no-port-mapping", "--room", "tea"];
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut one = Program::run(&idle, &variables);
        ids.push(one.log.line("worker ").await);
        one.log.line("waiting for the peer").await;
        let mut other = scene.program(&idle[..3], "tea", &["--room-secret", "one two"]);
        other.log.line("linked with").await;
        one.log.line("linked with").await;
        one.signal("INT").await;
        one.end().await;
    }
    assert_eq!(ids[0], ids[1]);
    assert!(home.file().with_file_name("identity.pem").exists());
}

#[tokio::test]
async fn no_folder_is_made_for_a_key_before_all_settings_are_known_to_be_right() {
    let home = Home::new();
    let wrong = ["chat", "--room", "tea", "--identity", "default", "--room-secret", " "];
    let url = ("RENDEZVOUS_SERVICE_URL", "http://127.0.0.1:9");
    let ended = Program::end_of(&wrong, &[home.variable(), url]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(!home.file().parent().unwrap().exists());
}

#[tokio::test]
async fn a_settings_file_that_is_wrong_is_told_with_its_place() {
    let home = Home::new();
    std::fs::create_dir_all(home.file().parent().unwrap()).unwrap();
    for (text, words) in [
        ("rendezvous = \"ftp://x\"", "rendezvous in the settings file"),
        ("rom = \"tea\"", "\"rom\", which is no setting of it"),
        ("rendezvous", "is not TOML"),
    ] {
        std::fs::write(home.file(), text).unwrap();
        let ended = Program::end_of(&["chat", "--room", "tea"], &[home.variable()]).await;
        assert_eq!(ended.code, Some(2), "{text}: {ended:?}");
        assert!(ended.err.contains(words), "{text}: {}", ended.err);
    }
    std::fs::write(home.file(), "rendezvous").unwrap();
    let elsewhere = ["config", "--config", "/dev/null"];
    assert_eq!(Program::end_of(&elsewhere, &[home.variable()]).await.code, Some(0));
}
