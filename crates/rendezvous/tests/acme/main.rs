//! A server that has its certificate made (`--features acme`).

#![cfg(feature = "acme")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod authority;
mod client;
#[path = "../common/mod.rs"]
mod common;

use std::process::Command;
use std::time::Duration;

use authority::{Authority, DOMAIN};
use common::{Rendezvous, within};
use holepunch_rendezvous::{AcmeSettings, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Between two looks at what announces itself nowhere.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The first certificate that clients of the authority take, and a request by it.
async fn serves(rendezvous: &Rendezvous, authority: &Authority) {
    let mut client = within("a certificate", async {
        loop {
            match client::trusting(rendezvous.address(), DOMAIN, authority.root()).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    })
    .await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Which authorities a process trusts, it reads from its environment: the test has one of its own.
#[test]
fn a_certificate_is_asked_for_proved_served_and_kept_over_a_restart() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/authority.pem");
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "with_an_authority_of_the_tests_own", "--ignored", "--nocapture"]);
    assert!(process.env("SSL_CERT_FILE", root).status().unwrap().success());
}

#[tokio::test]
#[ignore = "the test above runs it, in a process that trusts the authority"]
async fn with_an_authority_of_the_tests_own() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("acme");
    let authority = Authority::start().await;
    let settings = AcmeSettings {
        domains: vec![DOMAIN.to_owned()],
        contacts: vec!["mailto:a@rendezvous.example".to_owned()],
        cache: cache.clone(),
        directory: authority.directory(),
    };
    let start = || {
        let tls = Some(Tls::acme(&settings).unwrap());
        Rendezvous::with(|config| config.tls = tls)
    };
    let rendezvous = start();
    authority.server.set(rendezvous.address()).unwrap();
    serves(&rendezvous, &authority).await;
    let kept = || std::fs::read_dir(&cache).unwrap().count();
    within("account and certificate", async {
        while kept() < 2 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&cache.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700, "the folder has keys in it");
    }
    rendezvous.server.shutdown().await;
    let again = start();
    serves(&again, &authority).await;
    assert_eq!(authority.order.lock().unwrap().count, 1, "the one that was kept is served");
}
