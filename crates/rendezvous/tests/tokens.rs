//! Who may enter: tokens, good ones and others.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/token.rs"]
mod token_tools;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::http::{Answer, exchange, upgrade_request};
use common::v1::Client;
use common::worker::Worker;
use common::{Rendezvous, config};
use holepunch_rendezvous::tokens::{Claims, LEEWAY_S, Mode, TokenKey};
use holepunch_rendezvous::{
    AdminToken, Auth, Config, InstanceId, MatchmakerConfig, MemoryFabric, MemoryStore, Peers,
    Server, Store,
};
use serde_json::{Value, json};
use token_tools::{KeyFile, by, by_secret, key, now, of, part, secret, signed, token};

/// Asks to register with these header lines; the answer ends its connection.
async fn asked(rendezvous: &Rendezvous, path: &str, headers: &str) -> Answer {
    let headers = format!("Sec-WebSocket-Protocol: holepunch.v1\r\n{headers}");
    let request = upgrade_request(&format!("/ws/register/{path}"), &headers);
    let request = request.replace("Connection: Upgrade", "Connection: Upgrade, close");
    exchange(rendezvous.address(), &request).await
}

async fn with_token(rendezvous: &Rendezvous, path: &str, token: &str) -> Answer {
    asked(rendezvous, path, &format!("Authorization: Bearer {token}\r\n")).await
}

fn code(answer: &Answer) -> &str {
    let line = answer.head.lines().find(|line| line.starts_with("holepunch-refusal: "));
    line.map_or("", |line| line.split_once(": ").unwrap().1)
}

/// How often this has been refused or denied, by the metrics.
async fn count(server: &Server, of: &str, why: &str) -> u64 {
    let metrics = common::http::metrics(server.http_address()).await;
    let name = format!("holepunch_{of}_total{{reason=\"{why}\"}} ");
    let found = metrics.lines().find_map(|line| line.strip_prefix(&name));
    found.map_or(0, |count| count.parse().unwrap())
}

