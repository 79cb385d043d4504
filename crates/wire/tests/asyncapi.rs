//! `docs/asyncapi.json` against the messages as they are written.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use holepunch_wire::WorkerId;
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::check::IceRole;
use holepunch_wire::credentials::IceCredentials;
use holepunch_wire::identity::{PublicKey, Signature};
use holepunch_wire::nat::{Allocation, NatProfile, SearchWish};
use holepunch_wire::plan::{Aim, Announce, Plan, Search, Strategy};
use holepunch_wire::reason::{CallError, CloseReason, EndReason};
use holepunch_wire::session::{AddressProof, LinkState, RelayToken, RoomMode, RoomName, SessionId};
use holepunch_wire::signal::v1::{
    ErrorCode, HeldSession, LinkReport, ServerV1, SessionDetails, Welcome, WorkerV1,
};
use holepunch_wire::signal::{RawValue, ServerMessage, WorkerMessage};
use holepunch_wire::turn::TurnServer;
use serde_json::{Value, json};

const SESSION: SessionId = SessionId(0xab);

fn ip() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn candidates() -> Vec<Candidate> {
    vec![Candidate::new(CandidateKind::Host, (ip(), 1).into())]
}

fn turn() -> Vec<TurnServer> {
    let text = || "x".to_owned();
    vec![TurnServer { url: text(), username: text(), credential: text() }]
}

fn plan(aim: Aim) -> Plan {
    Plan {
        number: 1,
        strategy: Strategy::Sweep,
        delay_ms: 1,
        opener_ttl: Some(3),
        search: Some(Search {
            sockets: 1,
            fresh: true,
            aim,
            announce: Announce::LocalPorts,
            probes_max: 1,
            per_second: 1,
            except: vec![1],
        }),
        expected_percent: Some(9),
        reason: "why".to_owned(),
    }
}

fn profile(allocation: Allocation) -> NatProfile {
    NatProfile {
        allocation,
        ports: vec![1],
        hairpin: Some(true),
        remaps_after_inbound: Some(true),
        opener_ttl: Some(2),
        reuses_ports: Some(true),
        lifetime_s: Some(30),
        ipv6: Some(true),
        search: SearchWish::Usual,
        ..NatProfile::default()
    }
}

/// All messages of workers, each with every field that it may have. What is written field by field here has to be written anew
/// where there is another field.
fn of_workers() -> Vec<Value> {
    let (udp_ip, udp_port, session) = (ip(), 1, SESSION);
    let baseline = [
        WorkerMessage::RegisterPublicIp { ip: ip() },
        WorkerMessage::UpdateUdpEndpoint { udp_ip, udp_port },
        WorkerMessage::EchoRequest { payload: "x".to_owned() },
        WorkerMessage::GetMyDetails,
    ];
    let report = LinkReport {
        session,
        state: LinkState::Direct,
        strategy: Strategy::Plain,
        number: 1,
        reason: String::new(),
        rtt_ms: Some(1),
        elapsed_ms: 1,
        probes: 1,
    };
    let held = HeldSession {
        session,
        peer: WorkerId::new("b").unwrap(),
        role: IceRole::Controlled,
        number: 1,
        strategy: Strategy::Plain,
        direct: true,
        guest: true,
    };
    let allocations = [
        Allocation::Preserving,
        Allocation::Sequential { step: -2 },
        Allocation::Block { lowest: 1, highest: 2, size: 3 },
    ];
    let profiles = allocations.map(|it| WorkerV1::NatProfile { profile: profile(it) });
    let v1 = [
        WorkerV1::Hello {
            room: Some(RoomName::new("r").unwrap()),
            mode: Some(RoomMode::Mesh),
            key: Some(PublicKey::from_bytes([7; 32])),
            signature: Some(Box::new(Signature::from_bytes([7; 64]))),
            resume: Some(String::new()),
            sessions: Some(vec![session]),
            held: vec![held],
            fresh: true,
            own: true,
            callable: true,
        },
        WorkerV1::Ready,
        WorkerV1::Candidates { generation: 1, candidates: candidates() },
        WorkerV1::AddressProof { udp_ip, udp_port, proof: String::new() },
        WorkerV1::Call { peer: "b".to_owned() },
        WorkerV1::PlanAccepted { session, number: 1, ports: vec![1] },
        WorkerV1::LinkState(report),
        WorkerV1::TurnAddress { session, address: (ip(), 1).into() },
        WorkerV1::Leave { session },
    ];
    let v1 = v1.into_iter().chain(profiles).map(WorkerMessage::V1);
    baseline.into_iter().chain(v1).map(|it| serde_json::from_str(&it.encode()).unwrap()).collect()
}

