use std::path::Path;
use std::time::Instant;

use holepunch_wire::address::Source;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::listening::{Bound, Settings};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
}

fn files(certificate: &str, key: &str) -> TlsFiles {
    TlsFiles { certificate: fixture(certificate), key: fixture(key) }
}

fn refused(certificate: &str, key: &str) -> TlsError {
    Tls::open(files(certificate, key)).unwrap_err()
}

/// Two files of a test's own.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn of(name: &str) -> Self {
        let pair = Self { folder: tempfile::tempdir().unwrap() };
        pair.put("pem", name);
        pair.put("key", name);
        pair
    }

    fn files(&self) -> TlsFiles {
        let at = |end| self.folder.path().join(format!("it.{end}"));
        TlsFiles { certificate: at("pem"), key: at("key") }
    }

    /// A file in the place of the one before, as who renews a certificate puts it.
    fn put(&self, end: &str, name: &str) {
        let new = self.folder.path().join("new");
        std::fs::copy(fixture(&format!("{name}.{end}")), &new).unwrap();
        std::fs::rename(new, self.folder.path().join(format!("it.{end}"))).unwrap();
    }
}

#[test]
fn what_is_wrong_with_the_files_is_told_apart() {
    assert!(matches!(refused("none.pem", "one.key"), TlsError::Unreadable { .. }));
    let no_certificate = refused("one.key", "one.key");
    let expected = Expected::Certificate;
    assert!(matches!(no_certificate, TlsError::NotPem { expected: it, .. } if it == expected));
    let no_key = refused("one.pem", "one.pem");
    assert!(matches!(no_key, TlsError::NotPem { expected: Expected::Key, .. }));
    assert!(matches!(refused("one.pem", "encrypted.key"), TlsError::Encrypted { .. }));
    assert!(matches!(refused("one.pem", "two.key"), TlsError::OtherKey { .. }));
    let text = refused("one.pem", "two.key").to_string();
    assert!(text.contains("two.key") && text.contains("one.pem"), "{text}");
}

#[test]
fn one_that_has_expired_is_served_with_its_time() {
    let tls = Tls::open(files("expired.pem", "expired.key")).unwrap();
    assert!(tls.not_after().unwrap() < SystemTime::now());
    let tls = Tls::open(files("one.pem", "one.key")).unwrap();
    assert!(tls.not_after().unwrap() > SystemTime::now());
}

#[test]
fn files_are_read_again_once_for_each_change() {
    let pair = Pair::of("one");
    let tls = Tls::open(pair.files()).unwrap();
    let before = tls.config();
    assert!(!tls.look());
    pair.put("pem", "two");
    assert!(tls.look() && !tls.look(), "half of a change is told once");
    assert!(Arc::ptr_eq(&before, &tls.config()), "the pair from before stays");
    pair.put("key", "two");
    assert!(tls.look() && !tls.look());
    assert!(!Arc::ptr_eq(&before, &tls.config()));
    let counts = tls.counts();
    assert_eq!((counts.reloads, counts.reload_failures), (1, 1));
}

#[test]
fn files_that_are_gone_leave_what_there_was() {
    let pair = Pair::of("one");
    let tls = Tls::open(pair.files()).unwrap();
    std::fs::remove_file(pair.files().key).unwrap();
    assert!(tls.look() && !tls.look());
    assert!(matches!(tls.reload(), Err(TlsError::Unreadable { .. })), "whoever asks is answered");
    assert_eq!(tls.counts().reload_failures, 2);
}

#[tokio::test]
async fn an_address_that_has_shaken_hands_too_often_is_ended_before_anything_is_signed() {
    let tls = Tls::open(files("one.pem", "one.key")).unwrap();
    let bound = Bound::bind(Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        proxy_protocol: true,
        public_hosts: Vec::new(),
        open_files_max: None,
        websockets_max: 8,
        tls: Some(tls.clone()),
    })
    .unwrap();
    let front = &bound.front;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    // Used up for longer than the test takes.
    let ahead = Instant::now() + Duration::from_secs(600);
    for ip in ["192.0.2.1", "10.0.0.1", "127.0.0.1"] {
        let source = Source::of(ip.parse().unwrap());
        let mut rates = tls.0.rates.lock().unwrap();
        for _ in 0..handshake::HANDSHAKES.burst {
            assert!(rates.take(source, ahead, || true));
        }
    }
    let mut outcomes = Vec::new();
    for ip in ["192.0.2.1", "192.0.2.2", "10.0.0.1", "127.0.0.1"] {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(&[0; 64]).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let permit = front.connections.free_place().await;
        let place = front.connections.enter(permit, stream, ip.parse().unwrap());
        assert!(!secured(front, &place).await, "{ip} has written what is no handshake");
        drop(place);
        let mut answer = Vec::new();
        // It may end with a reset.
        let _end = client.read_to_end(&mut answer).await;
        outcomes.push((ip, answer.is_empty()));
    }
    // Whoever is let through is told by an alert what is wrong (RFC 8446 §6).
    let expected =
        [("192.0.2.1", true), ("192.0.2.2", false), ("10.0.0.1", false), ("127.0.0.1", false)];
    assert_eq!(outcomes, expected, "of one address; another's, a proxy's, and this machine");
    let counts = tls.counts();
    assert_eq!((counts.handshakes_refused, counts.handshake_failures), (1, 3));
}
