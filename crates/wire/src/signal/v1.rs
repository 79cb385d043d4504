//! The messages of the sub-protocol `holepunch.v1`, beside those of the baseline.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::WorkerId;
use crate::candidate::{self, CANDIDATES_MAX, Candidate};
use crate::check::IceRole;
use crate::credentials::{CREDENTIAL_CHARS_MAX, IceCredentials};
use crate::id::WORKER_ID_BYTES_MAX;
use crate::identity::{PublicKey, Signature};
use crate::nat::{NatProfile, PROFILE_PORTS_MAX};
use crate::plan::{EXCEPT_MAX, Plan, REASON_BYTES_MAX, Strategy};
use crate::reason::{CallError, CloseReason, EndReason};
use crate::relay::RELAY_URL_BYTES_MAX;
use crate::session::{
    AddressProof, LinkState, ROOM_BYTES_MAX, RelayToken, RoomMode, RoomName, SESSIONS_MAX,
    SessionId,
};
use crate::signal::FRAME_BYTES_MAX;
use crate::text::truncate;
use crate::turn::TurnServer;

/// The WebSocket sub-protocol (RFC 6455 §1.9).
pub const SUBPROTOCOL: &str = "holepunch.v1";
/// Most ports that an acceptance announces.
pub const ANNOUNCED_MAX: usize = 12;
/// Most STUN servers that a welcome names.
pub const STUN_MAX: usize = 16;
/// Most TURN servers that a welcome names.
pub const TURN_MAX: usize = 4;
/// Most sessions of which a worker tells more than their numbers, when it takes them up.
pub const HELD_MAX: usize = 32;
/// Most addresses of one relay on UDP that an offer names: one of each family.
pub const RELAY_UDP_MAX: usize = 2;
/// Longest challenge, nonce or token, in bytes.
const TOKEN_BYTES_MAX: usize = 512;
/// A byte of a text may be six in JSON (`\u0001`).
const ESCAPE_BYTES: usize = 6;
/// What stands in lists, and all names of the fields of a message, are no longer.
const CANDIDATE_BYTES_MAX: usize = 128;
const ADDRESS_BYTES_MAX: usize = 64;
const SESSION_BYTES_MAX: usize = 20;
const PORT_BYTES_MAX: usize = 6;
const HELD_BYTES_MAX: usize = ESCAPE_BYTES * WORKER_ID_BYTES_MAX + 192;
const KEY_AND_SIGNATURE_BYTES: usize = 192;
const NAMES_BYTES_MAX: usize = 1024;
/// Everything that a message may have at once, though none has, fits into a frame.
const _: () = assert!(
    ESCAPE_BYTES
        * (WORKER_ID_BYTES_MAX
            + ROOM_BYTES_MAX
            + REASON_BYTES_MAX
            + RELAY_URL_BYTES_MAX
            + 3 * TOKEN_BYTES_MAX
            + TURN_MAX * TurnServer::BYTES_MAX)
        + 4 * CREDENTIAL_CHARS_MAX
        + CANDIDATES_MAX * CANDIDATE_BYTES_MAX
        + (STUN_MAX + RELAY_UDP_MAX) * ADDRESS_BYTES_MAX
        + SESSIONS_MAX * SESSION_BYTES_MAX
        + (EXCEPT_MAX + ANNOUNCED_MAX + PROFILE_PORTS_MAX) * PORT_BYTES_MAX
        + NAMES_BYTES_MAX
        <= FRAME_BYTES_MAX
);
/// A hello, which alone has more, fits as well.
const _: () = assert!(
    ESCAPE_BYTES * (ROOM_BYTES_MAX + TOKEN_BYTES_MAX)
        + KEY_AND_SIGNATURE_BYTES
        + SESSIONS_MAX * SESSION_BYTES_MAX
        + HELD_MAX * HELD_BYTES_MAX
        + NAMES_BYTES_MAX
        <= FRAME_BYTES_MAX
);

