//! `/api/v1`: pages, filters, the document, and what real answers are like.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;

use common::http::{api, get_with};
use common::v1::Client;
use common::{Rendezvous, loopback};
use serde_json::{Value, json};

/// Two workers of `holepunch.v1` with a session in the room `r`, and one of the baseline that waits.
struct World {
    rendezvous: Rendezvous,
    first: Client,
    second: Client,
    _third: common::worker::Worker,
    session: String,
}

impl World {
    async fn new() -> Self {
        let rendezvous = Rendezvous::start();
        let address = rendezvous.address();
        let mut third = rendezvous.worker("base").await;
        third.report("203.0.113.7:4001").await;
        let mut first = Client::connect(address, "one?room=r").await;
        let mut second = Client::connect(address, "two?room=r").await;
        first.report(4001).await;
        second.report(4002).await;
        let offer = first.receive("p2p_connection_offer").await;
        second.receive("p2p_connection_offer").await;
        let session = offer["session"].as_str().unwrap().to_owned();
        let mut world = Self { rendezvous, first, second, _third: third, session };
        world
            .say(json!({ "type": "link_state", "state": "direct", "strategy": "plain", "number": 1,
                          "elapsed_ms": 5, "rtt_ms": 7, "reason": "\u{202e}why" }))
            .await;
        world
    }

    async fn say(&mut self, mut message: Value) {
        message["session"] = json!(self.session);
        self.first.send(message).await;
        self.first.is_up().await;
    }

    async fn api(&self, path: &str) -> Value {
        api(self.rendezvous.address(), path).await
    }
}

