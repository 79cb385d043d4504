//! Who may look at metrics, API and listing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;

use common::http::{Answer, get, get_with};
use common::{Rendezvous, loopback};
use holepunch_rendezvous::AdminToken;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const BEARER: &str = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
/// `me` and the token.
const BASIC: &str = "Authorization: Basic bWU6MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\r\n";
const INSIDE: [&str; 3] = ["/metrics", "/api/v1/workers", "/api/v1/openapi.json"];
const LISTING: &str = "/debug/list_workers";

async fn status(address: SocketAddr, path: &str, further: &str) -> u16 {
    get_with(address, path, further).await.status
}

fn guarded() -> Rendezvous {
    Rendezvous::with(|config| config.admin.token = Some(AdminToken::new(TOKEN).unwrap()))
}

#[tokio::test]
async fn without_a_token_this_machine_sees_everything_and_others_are_told_what_to_set() {
    let rendezvous = Rendezvous::behind_a_proxy();
    let address = rendezvous.address();
    for path in INSIDE {
        let local = "X-Forwarded-For: 127.0.0.1\r\n";
        assert_eq!(status(address, path, local).await, 200, "{path}");
        for elsewhere in
            ["X-Forwarded-For: 198.51.100.7\r\n", "X-Forwarded-For: 127.0.0.1, 198.51.100.7\r\n"]
        {
            let Answer { status, body, .. } = get_with(address, path, elsewhere).await;
            assert_eq!(status, 403, "{path}");
            assert!(body.contains("--admin-token") && body.contains("--admin-listen"), "{body}");
        }
        // A trusted proxy that does not say for whom it speaks may speak for anybody.
        assert_eq!(status(address, path, "").await, 403, "{path}");
    }
    assert_eq!(status(address, LISTING, "X-Forwarded-For: 198.51.100.7\r\n").await, 200);
}

#[tokio::test]
async fn a_proxy_of_this_machine_that_nobody_trusts_is_not_this_machine() {
    let rendezvous = Rendezvous::start();
    let address = rendezvous.address();
    assert_eq!(status(address, "/metrics", "").await, 200);
    for header in [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: a.example",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "Via: 1.1 proxy",
    ] {
        assert_eq!(status(address, "/metrics", &format!("{header}\r\n")).await, 403, "{header}");
    }
}

/// A page whose name has come to mean this machine (DNS rebinding).
#[tokio::test]
async fn a_name_that_is_not_the_servers_own_opens_nothing_without_a_token() {
    let rendezvous = Rendezvous::with(|config| config.public_hosts.push("own.example".into()));
    let address = rendezvous.address();
    let ask = |host: &str, further: &str| {
        let head =
            format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{further}\r\n");
        async move { common::http::exchange(address, &head).await }
    };
    for host in ["127.0.0.1", "localhost:8080", "[::1]:1", "own.example"] {
        assert_eq!(ask(host, "").await.status, 200, "{host}");
    }
    let refused = ask("rebound.example", "").await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("--public-host"), "{}", refused.body);
    let page = "Origin: http://evil.example\r\n";
    assert_eq!(ask("127.0.0.1", page).await.status, 403, "a page of another site");
    let metrics = common::http::metrics(address).await;
    for line in [r#"{reason="not_local"} 1"#, r#"{reason="origin"} 1"#] {
        let line = format!("holepunch_requests_refused_total{line}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn with_a_token_nobody_sees_anything_without_it() {
    let rendezvous = guarded();
    let address = rendezvous.address();
    let short = BEARER.replace("ef\r\n", "e\r\n");
    for path in INSIDE.into_iter().chain([LISTING]) {
        for shown in [BEARER, BASIC] {
            assert_eq!(status(address, path, shown).await, 200, "{path} {shown}");
        }
        for shown in ["", "Authorization: Bearer\r\n", "Authorization: Basic !\r\n", &short] {
            let refused = get_with(address, path, shown).await;
            assert_eq!(refused.status, 401, "{path} {shown}");
            assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
            assert!(refused.head.contains("www-authenticate: basic"), "{}", refused.head);
        }
    }
    for open in ["/", "/healthz", "/readyz"] {
        assert_eq!(get(address, open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn an_address_of_their_own_has_all_of_it_and_that_of_workers_nothing() {
    let rendezvous = Rendezvous::with(|config| config.admin.listen = Some(loopback()));
    let admin = rendezvous.server.admin_address().unwrap();
    let mut worker = rendezvous.worker("a").await;
    for path in INSIDE.into_iter().chain([LISTING]) {
        assert_eq!(status(admin, path, "").await, 200, "{path}");
        assert_eq!(status(rendezvous.address(), path, "").await, 404, "{path}");
    }
    let metrics = common::http::metrics(admin).await;
    assert!(metrics.contains("\nholepunch_workers 1\n"), "{metrics}");
    assert!(metrics.contains(r#"holepunch_connections{kind="websocket"} 1"#), "{metrics}");
    assert_eq!(get(admin, "/healthz").await.status, 200);
    assert_eq!(status(admin, "/ws/register/b", "").await, 404, "no worker comes in there");
    worker.is_up().await;
    rendezvous.server.shutdown().await;
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn an_address_of_their_own_may_have_a_token_as_well() {
    let rendezvous = Rendezvous::with(|config| {
        config.admin.listen = Some(loopback());
        config.admin.token = Some(AdminToken::new(TOKEN).unwrap());
    });
    let admin = rendezvous.server.admin_address().unwrap();
    assert_eq!(status(admin, "/metrics", "").await, 401);
    assert_eq!(status(admin, "/metrics", BEARER).await, 200);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let mut config = common::config();
    config.admin.listen = Some(taken.local_addr().unwrap());
    let error = holepunch_rendezvous::Server::bind(config).unwrap_err().to_string();
    assert!(error.contains("--admin-listen"), "{error}");
}
