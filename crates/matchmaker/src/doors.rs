//! What goes into the machine and what comes out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holepunch_wire::WorkerId;
use holepunch_wire::identity::PublicKey;
use holepunch_wire::nat::NatClass;
use holepunch_wire::plan::Strategy;
use holepunch_wire::reason::{CallError, CloseReason, EndReason};
use holepunch_wire::relay::RelayAccess;
use holepunch_wire::session::{RoomName, SessionId};
use holepunch_wire::signal::FromWorker;
use holepunch_wire::signal::v1::LinkReport;
use holepunch_wire::stun::proof::{ProofClock, ProofKey};
use holepunch_wire::turn::TurnAccess;
use serde::{Deserialize, Serialize};

use crate::names::Room;
use crate::permit::Permit;
use crate::seat::InstanceId;

/// One WebSocket connection. The server counts them; a number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// What is spoken on a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The baseline: no sub-protocol.
    Baseline,
    /// The sub-protocol `holepunch.v1`.
    V1,
}

/// How the machine behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Time between two pings of a connection.
    pub ping_interval: Duration,
    /// Time that a ping may stay without an answer before the connection ends.
    pub ping_timeout: Duration,
    /// Take private, link-local and loopback endpoints from everybody.
    pub allow_private: bool,
    /// Most workers connected at once, those included that have yet to prove their key.
    pub workers_max: usize,
    /// Most of them from one address (IPv6: one /64, and twice as many from one /48), this machine's own left
    /// out; `None`: no bound.
    pub workers_per_address_max: Option<usize>,
    /// Most of them of one tenant that has a name; `None`: no bound.
    pub workers_per_tenant_max: Option<usize>,
    /// The rendezvous' own STUN servers, which workers are told of.
    pub stun: Vec<SocketAddr>,
    /// The key and the clock of the STUN server's proofs of address; without them, no proof is good.
    pub proofs: Option<(ProofKey, ProofClock)>,
    /// What opens a relay: two that have told a key each get a token for it. Tokens end, so these need
    /// [`Input::WallClock`].
    pub relay: Option<RelayAccess>,
    /// The TURN servers that workers are told of, with credentials that end; these need
    /// [`Input::WallClock`].
    pub turn: Option<TurnAccess>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(25),
            allow_private: false,
            workers_max: 100_000,
            // Thousands of containers may share the one address of their NAT; to take all places, ten IPv4
            // addresses are needed, or five IPv6 sites.
            workers_per_address_max: Some(10_000),
            workers_per_tenant_max: None,
            stun: Vec::new(),
            proofs: None,
            relay: None,
            turn: None,
        }
    }
}

/// Where a WebSocket comes from, as far as the server can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The client's address, not IPv4-mapped.
    pub ip: IpAddr,
    /// The client's port; unknown where a proxy told the address alone.
    pub port: Option<u16>,
}

/// What happens on the sockets.
#[derive(Debug)]
pub enum Input<'a> {
    /// A WebSocket is open.
    Connected {
        /// Its number.
        connection: ConnectionId,
        /// The id in its path.
        worker: WorkerId,
        /// Where it comes from.
        observed: Observed,
        /// What is spoken on it.
        protocol: Protocol,
        /// The room in its URL.
        room: Option<RoomName>,
        /// What a signature on it has to be over, for its welcome: unguessable, and never used twice.
        challenge: String,
        /// What its worker may do.
        permit: Arc<Permit>,
    },
    /// A message came.
    Message {
        /// On this WebSocket.
        connection: ConnectionId,
        /// What it says.
        message: FromWorker<'a>,
        /// The key that this connection has proved, by the signature in this message or in one before.
        proved: Option<PublicKey>,
    },
    /// The answer to a ping came.
    Pong {
        /// On this WebSocket.
        connection: ConnectionId,
    },
    /// A WebSocket ended, or takes nothing more.
    Closed {
        /// This one.
        connection: ConnectionId,
        /// In which way.
        closing: Closing,
    },
    /// A worker's connection to the relay of a session was opened, or has ended. A relay elsewhere says nothing of it.
    Relay {
        /// The session.
        session: SessionId,
        /// Which of the two, as its token says.
        end: usize,
        /// Whether it is open now.
        is_open: bool,
    },
    /// What the wall clock shows. The credentials of TURN servers and the tokens of relays end by the clocks of those, so the
    /// machine has to be told again after a clock was set; proofs of address need none of this.
    WallClock {
        /// Since 1970.
        unix: Duration,
    },
    /// The server stops: everybody is told (1001).
    Shutdown,
}