/// A message of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkerV1 {
    /// Who the worker is and where it wants to be. Without it: the room of the URL, or the default.
    Hello {
        /// The room; that of the URL without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<RoomName>,
        /// The mode of the room, where this worker is its first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<RoomMode>,
        /// The worker's public key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<PublicKey>,
        /// The proof that the key is the worker's: see [`Registration`](crate::identity::Registration).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<Box<Signature>>,
        /// The token of an earlier welcome: the worker takes its place again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<String>,
        /// Those of its sessions that it has still; all of them, where it does not say. What it has left, or was never offered,
        /// it does not take up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sessions: Option<Vec<SessionId>>,
        /// What it knows of these: enough for them to go on, where no rendezvous is left that knows them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        held: Vec<HeldSession>,
        /// The worker wants the room only if nobody is there. It is how a room gets a short name that no two pairs
        /// have at once.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fresh: bool,
        /// It has had this room for itself, before it lost its connection: guests may be there by now, but nobody else
        /// whose own it is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        own: bool,
        /// Whoever knows its id may call it, from whatever room.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        callable: bool,
    },
    /// The worker wants a peer, whether it has a UDP endpoint or not.
    Ready,
    /// What is known of the NATs so far; replaces what was said before.
    NatProfile {
        /// The profile.
        profile: NatProfile,
    },
    /// Where the worker may be reached; replaces what was said before. Passed on to the peers of the
    /// sessions that are under way.
    Candidates {
        /// Which set, counted up: an older one that comes later is ignored.
        generation: u32,
        /// The set.
        candidates: Vec<Candidate>,
    },
    /// The proof that a UDP endpoint is the worker's own, from the rendezvous' STUN server.
    AddressProof {
        /// Its address.
        udp_ip: IpAddr,
        /// Its port.
        udp_port: u16,
        /// The proof.
        proof: String,
    },
    /// Asks for a session with this worker.
    Call {
        /// Its id.
        peer: String,
    },
    /// The worker is ready for the search of a plan.
    PlanAccepted {
        /// The session.
        session: SessionId,
        /// The plan's number.
        number: u32,
        /// What the plan wants to be announced.
        #[serde(default)]
        ports: Vec<u16>,
    },
    /// What has become of a session.
    LinkState(LinkReport),
    /// Where a TURN server takes packets for this worker, in this session. Passed on to the peer.
    TurnAddress {
        /// The session.
        session: SessionId,
        /// The relayed transport address (RFC 8656 §2).
        address: SocketAddr,
    },
    /// The worker wants no more of a session.
    Leave {
        /// The session.
        session: SessionId,
    },
}

/// A session that a worker takes up, as far as it knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSession {
    /// The session.
    pub session: SessionId,
    /// The other one.
    pub peer: WorkerId,
    /// The worker's part in the checks.
    pub role: IceRole,
    /// The number of its last plan.
    pub number: u32,
    /// That plan's strategy.
    pub strategy: Strategy,
    /// Whether the path is direct; else the relay serves, or none yet.
    #[serde(default)]
    pub direct: bool,
    /// Whether the offer has said so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
}

/// What has become of a session, in the eyes of one of its workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The session.
    pub session: SessionId,
    /// The state.
    pub state: LinkState,
    /// The strategy that led to it.
    pub strategy: Strategy,
    /// The number of the plan.
    pub number: u32,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
    /// Round-trip time of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u32>,
    /// Time since the offer.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// Packets sent so far.
    #[serde(default)]
    pub probes: u32,
}

/// What the rendezvous says at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The server's software.
    #[serde(default)]
    pub server: String,
    /// The client's address as the rendezvous sees it.
    pub observed_ip: IpAddr,
    /// Its port, where known.
    #[serde(default)]
    pub observed_port: Option<u16>,
    /// The rendezvous' own STUN servers; the first may carry the unspecified address, which stands
    /// for the host of the URL.
    #[serde(default)]
    pub stun: Vec<SocketAddr>,
    /// What the STUN server is to be given for a proof of address, in hexadecimal digits.
    #[serde(default)]
    pub proof_nonce: String,
    /// TURN servers (RFC 8656) that this worker may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turn: Vec<TurnServer>,
    /// What a worker signs to prove its key, in hexadecimal digits.
    #[serde(default)]
    pub challenge: String,
    /// Lets the worker take its place again after a lost connection.
    #[serde(default)]
    pub resume: String,
    /// Most sessions of one worker.
    #[serde(default)]
    pub sessions_max: u32,
    /// Whether a worker that says so is called from other rooms: `callable` in [`WorkerV1::Hello`].
    #[serde(default)]
    pub calls_from_anywhere: bool,
}

/// What an offer holds beside the fields of the baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDetails {
    /// The session.
    pub session: SessionId,
    /// The worker's part in the checks.
    pub role: IceRole,
    /// The worker's own credentials for checks.
    pub credentials: IceCredentials,
    /// The peer's.
    pub peer_credentials: IceCredentials,
    /// The peer's public key, where it has proved one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_key: Option<PublicKey>,
    /// Opens the session's relay, `/ws/relay/{session}`, for this worker; without it, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_token: Option<RelayToken>,
    /// Where that relay is; without it, at the rendezvous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_url: Option<String>,
    /// Where that relay is reached by UDP as well: beside the WebSocket, where datagrams get there. An unspecified IP means
    /// the host of the URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relay_udp: Vec<SocketAddr>,
    /// Where the peer may be reached, beside its endpoint.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// Whether the endpoint is the peer's own.
    #[serde(default)]
    pub address_proof: AddressProof,
    /// TURN servers with fresh credentials, where those of the welcome are about to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turn: Vec<TurnServer>,
    /// The session belongs to another room than the worker's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
    /// What to do.
    pub plan: Plan,
}

