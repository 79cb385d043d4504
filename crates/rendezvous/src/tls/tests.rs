use std::path::Path;

use super::*;

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