fn column<'a>(page: &'a Value, name: &str) -> Vec<&'a str> {
    page["items"].as_array().unwrap().iter().map(|it| it[name].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_no_path_of_the_api_leads_to_its_document() {
    let rendezvous = Rendezvous::start();
    for path in ["/api", "/api/v1", "/api/v1/foo", "/api/v1/workers/", "/api/v2/workers"] {
        let answer = get_with(rendezvous.address(), path, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("/api/v1/openapi.json"), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn workers_rooms_sessions_and_links_are_shown_and_filtered() {
    let world = World::new().await;
    let workers = world.api("workers").await;
    assert_eq!(column(&workers, "id"), ["base", "one", "two"]);
    let base = json!({ "id": "base", "room": "", "ip": "127.0.0.1", "endpoint": "203.0.113.7:4001",
                       "protocol": "baseline", "nat": "unknown", "waiting": true, "overdue": false,
                       "rtt_ms": workers["items"][0]["rtt_ms"], "sessions": 0, "here": true });
    assert_eq!(workers["items"][0], base);
    assert_eq!(workers["items"][1]["sessions"], 1);
    for (filter, ids) in [
        ("room=r", vec!["one", "two"]),
        ("room=", vec!["base"]),
        ("prefix=t", vec!["two"]),
        ("nat=hard", vec![]),
        ("nat=unknown&protocol=v1", vec!["one", "two"]),
        ("waiting=true", vec!["base"]),
    ] {
        assert_eq!(column(&world.api(&format!("workers?{filter}")).await, "id"), ids, "{filter}");
    }
    let rooms = world.api("rooms").await;
    let room = json!({ "room": "r", "class": "pair", "workers": 2, "waiting": 0, "sessions": 1 });
    assert_eq!(rooms["items"][1], room);
    assert_eq!(column(&world.api("rooms?class=default").await, "room"), [""]);
    for kind in ["sessions", "links"] {
        let page = world.api(kind).await;
        assert_eq!(column(&page, "session"), [&*world.session], "{kind}");
        assert_eq!((&page["items"][0]["path"], &page["next"]), (&json!("direct"), &Value::Null));
        for none in ["room=x", "prefix=x", "nat=hard", "path=none"] {
            let page = world.api(&format!("{kind}?{none}")).await;
            assert_eq!(page["items"], json!([]), "{kind} {none}");
        }
    }
    let links = world.api("links?prefix=tw").await;
    let said = &links["items"][0]["workers"];
    assert_eq!((&said[0]["report"]["rtt_ms"], &said[1]["report"]), (&json!(7), &Value::Null));
    let raw = get_with(world.rendezvous.address(), "/api/v1/links", "").await.body;
    assert!(!raw.contains('\u{202e}') && raw.contains("why"), "{raw}");
}

#[tokio::test]
async fn whatever_is_asked_for_comes_page_by_page() {
    let rendezvous = Rendezvous::start();
    let mut workers = Vec::new();
    for id in ["d", "a", "c", "b", "e"] {
        let room = if id < "c" { "?room=B%C3%BCro" } else { "" };
        let mut worker = Client::connect(rendezvous.address(), &format!("{id}{room}")).await;
        worker.is_up().await;
        workers.push(worker);
    }
    let mut pages = Vec::new();
    let mut query = "workers?limit=2".to_owned();
    loop {
        let page = api(rendezvous.address(), &query).await;
        pages.push(column(&page, "id").iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("workers?limit=2&cursor={next}");
    }
    assert_eq!(pages, [vec!["c", "d"], vec!["e", "a"], vec!["b"]], "by room and id");
    let first = api(rendezvous.address(), "rooms?limit=1").await;
    let next = format!("rooms?limit=1&cursor={}", first["next"].as_str().unwrap());
    assert_eq!(column(&api(rendezvous.address(), &next).await, "room"), ["Büro"]);
    for wrong in [
        "workers?limit=0",
        "workers?limit=1001",
        "workers?cursor=x",
        "rooms?room=a",
        "links?nat=x",
        "events?cursor=1",
    ] {
        let answer = get_with(rendezvous.address(), &format!("/api/v1/{wrong}"), "").await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.body.contains("expected"), "{wrong}: {}", answer.body);
    }
}

/// What is wrong with a value that is to be of a schema.
fn faults(schema: &Value, value: &Value, document: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return faults(schema, value, document, at);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        let fits = |schema: &&Value| faults(schema, value, document, at).is_empty();
        let count = any.iter().filter(fits).count();
        return if count == 1 {
            vec![]
        } else {
            vec![format!("{at}: {value} is {count} of those")]
        };
    }
    let mut wrong = Vec::new();
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = &schema["type"];
    if kinds != kind && !kinds.as_array().is_some_and(|all| all.contains(&json!(kind))) {
        wrong.push(format!("{at}: {value} is no {kinds}"));
    }
    if let (Some(words), Value::String(_)) = (schema["enum"].as_array(), value)
        && !words.contains(value)
    {
        wrong.push(format!("{at}: {value} is none of its words"));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        wrong.extend(faults(&schema["items"], item, document, &format!("{at}[{number}]")));
    }
    if let Some(fields) = value.as_object() {
        let properties = &schema["properties"];
        let required = schema["required"].as_array().into_iter().flatten();
        let missing = required.filter(|name| !fields.contains_key(name.as_str().unwrap()));
        wrong.extend(missing.map(|name| format!("{at}: no {name}")));
        for (name, value) in fields {
            match properties.get(name) {
                None => wrong.push(format!("{at}: the document has no {name}")),
                Some(schema) => {
                    wrong.extend(faults(schema, value, document, &format!("{at}.{name}")));
                }
            }
        }
    }
    wrong
}

#[tokio::test]
async fn real_answers_are_as_the_document_says() {
    let mut world = World::new().await;
    let profile = json!({ "udp": "open", "mapping": "address_dependent", "allocation": { "kind": "random" } });
    for client in [&mut world.first, &mut world.second] {
        client.send(json!({ "type": "nat_profile", "profile": profile })).await;
        client.send(json!({ "type": "call", "peer": "nobody" })).await;
        client.send(json!({ "type": "update_udp_endpoint" })).await;
        client.send(json!({ "type": "register_public_ip", "ip": "203.0.113.9" })).await;
        client.send(json!({ "type": "what" })).await;
        client.is_up().await;
    }
    let document = world.api("openapi.json").await;
    let mut wrong = Vec::new();
    for kind in ["workers", "rooms", "sessions", "links", "events"] {
        let response = &document["paths"][format!("/api/v1/{kind}")]["get"]["responses"]["200"];
        let schema = &response["content"]["application/json"]["schema"];
        let page = world.api(&format!("{kind}?limit=1000")).await;
        assert!(!page["items"].as_array().unwrap().is_empty(), "{kind}");
        wrong.extend(faults(schema, &page, &document, kind));
    }
    let mut left = json!({ "type": "leave" });
    left["session"] = json!(world.session);
    world.second.send(left).await;
    world.first.receive("session_ended").await;
    let events = world.api("events?limit=1000").await;
    let seen: BTreeSet<&str> = column(&events, "event").into_iter().collect();
    let expected = [
        "registered",
        "queued",
        "session_started",
        "link_state",
        "session_ended",
        "call_refused",
        "report_refused",
        "public_ip",
        "dropped",
    ];
    assert!(expected.iter().all(|it| seen.contains(it)), "{seen:?}");
    let schema = json!({ "$ref": "#/components/schemas/EventPage" });
    wrong.extend(faults(&schema, &events, &document, "events"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_path_of_the_document_is_served_and_every_route_is_in_it() {
    let rendezvous = Rendezvous::with(|config| config.admin.listen = Some(loopback()));
    let admin = rendezvous.server.admin_address().unwrap();
    let document = api(admin, "openapi.json").await;
    let documented: BTreeSet<String> =
        document["paths"].as_object().unwrap().keys().cloned().collect();
    let source = include_str!("../src/api/mod.rs");
    let routes = source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert_eq!(documented, routes.map(str::to_owned).collect());
    for path in &documented {
        assert_eq!(get_with(admin, path, "").await.status, 200, "{path}");
        let parameters = document["paths"][path]["get"]["parameters"].as_array();
        for parameter in parameters.into_iter().flatten().filter(|it| it["in"] == "query") {
            // A name that is not known is told as such, and not its value.
            let path = format!("{path}?{}=%00", parameter["name"].as_str().unwrap());
            let answer = get_with(admin, &path, "").await;
            assert!(!answer.body.contains("in the query"), "{path}: {}", answer.body);
        }
    }
}

/// Every `$ref` leads somewhere, and every schema is of use.
#[tokio::test]
async fn the_document_is_whole() {
    let rendezvous = Rendezvous::start();
    let text = get_with(rendezvous.address(), "/api/v1/openapi.json", "").await.body;
    let document: Value = serde_json::from_str(&text).unwrap();
    let used: BTreeSet<&str> = text
        .split("\"#/components/schemas/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    let schemas: BTreeSet<&str> =
        document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
    // A gap is told in the stream alone, which has no schema of its events.
    let expected: BTreeSet<&str> = schemas.iter().copied().filter(|it| *it != "Gap").collect();
    assert_eq!(used, expected);
}