/// A message of the rendezvous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerV1 {
    /// The worker is registered, in this sub-protocol.
    Welcome(Welcome),
    /// A peer. `peer_udp_ip` and `peer_udp_port` are absent where the peer has no UDP endpoint.
    P2pConnectionOffer {
        /// Its id.
        peer_worker_id: String,
        /// The address of its UDP endpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer_udp_ip: Option<IpAddr>,
        /// The port of its UDP endpoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer_udp_port: Option<u16>,
        /// The rest.
        #[serde(flatten)]
        details: Box<SessionDetails>,
    },
    /// Another set of the peer's candidates, its endpoint among them.
    PeerCandidates {
        /// The session.
        session: SessionId,
        /// Which set, counted up.
        generation: u32,
        /// The set.
        candidates: Vec<Candidate>,
        /// Whether the server-reflexive ones are the peer's own.
        #[serde(default)]
        address_proof: AddressProof,
    },
    /// Another plan for a session.
    Plan {
        /// The session.
        session: SessionId,
        /// The plan.
        plan: Plan,
    },
    /// The peer is ready for the search of a plan.
    PeerAccepted {
        /// The session.
        session: SessionId,
        /// The plan's number.
        number: u32,
        /// What the peer announces.
        #[serde(default)]
        ports: Vec<u16>,
    },
    /// Where a TURN server takes packets for the peer, in this session.
    PeerTurnAddress {
        /// The session.
        session: SessionId,
        /// The relayed transport address.
        address: SocketAddr,
    },
    /// What opens a session's relay for this worker from now on, long before the token that it has expires.
    RelayToken {
        /// The session.
        session: SessionId,
        /// The token.
        token: RelayToken,
    },
    /// A session is over: the peer has left, or the rendezvous seeks another.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Why, for programs.
        #[serde(default)]
        code: EndReason,
        /// Why, for people.
        #[serde(default)]
        reason: String,
    },
    /// The rendezvous is about to close the connection.
    Closing {
        /// Why, for programs; the close frame tells people.
        #[serde(default)]
        code: CloseReason,
    },
    /// The worker is the only one in the room that it wanted `fresh`.
    RoomEntered,
    /// Something that the worker asked for cannot be.
    Error {
        /// What is wrong, for programs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<ErrorCode>,
        /// Where that is a call: what is wrong with it, for programs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<CallError>,
        /// What is wrong, for people.
        message: String,
    },
}

/// What a worker has asked for that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A room that is to be `fresh`, and has somebody in it. The worker is in the room without a name now, and waits
    /// for nobody.
    RoomTaken,
    /// A room of many that has as many workers as it may have. Likewise.
    RoomFull,
    /// A peer, in a room of pairs where the others have each other. The worker waits until one of them is free.
    RoomOccupied,
    /// A mode for a room that has another one.
    RoomMode,
    /// A call of a worker that is not registered, or is in another room and does not want to be called from there.
    NotRegistered,
    /// A call of a worker that cannot be called for another reason.
    NotCallable,
    /// A code of a later version.
    #[serde(other)]
    Unknown,
}

/// An offer of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOffer {
    /// The peer's id.
    pub peer: WorkerId,
    /// The peer's public UDP endpoint, where it has one.
    pub endpoint: Option<SocketAddr>,
    /// The rest.
    pub details: SessionDetails,
}

impl SessionOffer {
    /// What its worker says of the session when it takes it up again.
    #[must_use]
    pub fn held(&self, direct: bool) -> HeldSession {
        let SessionDetails { session, role, plan, guest, .. } = &self.details;
        HeldSession {
            session: *session,
            peer: self.peer.clone(),
            role: *role,
            number: plan.number,
            strategy: plan.strategy,
            direct,
            guest: *guest,
        }
    }
}

impl HeldSession {
    /// There is another plan.
    pub fn planned(&mut self, plan: &Plan) {
        (self.number, self.strategy) = (plan.number, plan.strategy);
    }
}

/// The types of [`WorkerV1`].
pub(super) const WORKER_KINDS: [&str; 10] = [
    "hello",
    "ready",
    "nat_profile",
    "candidates",
    "address_proof",
    "call",
    "plan_accepted",
    "link_state",
    "turn_address",
    "leave",
];