fn offer(aim: Aim) -> ServerV1 {
    let credentials = IceCredentials::from_random([1; 24]);
    let details = SessionDetails {
        session: SESSION,
        role: IceRole::Controlling,
        credentials: credentials.clone(),
        peer_credentials: credentials,
        peer_key: Some(PublicKey::from_bytes([7; 32])),
        relay_token: Some(RelayToken::from_bytes([7; RelayToken::BYTES])),
        relay_url: Some(String::new()),
        relay_udp: vec![(ip(), 1).into()],
        candidates: candidates(),
        address_proof: AddressProof::Stun,
        turn: turn(),
        guest: true,
        plan: plan(aim),
    };
    ServerV1::P2pConnectionOffer {
        peer_worker_id: "b".to_owned(),
        peer_udp_ip: Some(ip()),
        peer_udp_port: Some(1),
        details: Box::new(details),
    }
}

/// Likewise those of the rendezvous.
fn of_the_rendezvous() -> Vec<Value> {
    let session = SESSION;
    let payload = RawValue::from_string("[1]".to_owned()).unwrap();
    let (text, address) = (String::new, (ip(), 1).into());
    let baseline = [
        ServerMessage::ack(None),
        ServerMessage::ack(Some(text())),
        ServerMessage::EchoResponse {
            original_payload: Some(&payload),
            processed_by_rendezvous: text(),
        },
        ServerMessage::MyDetailsResponse {
            worker_id: "a",
            registered_ip: Some(ip()),
            registered_port: None,
            udp_ip: None,
            udp_port: Some(1),
            message: "",
        },
        ServerMessage::P2pConnectionOffer {
            peer_worker_id: "b",
            peer_udp_ip: ip(),
            peer_udp_port: 1,
        },
    ];
    let welcome = Welcome {
        server: text(),
        observed_ip: ip(),
        observed_port: Some(1),
        stun: vec![address],
        proof_nonce: text(),
        turn: turn(),
        challenge: text(),
        resume: text(),
        sessions_max: 1,
        calls_from_anywhere: true,
    };
    let window = Aim::Window { first: 1, last: 3, centre: 2 };
    let v1 = [
        ServerV1::Welcome(welcome),
        offer(Aim::Endpoint),
        ServerV1::PeerCandidates {
            session,
            generation: 1,
            candidates: candidates(),
            address_proof: AddressProof::None,
        },
        ServerV1::Plan { session, plan: plan(window) },
        ServerV1::PeerAccepted { session, number: 1, ports: vec![1] },
        ServerV1::PeerTurnAddress { session, address },
        ServerV1::RelayToken { session, token: RelayToken::from_bytes([7; RelayToken::BYTES]) },
        ServerV1::ended(session, EndReason::PeerLeft),
        ServerV1::Closing { code: CloseReason::Full },
        ServerV1::RoomEntered,
        ServerV1::Error {
            code: Some(ErrorCode::NotCallable),
            call: Some(CallError::InLine),
            message: text(),
        },
    ];
    let v1 = v1.into_iter().map(|it| serde_json::to_value(it).unwrap());
    baseline.iter().map(|it| serde_json::to_value(it).unwrap()).chain(v1).collect()
}

/// No message is left out: with another one, this does not compile.
fn kinds_of_v1(worker: &WorkerV1, server: &ServerV1) -> [&'static str; 2] {
    let worker = match worker {
        WorkerV1::Hello { .. } => "hello",
        WorkerV1::Ready => "ready",
        WorkerV1::NatProfile { .. } => "nat_profile",
        WorkerV1::Candidates { .. } => "candidates",
        WorkerV1::AddressProof { .. } => "address_proof",
        WorkerV1::Call { .. } => "call",
        WorkerV1::PlanAccepted { .. } => "plan_accepted",
        WorkerV1::LinkState(_) => "link_state",
        WorkerV1::TurnAddress { .. } => "turn_address",
        WorkerV1::Leave { .. } => "leave",
    };
    let server = match server {
        ServerV1::Welcome(_) => "welcome",
        ServerV1::P2pConnectionOffer { .. } => "p2p_connection_offer",
        ServerV1::PeerCandidates { .. } => "peer_candidates",
        ServerV1::Plan { .. } => "plan",
        ServerV1::PeerAccepted { .. } => "peer_accepted",
        ServerV1::PeerTurnAddress { .. } => "peer_turn_address",
        ServerV1::RelayToken { .. } => "relay_token",
        ServerV1::SessionEnded { .. } => "session_ended",
        ServerV1::Closing { .. } => "closing",
        ServerV1::RoomEntered => "room_entered",
        ServerV1::Error { .. } => "error",
    };
    [worker, server]
}

