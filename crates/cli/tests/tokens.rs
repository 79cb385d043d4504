//! Who may enter: keys and tokens from the command line, a rendezvous that wants them, and programs that have one.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::Program;
use serde_json::Value;
use tempfile::TempDir;

/// A folder with keys, and a rendezvous that wants tokens.
struct Scene {
    folder: TempDir,
    url: String,
    stun: String,
    rendezvous: Program,
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let made = Program::end_of(&["token", "key", &path("signing.json")], &[]).await;
        assert_eq!((made.code, made.err.as_str()), (Some(0), ""), "{made:?}");
        std::fs::write(path("keys.json"), &made.out).unwrap();
        let arguments = [
            "rendezvous",
            "--allow-private",
            "--listen",
            "127.0.0.1:0",
            "--stun-listen",
            "127.0.0.1:0",
            "--auth",
            "token",
            "--token-keys",
            &path("keys.json"),
        ];
        let mut rendezvous = Program::run(&arguments, &[]);
        let running = rendezvous.log.entry("rendezvous is running").await;
        let url = format!("http://{}", running["http"].as_str().unwrap());
        let stun = running["stun"].as_str().unwrap().trim_matches(['[', ']']).to_owned();
        Self { url, stun, rendezvous, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// What the doctor says to do about the WebSocket.
    async fn advice(&self, variables: &[(&str, &str)]) -> String {
        let doctor = ["doctor", &self.url, "--json", "--no-port-mapping"];
        let doctor = Program::end_of(&doctor, variables).await;
        let document: Value = serde_json::from_str(&doctor.out).unwrap();
        let checks = document["checks"].as_array().unwrap();
        let websocket = checks.iter().find(|it| it["check"] == "websocket").unwrap();
        websocket["fix"].as_str().unwrap().to_owned()
    }

    /// `holepunch token new` with these arguments, which prints the token alone.
    async fn token(&self, arguments: &[&str]) -> String {
        let key = self.path("signing.json");
        let made = ["token", "new", "--key", &key];
        let made = Program::end_of(&[&made, arguments].concat(), &[]).await;
        assert_eq!((made.code, made.err.as_str()), (Some(0), ""), "{made:?}");
        assert_eq!(made.out.lines().count(), 1, "{made:?}");
        made.out.trim().to_owned()
    }

    fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let home = ("HOME", self.folder.path().to_str().unwrap());
        let own = [
            ("RENDEZVOUS_SERVICE_URL", self.url.as_str()),
            ("STUN_SERVERS", &self.stun),
            ("NO_PORT_MAPPING", "true"),
            home,
        ];
        [&own[..], more].concat()
    }
}

#[tokio::test]
async fn two_programs_with_tokens_meet_and_others_are_told_what_is_missing() {
    let scene = Scene::start().await;
    let token = scene.token(&["--tenant", "ci", "--room", "build-*", "--relay-bytes", "1G"]).await;
    let other = scene.token(&["--tenant", "other", "--room", "build-*"]).await;
    std::fs::write(scene.path("token"), format!("{token}\n")).unwrap();
    let room = ["pipe", "--room", "build-1"];
    // One of another tenant waits in the same room, and is nobody's peer.
    let variable = [("HOLEPUNCH_TOKEN", other.as_str())];
    let mut stranger = Program::run_with_input(&room, &scene.variables(&variable), "stranger");
    stranger.log.line("worker ").await;
    let file = scene.path("token");
    let by_file = [&room[..], &["--token-file", &file]].concat();
    let sends = Program::run_with_input(&by_file, &scene.variables(&[]), "hello");
    let shared = [("TOKEN", token.as_str())];
    let takes = Program::end_of(&room, &scene.variables(&shared)).await;
    assert_eq!((takes.code, takes.out.as_str()), (Some(0), "hello"), "{takes:?}");
    assert_eq!(sends.end().await.code, Some(0));
    for (more, code) in [
        (&[][..], "token_missing"),
        (&[("HOLEPUNCH_TOKEN", "ey.ey.x")][..], "token_malformed"),
        (&[("ROOM", "prod"), ("HOLEPUNCH_TOKEN", &token)][..], "room_not_allowed"),
    ] {
        let room = if more.len() == 2 { &room[..1] } else { &room[..] };
        let refused = Program::end_of(room, &scene.variables(more)).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert_eq!(refused.err.matches(code).count(), 1, "one clear sentence: {}", refused.err);
        assert!(!refused.err.contains(&token), "{}", refused.err);
    }
    let url = scene.url.replace("http://", &format!("http://x:{token}@"));
    let variables = scene.variables(&[("RENDEZVOUS_SERVICE_URL", &url), ("RUST_LOG", "trace")]);
    let mut worker = Program::run(
        &[
            "worker",
            "--room",
            "build-2",
            "--port",
            "0",
            "--internal-udp-port",
            "0",
            "--ip-echo-url",
            "none",
        ],
        &variables,
    );
    worker.log.line("registered").await;
    scene.rendezvous.signal("TERM").await;
    let log = scene.rendezvous.end().await;
    worker.signal("TERM").await;
    let told = worker.end().await;
    for text in [&log.err, &told.err, &told.out] {
        assert!(!text.contains(&token), "a token in a log");
    }
    assert!(log.err.contains("token_missing") && log.err.contains("not let in"), "{}", log.err);
}