/// In which way a WebSocket has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Without a word of the client's, or because it takes nothing more.
    Broken,
    /// The client has said that it leaves, by a close frame.
    Goodbye,
    /// An offer for it could not be sent: its peer goes back on the queue.
    OfferUnsent,
}

/// What the server is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// On this WebSocket.
    pub connection: ConnectionId,
    /// This.
    pub action: Action,
}

/// What of a session has changed, where only the newest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The peer's candidates.
    Candidates,
    /// The plan.
    Plan,
    /// Where a TURN server takes packets for the peer.
    TurnAddress,
    /// What opens the relay.
    RelayToken,
}

/// One thing to do on a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a text frame.
    Send(String),
    /// Send a text frame about a session in the place of one about the same that has not been sent yet.
    Update(SessionId, News, String),
    /// Send a text frame that holds an offer; when that fails, say so in [`Input::Closed`].
    Offer(String),
    /// Send a ping.
    Ping,
    /// Close it; the machine has forgotten the connection.
    Close(CloseReason),
}

holepunch_wire::reasons! {
    /// Why a worker left.
    LeaveReason {
        Closed = "closed", "connection lost";
        Goodbye = "goodbye", "connection closed";
        PingTimeout = "ping_timeout", "no answer to a ping";
        Replaced = "replaced", "replaced by a new connection with the same id";
        Refused = "refused", "its key is not proved, or its token does not let it in";
        TokenExpired = "token_expired", "its token has expired";
        Shutdown = "shutdown", "server shutting down";
    }
}

holepunch_wire::reasons! {
    /// Why something that has come is left alone.
    DropReason {
        // What its sender has done wrong, and is told of whoever looks after the server.
        BeforeProof = "before_proof", "a message before the proof of the key";
        BadPublicIp = "bad_public_ip", "register_public_ip without a valid `ip`";
        UnknownType = "unknown_type", "unknown message type";
        Baseline = "baseline", "a message of holepunch.v1 without the sub-protocol";
        Malformed = "malformed", "not a message of holepunch.v1";
        TooMany = "too_many", "too many messages";
        TooManyCandidates = "too_many_candidates", "too many sets of candidates";
        BadTurnAddress = "bad_turn_address", "a turn_address that nothing can be sent to";
        NoProof = "no_proof", "an address_proof that is none";
        BadProof = "bad_proof", "an address_proof that is not good";
        // What may happen to anybody, and is counted.
        ProofUnasked = "proof_unasked", "an address_proof where nobody gives any";
        NoRoom = "no_room", "a wish for a peer of a worker that is in no room";
        NoSession = "no_session", "something about a session that is over";
        OldPlan = "old_plan", "something about a plan that there is another one for";
        OldCandidates = "old_candidates", "candidates behind later ones";
        PeerAway = "peer_away", "something for a peer whose connection is lost";
        Gone = "gone", "something of a connection that is over";
        Unsent = "unsent", "something for a client that takes nothing more";
        TooFarBehind = "too_far_behind", "something for another rendezvous, which has not taken what was before it";
        OtherVersion = "other_version", "something of another rendezvous, of another version, that cannot be read";
        UnaskedPong = "unasked_pong", "a pong that nobody has asked for";
        NotText = "not_text", "a frame that is no text";
        NotJson = "not_json", "a text that is no message";
    }
}