async fn listing(server: &Server, token: &str) -> Value {
    let request = format!(
        "GET /debug/list_workers HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = exchange(server.http_address(), &request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn whoever_has_a_token_is_let_in_whichever_way_it_comes() {
    let (pair, shared) = (key("pair"), secret("shared"));
    let keys = KeyFile::new(&[&pair, &shared]);
    let rendezvous = keys.rendezvous();
    for (number, key) in [&pair, &shared].into_iter().enumerate() {
        let token = token(key, |_| {});
        Worker::connect_with(rendezvous.address(), &format!("bearer-{number}"), &token).await;
        Client::connect_with(rendezvous.address(), &format!("listed-{number}"), &token)
            .await
            .is_up()
            .await;
        let basic = STANDARD.encode(format!("x:{token}"));
        let url = format!("Authorization: Basic {basic}\r\n");
        let both = format!("{url}Sec-WebSocket-Protocol: holepunch.token.{token}\r\n");
        for headers in [url, both] {
            let request = upgrade_request("/ws/register/by-url", &headers);
            let mut client = common::raw::RawClient::connect(rendezvous.address()).await;
            client.write(request.as_bytes()).await;
            let head = client.read_head().await;
            assert!(head.starts_with("HTTP/1.1 101") && !head.contains(&token), "{head}");
        }
    }
}

/// Claims that mean nothing.
fn bad_claims() -> Vec<(&'static str, Value)> {
    let times = [json!("2100"), json!(null), json!(-1), json!(1e300), json!([1]), json!(true)];
    let mut all: Vec<_> = times.into_iter().map(|exp| ("exp", exp)).collect();
    all.extend([
        ("nbf", json!("0")),
        ("rooms", json!("build-*")),
        ("rooms", json!([1])),
        ("ids", json!({ "a": 1 })),
        ("modes", json!(["pair", "everything"])),
        ("relay_bytes", json!(-1)),
        ("relay_bytes", json!("1G")),
        ("sub", json!(7)),
        ("room", json!(["build-*"])),
        ("id", json!(["a"])),
        ("relayBytes", json!(1)),
        ("jti", json!({})),
        ("tenant", json!(5)),
    ]);
    let long = "x".repeat(64);
    let tenants = ["", "a/b", "a\u{1f}b", "\u{1f}t\u{1f}", "a\nb", "*", "../x", "ü", "a b", &long];
    all.extend(tenants.map(|tenant| ("tenant", json!(tenant))));
    all
}

/// What is refused, with the code of the refusal.
fn bad_tokens(known: &TokenKey, shared: &TokenKey) -> Vec<(&'static str, String)> {
    let good = json!({ "exp": now() + 3600 });
    let header = json!({ "alg": "EdDSA", "kid": "known" });
    let claims = |claims: Value| signed(&header, &claims, by(known));
    let with = |name: &str, value: Value| {
        let mut all = good.clone();
        all[name] = value;
        claims(all)
    };
    let none = json!({ "alg": "none", "kid": "known" });
    let none_in_capitals = json!({ "alg": "NoNe", "kid": "known" });
    let confused = json!({ "alg": "HS256", "kid": "known" });
    let other_way = json!({ "alg": "EdDSA", "kid": "shared" });
    let critical = json!({ "alg": "EdDSA", "kid": "known", "crit": ["b64"], "b64": false });
    let unknown = json!({ "alg": "EdDSA", "kid": "../../etc/passwd" });
    let public = part(known, "x");
    let token = token(known, |_| {});
    let (head, signature) = token.rsplit_once('.').unwrap();
    let changed = format!(
        "{}.{signature}",
        signed(&header, &json!({ "exp": now() + 9999 }), |_| vec![]).rsplit_once('.').unwrap().0
    );
    let far = |from_now: i64| now().checked_add_signed(from_now).unwrap();
    let mut all = vec![
        ("token_algorithm", signed(&none, &good, |_| Vec::new())),
        ("token_algorithm", signed(&none_in_capitals, &good, by(known))),
        ("token_algorithm", signed(&confused, &good, by_secret(&public))),
        ("token_algorithm", signed(&other_way, &good, by(known))),
        ("token_signature", signed(&header, &good, by(&key("known")))),
        ("token_signature", signed(&header, &good, |_| Vec::new())),
        ("token_signature", signed(&header, &good, |_| vec![0; 64])),
        ("token_signature", changed),
        ("token_signature", token_tools::token(&secret("shared"), |_| {})),
        ("token_key_unknown", signed(&unknown, &good, by(known))),
        ("token_key_unknown", signed(&json!({ "alg": "EdDSA" }), &good, by(known))),
        ("token_malformed", signed(&critical, &good, by(known))),
        ("token_malformed", signed(&json!([1]), &good, by(known))),
        ("token_malformed", signed(&json!({ "alg": 5, "kid": "known" }), &good, by(known))),
        ("token_malformed", head.to_owned()),
        ("token_malformed", format!("{token}.x")),
        ("token_malformed", format!("!{token}")),
        ("token_malformed", format!("{head}.!")),
        ("token_malformed", "not-a-token".to_owned()),
        ("token_too_long", format!("{head}.{}", "x".repeat(5000))),
        ("token_expired", claims(json!({ "exp": far(-300) }))),
        ("token_expired", claims(json!({ "exp": 0 }))),
        ("token_not_yet", with("nbf", json!(far(300)))),
        ("token_audience", with("aud", json!(["somebody", "else"]))),
        ("token_claims", claims(json!({}))),
        ("token_claims", claims(json!([]))),
        (
            "token_claims",
            signed(
                &json!({ "alg": "HS256", "kid": "shared" }),
                &json!({}),
                by_secret(&part(shared, "k")),
            ),
        ),
    ];
    all.extend(bad_claims().into_iter().map(|(name, value)| ("token_claims", with(name, value))));
    all
}

#[tokio::test]
async fn what_is_no_good_token_is_refused_with_a_code_and_a_sentence() {
    let (known, shared) = (key("known"), secret("shared"));
    let keys = KeyFile::new(&[&known, &shared]);
    let rendezvous = keys.rendezvous();
    for (expected, token) in bad_tokens(&known, &shared) {
        let answer = with_token(&rendezvous, "a", &token).await;
        let about = format!("{expected}: {token}: {}", answer.body);
        assert_eq!((answer.status, code(&answer)), (401, expected), "{about}");
        assert!(answer.body.starts_with(&format!("{expected}: ")), "{about}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
        assert!(!answer.body.contains(&token) && answer.body.len() < 500, "{about}");
    }
    for none in ["", "Authorization: Bearer \r\n", "Authorization: Digest x\r\n"] {
        let answer = asked(&rendezvous, "a", none).await;
        assert_eq!((answer.status, code(&answer)), (401, "token_missing"), "{none}");
        assert!(answer.body.contains("HOLEPUNCH_TOKEN"), "{}", answer.body);
    }
    let one = token(&known, |_| {});
    let other = token(&shared, |_| {});
    let two = format!(
        "Authorization: Bearer {one}\r\nSec-WebSocket-Protocol: holepunch.token.{other}\r\n"
    );
    assert_eq!(code(&asked(&rendezvous, "a", &two).await), "tokens_differ");
    assert_eq!(count(&rendezvous.server, "denied", "token_missing").await, 3);
    assert_eq!(count(&rendezvous.server, "denied", "tokens_differ").await, 1);
    assert!(count(&rendezvous.server, "denied", "token_signature").await > 3);
    let listed = listing(&rendezvous.server, &one).await;
    assert_eq!(listed["connected_workers_count"], 0, "nobody has come in");
}

#[tokio::test]
async fn a_token_of_64_kib_is_refused_by_the_limit_of_headers() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let answer = with_token(&rendezvous, "a", &"x".repeat(64 * 1024)).await;
    assert_eq!(answer.status, 431);
    Worker::connect_with(rendezvous.address(), "a", &token(&known, |_| {})).await;
}

#[tokio::test]
async fn clocks_may_be_a_minute_apart_and_no_more() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let ahead = token(&known, |claims| claims.nbf = Some(now() + LEEWAY_S - 10));
    Worker::connect_with(rendezvous.address(), "ahead", &ahead).await;
    let behind = token(&known, |claims| claims.exp = now() - 10);
    Worker::connect_with(rendezvous.address(), "behind", &behind).await;
    for (from_now, expected) in [(-300, "token_expired"), (300, "token_not_yet")] {
        let at = now().checked_add_signed(from_now).unwrap();
        let far = token(&known, |claims| {
            (claims.exp, claims.nbf) = if from_now < 0 { (at, None) } else { (at + 9, Some(at)) };
        });
        let answer = with_token(&rendezvous, "far", &far).await;
        assert_eq!((answer.status, code(&answer)), (401, expected));
        assert!(answer.body.contains("clock"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_good_token_lets_nobody_in_where_it_does_not_say_so() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let narrow = token(&known, |claims| {
        claims.ids = Some(vec!["ci-*".to_owned()]);
        claims.rooms = Some(vec!["build-*".to_owned()]);
        claims.modes = Some(vec![Mode::Pair, Mode::Call]);
    });
    for (path, expected) in [
        ("other?room=build-1", "id_not_allowed"),
        ("ci-1?room=prod", "room_not_allowed"),
        ("ci-1", "room_not_allowed"),
        ("ci-1?room=build", "room_not_allowed"),
    ] {
        let answer = with_token(&rendezvous, path, &narrow).await;
        assert_eq!((answer.status, code(&answer)), (403, expected), "{path}: {}", answer.body);
        assert!(answer.body.contains("-*"), "it says what is allowed: {}", answer.body);
        let names_default = answer.body.contains("not the default room (\"\")");
        assert_eq!(names_default, path == "ci-1", "{}", answer.body);
    }
    // A baseline client is in the room without a name, whatever its URL says.
    let baseline = upgrade_request(
        "/ws/register/ci-1?room=build-1",
        &format!("Connection: close\r\nAuthorization: Bearer {narrow}\r\n"),
    );
    assert_eq!(code(&exchange(rendezvous.address(), &baseline).await), "room_not_allowed");
    let mut worker = Client::connect_with(rendezvous.address(), "ci-1?room=build-1", &narrow).await;
    worker.send(json!({ "type": "hello", "room": "build-2" })).await;
    worker.is_up().await;
    worker.send(json!({ "type": "hello", "room": "prod" })).await;
    assert_eq!(worker.receive("closing").await["code"], "room_not_allowed");
    assert_eq!(worker.closed().await.0, 1008);
    let mut worker = Client::connect_with(rendezvous.address(), "ci-1?room=build-1", &narrow).await;
    worker.send(json!({ "type": "hello", "room": "build-1", "mode": "mesh" })).await;
    assert_eq!(worker.receive("closing").await["code"], "mode_not_allowed");
    assert_eq!(count(&rendezvous.server, "registrations_refused", "mode_not_allowed").await, 1);
}

#[tokio::test]
async fn two_tenants_use_the_same_room_and_id_at_once_and_see_nothing_of_each_other() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let (one, two) = (of(&known, "one"), of(&known, "two"));
    let mut workers = Vec::new();
    for (token, id, port) in
        [(&one, "same", 4001), (&two, "same", 4002), (&one, "peer", 4003), (&two, "peer", 4004)]
    {
        let mut worker =
            Client::connect_with(rendezvous.address(), &format!("{id}?room=r"), token).await;
        worker.send(json!({ "type": "hello", "room": "r" })).await;
        worker.report(port).await;
        workers.push(worker);
    }
    for (own, port) in [(0, 4003), (1, 4004), (2, 4001), (3, 4002)] {
        let offer = workers[own].receive("p2p_connection_offer").await;
        assert_eq!(offer["peer_udp_port"], port, "{own}: {offer}");
    }
    let mut guest = Client::connect_with(rendezvous.address(), "guest?room=s", &two).await;
    guest.send(json!({ "type": "hello", "room": "s" })).await;
    let mut waits = Client::connect_with(rendezvous.address(), "waits?room=s", &one).await;
    waits.send(json!({ "type": "hello", "room": "s", "callable": true })).await;
    waits.is_up().await;
    guest.send(json!({ "type": "call", "peer": "waits" })).await;
    assert_eq!(guest.receive("error").await["call"], "not_registered");
    for (token, other) in [(&one, "guest"), (&two, "waits")] {
        let listed = listing(&rendezvous.server, token).await;
        assert_eq!(listed["connected_workers_count"], 3, "{listed}");
        assert!(listed["workers"]["same"].is_object() && listed["workers"][other].is_null());
    }
    let answer = common::http::get(rendezvous.address(), "/debug/list_workers").await;
    assert_eq!((answer.status, code(&answer)), (401, "token_missing"));
}

#[tokio::test]
async fn the_admin_token_alone_shows_the_workers_of_all_tenants_page_by_page() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let admin = "0123456789abcdef";
    let rendezvous = Rendezvous::with(|config| {
        config.auth = Auth::Token { keys: keys.path.clone() };
        config.admin.token = Some(AdminToken::new(admin).unwrap());
    });
    let mut workers = Vec::new();
    for tenant in ["one", "two"] {
        let token = of(&known, tenant);
        let mut worker = Worker::connect_with(rendezvous.address(), "same", &token).await;
        worker.is_up().await;
        workers.push(worker);
    }
    let (mut query, mut seen) = (String::new(), Vec::new());
    for _ in 0..2 {
        let path = format!("/debug/list_workers?limit=1{query}");
        let head = format!("Authorization: Bearer {admin}\r\n");
        let answer = common::http::get_with(rendezvous.address(), &path, &head).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(page["connected_workers_count"], 2, "{page}");
        seen.extend(page["workers"].as_object().unwrap().keys().cloned());
        query = page["next_after"]
            .as_str()
            .map_or(String::new(), |after| format!("&after={}", after.replace('\u{1f}', "%1f")));
    }
    assert_eq!(seen, ["one/same", "two/same"]);
    let head = format!("Authorization: Bearer {}\r\n", of(&known, "one"));
    let refused = common::http::get_with(rendezvous.address(), "/debug/list_workers", &head).await;
    assert_eq!(refused.status, 401, "a worker's token is not the admin's");
}

#[tokio::test]
async fn two_tenants_stay_apart_at_several_rendezvous() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(MatchmakerConfig::default()));
    let fabric = MemoryFabric::default();
    let servers = [1, 2].map(|number| {
        let own = InstanceId(number);
        let peers = Peers::new(own, Arc::clone(&store), fabric.end(own));
        let auth = Auth::Token { keys: keys.path.clone() };
        Server::bind_among(peers, Config { auth, ..config() }).unwrap()
    });
    let tokens = ["one", "two"].map(|tenant| of(&known, tenant));
    let mut workers = Vec::new();
    for (id, port) in [("same", 4000), ("peer", 4010)] {
        for (tenant, token) in tokens.iter().enumerate() {
            let server = &servers[(tenant + usize::from(id == "peer")) % 2];
            let mut worker = Worker::connect_with(server.http_address(), id, token).await;
            worker.report(&format!("203.0.113.1:{}", port + tenant)).await;
            workers.push(worker);
        }
    }
    for (worker, port) in workers.iter_mut().zip([4010, 4011, 4000, 4001]) {
        assert_eq!(worker.offer().await.1, format!("203.0.113.1:{port}"));
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_its_connections_and_no_others() {
    let (known, other) = (key("known"), key("other"));
    let keys = KeyFile::new(&[&known, &other]);
    let rendezvous = keys.rendezvous();
    let named = |jti: &str, sub: &str| {
        token(&known, |claims| {
            (claims.jti, claims.sub) = (Some(jti.to_owned()), Some(sub.to_owned()));
        })
    };
    let mut ended = Vec::new();
    for (id, token) in
        [("a", named("first", "ada")), ("b", named("second", "bob")), ("c", token(&other, |_| {}))]
    {
        ended.push(Client::connect_with(rendezvous.address(), id, &token).await);
    }
    let mut stays =
        Client::connect_with(rendezvous.address(), "stays", &named("third", "ada")).await;
    // The file is looked at by itself.
    keys.write(&[&known], &["first", "bob"]);
    for worker in &mut ended {
        assert_eq!(worker.receive("closing").await["code"], "token_revoked");
        let (code, why) = worker.closed().await;
        assert!(code == 1008 && why.contains("revoked"), "{code} {why}");
    }
    stays.is_up().await;
    assert_eq!(count(&rendezvous.server, "registrations_refused", "token_revoked").await, 3);
    let again = with_token(&rendezvous, "a", &named("first", "ada")).await;
    assert_eq!((again.status, code(&again)), (401, "token_revoked"));
    keys.write(&[&known], &["ada"]);
    rendezvous.server.reload().unwrap();
    assert_eq!(stays.closed().await.0, 1008);
}

#[tokio::test]
async fn another_key_under_the_same_name_is_another_key() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let mut worker = Worker::connect_with(rendezvous.address(), "a", &token(&known, |_| {})).await;
    let next = key("known");
    keys.write(&[&next], &[]);
    rendezvous.server.reload().unwrap();
    assert_eq!(worker.closed().await.0, 1008);
    Worker::connect_with(rendezvous.address(), "a", &token(&next, |_| {})).await;
}