#[tokio::test]
async fn a_login_remembers_the_token_and_shows_it_nowhere() {
    let scene = Scene::start().await;
    let token = scene.token(&[]).await;
    let home = [("HOME", scene.folder.path().to_str().unwrap())];
    let without = Program::end_of(&["login", &scene.url], &home).await;
    assert!(without.code == Some(1) && without.err.contains("token_missing"), "{without:?}");
    let login = Program::end_of(&["login", &scene.url, "--token", &token], &home).await;
    assert_eq!(login.code, Some(0), "{login:?}");
    let file = scene.folder.path().join(".config/holepunch/config.toml");
    assert!(std::fs::read_to_string(&file).unwrap().contains(&token));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for arguments in
        [&["config"][..], &["config", "--json"], &["doctor", "--no-port-mapping", "--json"]]
    {
        let shown =
            Program::end_of(arguments, &[&home[..], &[("STUN_SERVERS", &*scene.stun)]].concat())
                .await;
        assert!(!shown.out.contains(&token) && !shown.err.contains(&token), "{arguments:?}");
    }
    let variables =
        [&home[..], &[("STUN_SERVERS", &*scene.stun), ("NO_PORT_MAPPING", "true")]].concat();
    let mut host = Program::run_with_input(&["pipe"], &variables, "hello");
    let line = host.log.line("on the other side:  ").await;
    let code = line.rsplit(' ').next().unwrap();
    let guest = Program::end_of(&["pipe", code], &variables).await;
    assert_eq!((guest.code, guest.out.as_str()), (Some(0), "hello"), "{guest:?}");
}

#[tokio::test]
async fn a_login_takes_a_token_whatever_its_worker_may_do_with_it() {
    let scene = Scene::start().await;
    let home = [("HOME", scene.folder.path().to_str().unwrap())];
    for narrow in [["--room", "build-*"], ["--id", "ci-*"], ["--mode", "mesh"]] {
        let token = scene.token(&narrow).await;
        let login = Program::end_of(&["login", &scene.url, "--token", &token], &home).await;
        assert_eq!(login.code, Some(0), "{narrow:?}: {login:?}");
        let file = scene.folder.path().join(".config/holepunch/config.toml");
        assert!(std::fs::read_to_string(&file).unwrap().contains(&token), "{narrow:?}");
    }
    let wrong = Program::end_of(&["login", &scene.url, "--token", "ey.ey.x"], &home).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("token_malformed"), "{wrong:?}");
    let narrow = scene.token(&["--room", "build-*"]).await;
    let variables = [home[0], ("STUN_SERVERS", &*scene.stun), ("HOLEPUNCH_TOKEN", &narrow)];
    let fix = scene.advice(&variables).await;
    assert!(fix.contains("rooms that the token allows"), "{fix}");
}

#[tokio::test]
async fn a_rendezvous_with_a_private_key_says_that_it_needs_the_public_one_alone() {
    let mut scene = Scene::start().await;
    let (keys, signing) = (scene.path("keys.json"), scene.path("signing.json"));
    std::fs::copy(&signing, &keys).unwrap();
    let told = scene.rendezvous.log.line("private key").await;
    assert!(told.contains("holepunch token key"), "it says what to do: {told}");
    let public = Program::end_of(&["token", "key", &signing], &[]).await;
    std::fs::write(&keys, &public.out).unwrap();
    scene.rendezvous.log.line("keys of tokens are read again").await;
    scene.rendezvous.signal("TERM").await;
    let log = scene.rendezvous.end().await.err;
    assert_eq!(log.matches("hold a private key").count(), 1, "{log}");
    let arguments = ["rendezvous", "--listen", "127.0.0.1:0", "--stun-listen", "none"];
    let tokens = ["--auth", "token", "--token-keys", &signing];
    let mut rendezvous = Program::run(&[&arguments[..], &tokens].concat(), &[]);
    rendezvous.log.line("private key").await;
}