/// What happened, and where: for logs and counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In which room, where it was in one.
    pub room: Option<Room>,
    /// In which session, and of which classes the NATs of the two are.
    pub session: Option<(SessionId, [NatClass; 2])>,
    /// One of many of the same worker in a short time: to be counted, and told to nobody.
    pub quiet: bool,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker registered.
    Registered(WorkerId, Observed),
    /// A connection under this id was closed, since it proved no key, or not the right one; and why.
    Refused(WorkerId, CloseReason),
    /// A client was not let in: why, for programs.
    Denied(&'static str),
    /// A worker told its HTTP-reported public IP. One that tells another one with each message is heard now and then.
    PublicIp(WorkerId, IpAddr),
    /// A report was accepted and its worker waits in the queue.
    Queued {
        /// The worker.
        worker: WorkerId,
        /// Its endpoint.
        endpoint: SocketAddr,
        /// How many wait, this one included.
        waiting: usize,
    },
    /// A report was refused: its sender, why, for programs and for people, and how many of this connection were before it.
    ReportRefused(WorkerId, &'static str, String, u32),
    /// Two workers were taken off the queue; the one that waited longer stands first.
    Paired(WorkerId, WorkerId),
    /// A call comes to nothing for now: the caller, and why.
    CallRefused(WorkerId, CallError),
    /// Two workers of the sub-protocol `holepunch.v1` were offered each other: both, the strategy and its reason.
    SessionStarted([WorkerId; 2], Strategy, String),
    /// A session has another plan: its strategy and the reason.
    Replanned(Strategy, String),
    /// What a worker says of a session.
    LinkState(WorkerId, LinkReport),
    /// A session is over, and why.
    SessionEnded(EndReason),
    /// A message was ignored: its sender, why, more of it where there is more to say, and how many of this connection were
    /// before it.
    MessageIgnored(WorkerId, DropReason, String, u32),
    /// Something else was left alone.
    Dropped(DropReason),
    /// The first of what another rendezvous says, of another version, that cannot be read. Each one is [`Self::Dropped`] as well.
    Unreadable(InstanceId),
    /// A ping is overdue: the worker is not offered until it answers.
    PingOverdue(WorkerId),
    /// A worker left registry and queue.
    Left(WorkerId, LeaveReason),
}

impl Event {
    /// What it is, for programs, and why or how, where there is more to say: small letters and underscores.
    #[must_use]
    pub fn code(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Registered(..) => ("registered", None),
            Self::Refused(_, why) => ("refused", Some(why.code())),
            Self::Denied(why) => ("denied", Some(why)),
            Self::PublicIp(..) => ("public_ip", None),
            Self::Queued { .. } => ("queued", None),
            Self::ReportRefused(_, why, ..) => ("report_refused", Some(why)),
            Self::Paired(..) => ("paired", None),
            Self::CallRefused(_, why) => ("call_refused", Some(why.code())),
            Self::SessionStarted(_, strategy, _) => ("session_started", Some(strategy.as_str())),
            Self::Replanned(strategy, _) => ("replanned", Some(strategy.as_str())),
            Self::LinkState(_, report) => ("link_state", Some(report.state.code())),
            Self::SessionEnded(why) => ("session_ended", Some(why.code())),
            Self::MessageIgnored(_, why, ..) | Self::Dropped(why) => ("dropped", Some(why.code())),
            Self::Unreadable(_) => ("unreadable", None),
            Self::PingOverdue(_) => ("ping_overdue", None),
            Self::Left(_, why) => ("left", Some(why.code())),
        }
    }

    /// The same, in this room.
    #[must_use]
    pub fn told(self, room: Option<Room>) -> Told {
        Told { room, session: None, quiet: false, event: self }
    }
}

/// Why a worker is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NotAdmitted {
    /// Everybody's places are taken.
    #[error("this rendezvous has as many workers as it takes; try again later")]
    Full,
    /// Those of its address are.
    #[error(
        "this rendezvous has as many workers from this address as it takes, {0}; try again later"
    )]
    ShareOfAddress(usize),
    /// Those of all IPv6 networks of its site are.
    #[error(
        "this rendezvous has as many workers from this IPv6 site (one /48) as it takes, {0}; try again later"
    )]
    ShareOfSite(usize),
    /// Those of its tenant are.
    #[error("this rendezvous has as many workers of this tenant as it takes, {0}; try again later")]
    ShareOfTenant(usize),
}

impl NotAdmitted {
    /// With which reason it is told where the WebSocket is open already.
    pub(crate) fn close_reason(self) -> CloseReason {
        match self {
            Self::Full => CloseReason::Full,
            Self::ShareOfAddress(_) => CloseReason::ShareOfAddress,
            Self::ShareOfSite(_) => CloseReason::ShareOfSite,
            Self::ShareOfTenant(_) => CloseReason::ShareOfTenant,
        }
    }
}

/// What the machine knows of a worker, for the listing.
#[derive(Debug, Clone, Copy)]
pub struct Worker<'a> {
    /// Its id.
    pub id: &'a WorkerId,
    /// Where its WebSocket comes from.
    pub observed: Observed,
    /// The IP that it registered.
    pub http_ip: Option<IpAddr>,
    /// The endpoint of its last accepted report.
    pub endpoint: Option<SocketAddr>,
}