#[tokio::test]
async fn a_token_that_expires_ends_its_connection() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let soon = token(&known, |claims| claims.exp = now() + 1 - LEEWAY_S);
    let mut worker = Client::connect_with(rendezvous.address(), "a", &soon).await;
    assert_eq!(worker.receive("closing").await["code"], "token_expired");
    assert_eq!(worker.closed().await.0, 1008);
    let answer = with_token(&rendezvous, "a", &soon).await;
    assert_eq!((answer.status, code(&answer)), (401, "token_expired"));
}

#[tokio::test]
async fn a_file_that_is_broken_leaves_the_keys_as_they_were() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let token = token(&known, |_| {});
    let mut worker = Worker::connect_with(rendezvous.address(), "a", &token).await;
    for broken in ["", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2hvcnQ\"}]}"] {
        std::fs::write(&keys.path, broken).unwrap();
        let why = rendezvous.server.reload().unwrap_err().to_string();
        assert!(!why.contains("c2hvcnQ"), "{why}");
        Worker::connect_with(rendezvous.address(), "b", &token).await;
    }
    std::fs::remove_file(&keys.path).unwrap();
    assert!(rendezvous.server.reload().is_err());
    worker.is_up().await;
    keys.write(&[&key("next")], &[]);
    rendezvous.server.reload().unwrap();
    assert_eq!(worker.closed().await.0, 1008);
}

