//! What a service manager does with a service: settings from a file, SIGHUP, and what it is told.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use common::Program;

const RENDEZVOUS: [&str; 5] = ["rendezvous", "--listen", "127.0.0.1:0", "--stun-listen", "none"];
const KEY: &str = "0123456789abcdef0123456789abcdef";

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rendezvous/tests/certificates").join(name)
}

/// Certificate and key in a folder of a test's own.
fn pair(folder: &Path) -> [String; 2] {
    ["pem", "key"].map(|end| {
        let to = folder.join(format!("it.{end}"));
        std::fs::copy(certificate(&format!("one.{end}")), &to).unwrap();
        to.to_str().unwrap().to_owned()
    })
}

/// A file with settings.
fn settings(folder: &Path, text: &str) -> String {
    let path = folder.join("settings.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn sighup_reads_a_certificate_again_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = pair(folder.path());
    let variables = [("TLS_CERT", cert.as_str()), ("TLS_KEY", key.as_str()), ("RELAY_KEY", KEY)];
    for command in [&RENDEZVOUS[..], &["relay", "--listen", "127.0.0.1:0"]] {
        let _whole_again = pair(folder.path());
        let mut server = Program::run(command, &variables);
        server.log.line("is running").await;
        for (name, said) in
            [("two", "TLS certificate read again"), ("one", "the one from before stays")]
        {
            std::fs::copy(certificate(&format!("{name}.pem")), &cert).unwrap();
            std::fs::copy(certificate("two.key"), &key).unwrap();
            server.signal("HUP").await;
            server.log.line(said).await;
        }
        server.signal("TERM").await;
        assert_eq!(server.end().await.code, Some(0));
    }
}

#[tokio::test]
async fn sighup_does_not_end_a_worker() {
    let variables = [("RENDEZVOUS_SERVICE_URL", "http://127.0.0.1:9"), ("IP_ECHO_URL", "none")];
    let words =
        ["worker", "--port", "0", "--internal-udp-port", "0", "--stun-servers", "127.0.0.1:9"];
    let mut worker = Program::run(&words, &variables);
    worker.log.line("worker starts").await;
    worker.signal("HUP").await;
    worker.log.line("SIGHUP").await;
    worker.signal("TERM").await;
    assert_eq!(worker.end().await.code, Some(0));
}

#[tokio::test]
async fn a_service_manager_is_told_of_start_reload_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
    let heard = async || {
        let mut bytes = [0; 256];
        let length = common::within("a datagram", manager.recv(&mut bytes)).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let server = Program::run(&RENDEZVOUS, &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(heard().await, "READY=1");
    server.signal("HUP").await;
    assert!(heard().await.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard().await, "READY=1");
    server.signal("TERM").await;
    assert_eq!(heard().await, "STOPPING=1");
    assert_eq!(server.end().await.code, Some(0));
}

#[tokio::test]
async fn a_rendezvous_runs_by_a_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = pair(folder.path());
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstun_listen = \"none\"\ntls_cert = {cert:?}\ntls_key = {key:?}\nmax_workers = 7\n"
    );
    let file = settings(folder.path(), &text);
    let mut server = Program::run(&["rendezvous", "--config", &file], &[]);
    let line = server.log.line("is running").await;
    assert!(line.contains("\"tls\":true"), "{line}");
}

#[tokio::test]
async fn what_a_service_would_run_with_is_printed_with_its_source_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = settings(folder.path(), "max_workers = 7\nmax_workers_per_ip = 3\n");
    let words = ["rendezvous", "--config", &file, "--print-config", "--relay-rate", "1M"];
    let variables =
        [("RELAY_KEY", KEY), ("MAX_WORKERS", "8"), ("PORT", "9000"), ("LOG_FORMAT", "json")];
    let printed = Program::end_of(&words, &variables).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(!printed.out.contains(KEY), "{}", printed.out);
    for row in [
        ["relay-rate", "1M", "--relay-rate"],
        ["max-workers", "8", "MAX_WORKERS"],
        ["max-workers-per-ip", "3", "file"],
        ["relay-key", "(set)", "RELAY_KEY"],
        ["listen", "9000", "PORT"],
        ["ping-timeout-sec", "25", "default"],
        ["no-listing", "false", "default"],
        ["log-format", "json", "LOG_FORMAT"],
    ] {
        let is_there = |line: &str| line.split_whitespace().collect::<Vec<_>>() == row;
        assert!(printed.out.lines().any(is_there), "{row:?}\n{}", printed.out);
    }
}

#[tokio::test]
async fn a_password_in_the_url_of_the_rendezvous_is_not_printed() {
    let variables = [("RENDEZVOUS_SERVICE_URL", "https://u:hush@a.example")];
    let printed = Program::end_of(&["worker", "--print-config"], &variables).await;
    assert!(printed.out.contains("https://a.example"), "{printed:?}");
    assert!(!printed.out.contains("hush"), "{printed:?}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_not_repeated() {
    let variables = [("STORE", "redis://u:hush@h:port"), ("RELAY_KEY", KEY)];
    for more in [&["--check-config"][..], &[]] {
        let ended = Program::end_of(&[&RENDEZVOUS[..], more].concat(), &variables).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains("STORE") && !ended.err.contains("hush"), "{ended:?}");
    }
}

#[tokio::test]
async fn all_that_is_wrong_with_settings_is_told_and_nothing_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        settings(folder.path(), "no_such = 1\nmax_workers = \"many\"\ntls_cert = \"/none.pem\"\n");
    let words = ["rendezvous", "--config", &file, "--check-config", "--stun-listen", "x"];
    let variables = [("TURN_URLS", "turn:a"), ("PROXY_PROTOCOL", "on"), ("RELAY_URL", "http://r")];
    let checked = Program::end_of(&words, &variables).await;
    assert_eq!(checked.code, Some(2), "{checked:?}");
    for fault in [
        "\"no_such\"",
        "max_workers in",
        "--tls-key",
        "--stun-listen",
        "--turn-secret",
        "--trusted-proxy",
        "--relay-key",
    ] {
        assert!(checked.err.lines().any(|line| line.contains(fault)), "{fault}: {}", checked.err);
    }
    let words = ["worker", "--check-config", "--config", &file];
    let checked = Program::end_of(&words, &[("PORT", "x"), ("ROOM_SECRET_FILE", "/none")]).await;
    for fault in ["RENDEZVOUS_SERVICE_URL", "PORT", "/none"] {
        assert!(checked.err.lines().any(|line| line.contains(fault)), "{fault}: {}", checked.err);
    }
    assert_eq!(checked.code, Some(2), "{checked:?}");
}

#[tokio::test]
async fn settings_that_are_good_are_told_as_such_and_no_key_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let identity = folder.path().join("identity.pem");
    let file = settings(folder.path(), "rendezvous = \"https://a.example\"\nport = 0\n");
    let variables = [("IDENTITY", identity.to_str().unwrap()), ("RELAY_KEY", KEY)];
    for command in ["rendezvous", "relay", "worker"] {
        let words = [command, "--config", &file, "--check-config"];
        let checked = Program::end_of(&words, &variables).await;
        assert_eq!(checked.code, Some(0), "{command}: {checked:?}");
    }
    assert!(!identity.exists());
}
