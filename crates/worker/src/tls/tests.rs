use std::time::Duration;

use rustls::ServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const AUTHORITY: &[u8] = include_bytes!("authority.pem");
/// Of that authority, for `a.example` and `b.example`.
const GOOD: &[u8] = include_bytes!("good.pem");
/// Of nobody else, for `a.example`, as `openssl req -x509` makes it.
const OWN_AUTHORITY_CERTIFICATE: &[u8] = include_bytes!("own_authority.pem");
/// The key of both.
const KEY: &[u8] = include_bytes!("key.pem");

/// A clock that stands still: seconds since 1970.
#[derive(Debug)]
struct At(u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

const IN_2030: u64 = 1_900_000_000;

/// What a client that trusts `roots` says of a server with `certificate` for `name`.
async fn said(name: &'static str, certificate: &[u8], roots: &[&[u8]], at: u64) -> Option<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
    }
    // Without any the verifier is none.
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().take(1).cloned());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
    let client = ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(At(at)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accepting = TlsAcceptor::from(Arc::new(server)).accept(far);
    let connecting =
        TlsConnector::from(Arc::new(client)).connect(ServerName::try_from(name).unwrap(), near);
    let (connected, _accepted) = tokio::join!(connecting, accepting);
    connected.err().map(|error| Tls::default().in_words(error).to_string())
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_with_what_to_do() {
    assert_eq!(said("a.example", GOOD, &[AUTHORITY], IN_2030).await, None);
    let own = [OWN_AUTHORITY_CERTIFICATE];
    for (name, certificate, roots, at, words) in [
        (
            "a.example",
            GOOD,
            &[][..],
            IN_2030,
            &["not known here", "SSL_CERT_FILE", "SSL_CERT_DIR"][..],
        ),
        (
            "c.example",
            GOOD,
            &[AUTHORITY],
            IN_2030,
            &["not for c.example", "for a.example, b.example"],
        ),
        ("a.example", GOOD, &[AUTHORITY], 9_000_000_000, &["expired", "days ago", "renew"]),
        ("a.example", GOOD, &[AUTHORITY], 1_000_000_000, &["another", "clock"]),
        ("a.example", OWN_AUTHORITY_CERTIFICATE, &own, IN_2030, &["CA:TRUE", "CA:FALSE"]),
    ] {
        let text = said(name, certificate, roots, at).await.expect("it is refused");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert!(!text.contains("UnknownIssuer") && !text.contains("CaUsed"), "{text}");
    }
}

#[test]
fn a_file_of_authorities_that_is_no_such_thing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let told = |path: &Path| {
        let found = load_certs_from_paths(Some(path), None);
        add(&mut RootCertStore::empty(), "SSL_CERT_FILE", found)
    };
    assert_eq!(told(&file("good", AUTHORITY)), None);
    let missing = told(&dir.path().join("missing")).unwrap();
    assert!(missing.starts_with("SSL_CERT_FILE") && missing.contains("missing"), "{missing}");
    assert!(told(&file("der", b"\x30\x82\x01")).unwrap().contains("no certificate in PEM format"));
    assert!(
        told(&file("broken", b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"))
            .is_some()
    );
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let config = client_config().unwrap();
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let answering = async move {
            let _hello = far.read(&mut [0; 4096]).await.unwrap();
            far.write_all(answer).await.unwrap();
        };
        let name = ServerName::try_from("a.example").unwrap();
        let connecting = TlsConnector::from(Arc::clone(&config)).connect(name, near);
        let (connected, ()) = tokio::join!(connecting, answering);
        let text = Tls::default().in_words(connected.unwrap_err()).to_string();
        assert!(text.contains("does not speak TLS there") && text.contains("http://"), "{text}");
    }
}