/// The types of [`ServerV1`] that the baseline does not have.
pub(super) const SERVER_KINDS: [&str; 9] = [
    "welcome",
    "peer_candidates",
    "plan",
    "peer_accepted",
    "peer_turn_address",
    "relay_token",
    "session_ended",
    "closing",
    "room_entered",
];

impl WorkerV1 {
    /// Reads one; what is overlong is cut.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut message: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match &mut message {
            Self::Hello { resume, sessions, held, .. } => {
                held.truncate(HELD_MAX);
                if let Some(token) = resume {
                    truncate(token, TOKEN_BYTES_MAX);
                }
                sessions.iter_mut().for_each(|sessions| sessions.truncate(SESSIONS_MAX));
            }
            Self::NatProfile { profile } => *profile = std::mem::take(profile).bounded(),
            Self::Candidates { candidates, .. } => {
                *candidates = candidate::bounded(std::mem::take(candidates));
            }
            Self::AddressProof { proof, .. } => truncate(proof, TOKEN_BYTES_MAX),
            Self::PlanAccepted { ports, .. } => bound_ports(ports),
            Self::LinkState(report) => truncate(&mut report.reason, REASON_BYTES_MAX),
            Self::Ready | Self::Call { .. } | Self::TurnAddress { .. } | Self::Leave { .. } => {}
        }
        Ok(message)
    }
}

impl ErrorCode {
    /// What an older rendezvous means, which tells the text alone.
    #[must_use]
    pub fn of_older(text: &str) -> Option<Self> {
        let is_no_call = text.ends_with("cannot be called: it is not registered here");
        is_no_call.then_some(Self::NotRegistered)
    }
}

impl ServerV1 {
    /// An error.
    #[must_use]
    pub fn error(code: ErrorCode, message: String) -> Self {
        Self::Error { code: Some(code), call: None, message }
    }

    /// A session is over.
    #[must_use]
    pub fn ended(session: SessionId, code: EndReason) -> Self {
        Self::SessionEnded { session, code, reason: code.to_string() }
    }

    /// Reads one; what is overlong is cut.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut message: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match &mut message {
            Self::Welcome(welcome) => {
                welcome.stun.truncate(STUN_MAX);
                bound_turn(&mut welcome.turn);
                for token in [&mut welcome.proof_nonce, &mut welcome.challenge, &mut welcome.resume]
                {
                    truncate(token, TOKEN_BYTES_MAX);
                }
            }
            Self::P2pConnectionOffer { details, .. } => {
                details.candidates = candidate::bounded(std::mem::take(&mut details.candidates));
                details.plan = details.plan.clone().bounded();
                bound_turn(&mut details.turn);
                details.relay_udp.truncate(RELAY_UDP_MAX);
                let url = details.relay_url.take_if(|url| url.len() > RELAY_URL_BYTES_MAX);
                if url.is_some() {
                    // One that is cut may be another host's, and the peer is not at the rendezvous' own.
                    details.relay_token = None;
                }
            }
            Self::PeerCandidates { candidates, .. } => {
                *candidates = candidate::bounded(std::mem::take(candidates));
            }
            Self::Plan { plan, .. } => *plan = plan.clone().bounded(),
            Self::PeerAccepted { ports, .. } => bound_ports(ports),
            Self::PeerTurnAddress { .. }
            | Self::RelayToken { .. }
            | Self::RoomEntered
            | Self::Closing { .. } => {}
            Self::SessionEnded { code, reason, .. } => {
                truncate(reason, REASON_BYTES_MAX);
                if *code == EndReason::Unknown {
                    *code = EndReason::of_older(reason);
                }
            }
            Self::Error { message, .. } => truncate(message, REASON_BYTES_MAX),
        }
        Ok(message)
    }

    /// The message as a text frame.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("invariant: texts and numbers are always valid JSON")
    }
}

fn bound_turn(servers: &mut Vec<TurnServer>) {
    servers.truncate(TURN_MAX);
    servers.iter_mut().for_each(TurnServer::bound);
}

fn bound_ports(ports: &mut Vec<u16>) {
    ports.retain(|port| *port != 0);
    ports.truncate(ANNOUNCED_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_lists_is_no_longer_than_a_frame_has_room_for() {
        let address = SocketAddr::from(([u16::MAX; 8], u16::MAX));
        let kind = candidate::CandidateKind::ServerReflexive;
        let mut longest = Candidate::new(kind, address);
        longest.priority = u32::MAX;
        assert!(serde_json::to_string(&[longest]).unwrap().len() < CANDIDATE_BYTES_MAX);
        assert!(serde_json::to_string(&[address]).unwrap().len() < ADDRESS_BYTES_MAX);
        let session = serde_json::to_string(&SessionId(u64::MAX)).unwrap();
        assert!(session.len() < SESSION_BYTES_MAX);
    }
}