#[tokio::test]
async fn a_token_that_is_revoked_while_its_worker_runs_is_told_and_another_one_in_its_file_is_taken()
 {
    let scene = Scene::start().await;
    let [first, second] = ["ada", "bob"].map(|sub| async { scene.token(&["--sub", sub]).await });
    let (first, second) = (first.await, second.await);
    std::fs::write(scene.path("token"), &first).unwrap();
    let file = scene.path("token");
    let mut worker = Program::run(
        &[
            "worker",
            "--token-file",
            &file,
            "--port",
            "0",
            "--internal-udp-port",
            "0",
            "--ip-echo-url",
            "none",
        ],
        &scene.variables(&[]),
    );
    worker.log.line("registered").await;
    let mut keys: Value =
        serde_json::from_str(&std::fs::read_to_string(scene.path("keys.json")).unwrap()).unwrap();
    keys["revoked"] = Value::from(vec!["ada"]);
    std::fs::write(&file, &second).unwrap();
    std::fs::write(scene.path("keys.json"), keys.to_string()).unwrap();
    let told = worker.log.line("revoked").await;
    assert!(told.contains("HOLEPUNCH_TOKEN"), "it says what to do: {told}");
    worker.log.line("registered").await;
}

#[tokio::test]
async fn a_token_from_a_file_that_is_refused_is_told_as_one_and_the_doctor_says_to_get_another() {
    let scene = Scene::start().await;
    let token = scene.token(&["--room", "build"]).await;
    std::fs::write(scene.path("token"), &token).unwrap();
    std::fs::write(scene.path("wrong"), "ey.ey.x").unwrap();
    let home = ("HOME", scene.folder.path().to_str().unwrap());
    for variable in ["HOLEPUNCH_TOKEN_FILE", "HOLEPUNCH_TOKEN"] {
        let (file, wrong) = (scene.path("wrong"), "ey.ey.x");
        let value = if variable == "HOLEPUNCH_TOKEN" { wrong } else { &file };
        let variables = [home, ("STUN_SERVERS", &*scene.stun), (variable, value)];
        let fix = scene.advice(&variables).await;
        assert!(fix.contains("get a token"), "{variable}: {fix}");
    }
    // Its worker waits for another one.
    let file = scene.path("wrong");
    let pipe = ["pipe", "--room", "build", "--token-file", &file];
    let mut waits = Program::run_with_input(&pipe, &scene.variables(&[]), "hello");
    waits.log.line("token_malformed").await;
    std::fs::write(&file, &token).unwrap();
    let other = ["pipe", "--room", "build", "--token-file", &scene.path("token")];
    let takes = Program::end_of(&other, &scene.variables(&[])).await;
    assert_eq!((takes.code, takes.out.as_str()), (Some(0), "hello"), "{takes:?}");
    assert_eq!(waits.end().await.code, Some(0));
}

#[tokio::test]
async fn keys_and_tokens_are_made_as_they_are_meant() {
    let scene = Scene::start().await;
    let path = scene.path("signing.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let public = std::fs::read_to_string(scene.path("keys.json")).unwrap();
    assert!(!public.contains("\"d\""), "{public}");
    let again = Program::end_of(&["token", "key", &path], &[]).await;
    assert_eq!(again.out, public, "a key that is there stays");
    let json =
        ["token", "new", "--key", &path, "--id", "a*", "--id", "b", "--mode", "call", "--json"];
    let made = Program::end_of(&json, &[]).await;
    let made: Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(made["claims"]["ids"], serde_json::json!(["a*", "b"]));
    assert_eq!(made["claims"]["modes"], serde_json::json!(["call"]));
    assert!(made["claims"].get("rooms").is_none() && made["claims"]["jti"].is_string());
    let shared = scene.path("shared.json");
    let secret = Program::end_of(&["token", "key", "--secret", "--kid", "x", &shared], &[]).await;
    assert!(secret.out.contains("\"oct\"") && secret.err.contains("secret itself"), "{secret:?}");
    for (arguments, code) in [
        (&["token", "new", "--key", &scene.path("keys.json")][..], 2),
        (&["token", "new", "--key", "/none"], 1),
        (&["token", "new", "--key", &path, "--tenant", "a/b"], 2),
        (&["token", "new", "--key", &path, "--expires", "soon"], 2),
        (&["token", "new", "--key", &path, "--room", &"x".repeat(5000)], 2),
        (&["token", "key", "--kid", "y", &path], 2),
    ] {
        let ended = Program::end_of(arguments, &[]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{arguments:?}: {ended:?}");
    }
    let worker = Program::end_of(&["rendezvous", "--auth", "token"], &[]).await;
    assert!(worker.code == Some(2) && worker.err.contains("--token-keys"), "{worker:?}");
}