#[tokio::test]
async fn without_keys_no_server_begins() {
    for text in [None, Some("{}")] {
        let keys = KeyFile::new(&[&key("known")]);
        match text {
            Some(text) => std::fs::write(&keys.path, text).unwrap(),
            None => std::fs::remove_file(&keys.path).unwrap(),
        }
        let auth = Auth::Token { keys: keys.path.clone() };
        let error = Server::bind(Config { auth, ..config() }).unwrap_err().to_string();
        assert!(error.contains("--token-keys") && error.contains("holepunch-keys"), "{error}");
    }
}

#[tokio::test]
async fn a_session_is_relayed_as_much_as_the_token_says() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = keys.rendezvous();
    let bounded = token(&known, |claims: &mut Claims| claims.relay_bytes = Some(64 * 1024));
    let linked = common::relay::Linked::with(rendezvous.address(), "a", Some(&bounded)).await;
    let [mut first, mut second] = linked.open_both().await;
    for _ in 0..5 {
        common::relay::send(&mut first, vec![7; 16 * 1024]).await;
    }
    assert_eq!(common::relay::closed(&mut first).await.0, 1008);
    assert_eq!(common::relay::receive(&mut second).await.len(), 16 * 1024);
    let again = common::relay::refused(rendezvous.address(), &linked.session, &linked.tokens[1]);
    assert_eq!(again.await.0, 429, "the quota is used up");
    let none = token(&known, |claims| claims.relay_bytes = Some(0));
    let (_workers, offers) = common::relay::offered(rendezvous.address(), "b", Some(&none)).await;
    assert!(offers.iter().all(|offer| offer.get("relay_token").is_none()), "{offers:?}");
}

#[tokio::test]
async fn a_tenant_that_has_its_places_taken_is_told_so() {
    let known = key("known");
    let keys = KeyFile::new(&[&known]);
    let rendezvous = Rendezvous::with(|config| {
        config.auth = Auth::Token { keys: keys.path.clone() };
        config.matchmaker.workers_per_tenant_max = Some(1);
    });
    let _first = Worker::connect_with(rendezvous.address(), "a", &of(&known, "one")).await;
    let answer = with_token(&rendezvous, "b", &of(&known, "one")).await;
    assert!(answer.status == 429 && answer.body.contains("of this tenant"), "{}", answer.body);
    Worker::connect_with(rendezvous.address(), "b", &of(&known, "two")).await;
}