/// A document, and which of its fields real messages have had.
struct Document {
    document: Value,
    seen: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Document {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/asyncapi.json");
        let document = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        Self { document, seen: BTreeSet::new(), wrong: Vec::new() }
    }

    fn schema(&self, name: &str) -> Option<Value> {
        self.document["components"]["schemas"].get(name).cloned()
    }

    /// Looks whether a value is of a schema, which has this name.
    fn check(&mut self, schema: &Value, value: &Value, name: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap();
            return match self.schema(name) {
                Some(schema) => self.check(&schema, value, name),
                None => self.wrong.push(format!("there is no {reference}")),
            };
        }
        if let Some(any) = schema["oneOf"].as_array() {
            let fits = |schema: &&Value| {
                let mut alone =
                    Self { document: self.document.clone(), seen: BTreeSet::new(), wrong: vec![] };
                alone.check(schema, value, name);
                alone.wrong.is_empty()
            };
            let fitting: Vec<&Value> = any.iter().filter(fits).collect();
            return match fitting[..] {
                [one] => self.check(&one.clone(), value, name),
                _ => self.wrong.push(format!("{name}: {value} is {} of those", fitting.len())),
            };
        }
        self.check_kind(schema, value, name);
        for item in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], item, &format!("{name}[]"));
        }
        for (field, value) in value.as_object().into_iter().flatten() {
            let path = format!("{name}.{field}");
            match schema["properties"].get(field) {
                None if schema.get("type").is_none() => {}
                None => self.wrong.push(format!("the document has no {path}")),
                Some(schema) => {
                    self.check(schema, value, &path);
                    self.seen.insert(path);
                }
            }
        }
    }

    fn check_kind(&mut self, schema: &Value, value: &Value, name: &str) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let kinds = &schema["type"];
        let is_any =
            kinds.is_null() || kinds.as_array().is_some_and(|all| all.contains(&json!(kind)));
        if !is_any && kinds != kind {
            self.wrong.push(format!("{name}: {value} is no {kinds}"));
        }
        if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
            self.wrong.push(format!("{name}: {value} is none of its words"));
        }
        for field in schema["required"].as_array().into_iter().flatten() {
            if value.get(field.as_str().unwrap()).is_none() {
                self.wrong.push(format!("{name} has no {field}"));
            }
        }
    }

    /// Every field that the document has.
    fn fields(&self) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        for (name, schema) in self.document["components"]["schemas"].as_object().unwrap() {
            Self::fields_of(schema, name, &mut fields);
        }
        fields
    }

    fn fields_of(schema: &Value, name: &str, fields: &mut BTreeSet<String>) {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{name}.{field}");
            Self::fields_of(schema, &path, fields);
            fields.insert(path);
        }
        for schema in schema["oneOf"].as_array().into_iter().flatten() {
            Self::fields_of(schema, name, fields);
        }
    }
}

#[test]
fn the_document_has_every_message_with_every_field_and_no_other() {
    let mut document = Document::open();
    let mut kinds = [BTreeSet::new(), BTreeSet::new()];
    for (side, messages) in [of_workers(), of_the_rendezvous()].into_iter().enumerate() {
        for message in messages {
            let kind = message["type"].as_str().unwrap().to_owned();
            match document.schema(&kind) {
                None => document.wrong.push(format!("there is no {kind}")),
                Some(schema) => document.check(&schema, &message, &kind),
            }
            kinds[side].insert(kind);
        }
    }
    let unseen = document.fields().into_iter().filter(|it| !document.seen.contains(it));
    let unseen: Vec<String> = unseen.map(|it| format!("no message has {it}")).collect();
    document.wrong.extend(unseen);
    for (side, name) in ["worker", "rendezvous"].into_iter().enumerate() {
        let listed = document.document["operations"][name]["messages"].as_array().unwrap();
        let listed = listed.iter().map(|it| it["$ref"].as_str().unwrap());
        let listed: BTreeSet<String> =
            listed.map(|it| it.rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(listed, kinds[side], "{name}");
    }
    let [worker, server] = kinds_of_v1(&WorkerV1::Ready, &ServerV1::RoomEntered);
    assert!(kinds[0].contains(worker) && kinds[1].contains(server));
    assert!(document.wrong.is_empty(), "{}", document.wrong.join("\n"));
}
