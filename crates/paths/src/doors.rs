//! What goes into the machine, and what comes out.

use std::fmt;
use std::time::Duration;

/// A path's number in the QUIC connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathId(pub u32);

impl PathId {
    /// The path by which the connection was made.
    pub const FIRST: Self = Self(0);
}

/// A way to the peer, as the driver names it. Of two relays, the smaller one is the better.
pub trait Route: Copy + Ord + fmt::Debug {
    /// Whether it leads from worker to worker, without a relay.
    fn is_direct(&self) -> bool;
}

/// What is known of the routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes<R> {
    /// The direct route that answers checks, or did.
    pub direct: Option<R>,
    /// It answers none at the moment.
    pub is_suspect: bool,
    /// The relays that are connected.
    pub relays: Vec<R>,
    /// How often the own NAT has given this side another address, as far as it was seen.
    pub rebound: u32,
    /// How often a relay has been connected anew: what was under way there is lost.
    pub renewed: u32,
}

impl<R> Default for Routes<R> {
    fn default() -> Self {
        Self { direct: None, is_suspect: false, relays: Vec::new(), rebound: 0, renewed: 0 }
    }
}

impl<R: Route> Routes<R> {
    /// The best relay that is connected.
    pub(crate) fn relay(&self) -> Option<R> {
        self.relays.iter().min().copied()
    }

    /// Whether packets may arrive by this route.
    pub(crate) fn serves(&self, route: R) -> bool {
        route.is_direct() || self.relays.contains(&route)
    }
}

/// Something has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<R> {
    /// What is known of the routes has changed.
    Routes(Routes<R>),
    /// QUIC has validated a path: packets of full size have passed both ways (RFC 9000 §8.2).
    Established {
        /// Which.
        path: PathId,
        /// The route that the peer's address on it stands for, where there is one.
        route: Option<R>,
    },
    /// One of the two sides, or QUIC itself, has given a path up.
    Abandoned(PathId),
    /// QUIC has forgotten a path.
    Discarded(PathId),
    /// So much happened at once that some of the three before were lost.
    EventsLost,
    /// A packet was sent by the route that is watched ([`Action::Watch`]).
    Sent,
    /// The session is over: the link ends, with the peer's words if they come soon.
    SessionOver,
    /// The answer to an action.
    Answer(Answer<R>),
}

/// The answer to an action that is a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<R> {
    /// To [`Action::Open`].
    Opened {
        /// By this route.
        route: R,
        /// The path's number; `None` where QUIC cannot open one at the moment.
        path: Option<PathId>,
    },
    /// To [`Action::Exchange`]: whether the two routes have been exchanged.
    Exchanged(bool),
    /// To [`Action::Unbatch`]: whether that is new.
    Unbatched(bool),
    /// To [`Action::Count`]; `None` where QUIC has no such path.
    Counted(PathId, Option<Counts>),
    /// To [`Action::Locate`]; `None` where QUIC has no such path, or the address stands for no route.
    Located(PathId, Option<R>),
    /// To [`Action::List`]: all that QUIC has, also those that were given up and are not forgotten yet.
    Listed(Vec<Listed<R>>),
}

/// A path that QUIC has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<R> {
    /// Its number.
    pub path: PathId,
    /// Whether a challenge has been answered on it (RFC 9000 §8.2).
    pub is_validated: bool,
    /// Whether one of the two sides, or QUIC itself, has given it up.
    pub is_abandoned: bool,
    /// The route that the peer's address on it stands for, where there is one.
    pub route: Option<R>,
}

/// What QUIC has counted on a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that the peer has acknowledged.
    pub acked_bytes: u64,
    /// Bytes that are sent, and neither acknowledged nor lost.
    pub in_flight_bytes: u64,
    /// Datagrams that have come.
    pub received_datagrams: u64,
    /// How often long packets turned out to arrive no more.
    pub black_holes: u64,
    /// The longest UDP payload that is sent, in bytes.
    pub payload_bytes: u16,
    /// The round-trip time.
    pub rtt: Duration,
}

/// Whether the peer is to send by a path (draft-ietf-quic-multipath, PATH_STATUS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is.
    Available,
    /// Only where there is no other one.
    Backup,
}

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<R> {
    /// Open a path by a route; answered by [`Answer::Opened`].
    Open {
        /// The route.
        route: R,
        /// Of the new path.
        status: Status,
    },
    /// Close a path. One that QUIC does not know is told by [`Input::Discarded`].
    Close(PathId),
    /// Tell QUIC and the peer how a path is to be used.
    SetStatus(PathId, Status),
    /// Send a packet that is acknowledged on a path.
    Ping(PathId),
    /// Let QUIC's packets for each of the two routes go by the other one; answered by [`Answer::Exchanged`].
    Exchange([R; 2]),
    /// From now on, datagrams leave one by one on this route; answered by [`Answer::Unbatched`].
    Unbatch(R),
    /// Tell by [`Input::Sent`], once, when the next packet leaves by this route; and no more of the one before.
    Watch(Option<R>),
    /// Answer by [`Answer::Counted`].
    Count(PathId),
    /// Where is the peer on this path? Answered by [`Answer::Located`].
    Locate(PathId),
    /// Which paths are there? Answered by [`Answer::Listed`].
    List,
}

/// What has happened to the link's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<R> {
    /// The path in use has changed, or something about it is to be known.
    Active {
        /// By which path this side sends, and its route; `None`: no path is left.
        path: Option<(PathId, R)>,
        /// Why.
        reason: Reason,
    },
    /// Data goes unanswered on the direct path: a check is to tell whether it is one.
    Doubt,
    /// A direct route answers checks and carries no data.
    Narrow(R),
    /// Whether there is a path by a relay.
    Relayed(bool),
    /// The link ends. It is the last event.
    Ended(End),
}

/// Why another path is used, or what is to be known about the one in use. Its words are for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There was none before.
    First,
    /// It is the same path, and the peer has moved.
    PeerMoved,
    /// A direct path has been validated, or answers again.
    DirectAnswers,
    /// Checks on the direct path go unanswered.
    DirectSilent,
    /// Checks on it are answered, and data is not.
    DirectNarrow,
    /// It was closed.
    DirectGone,
    /// It was by a relay, and is by another one.
    OtherRelay,
    /// There is none.
    NoneLeft,
    /// Nothing is acknowledged: what segmentation offload makes may be lost.
    Unbatched,
    /// Long packets do not arrive any more.
    BlackHole {
        /// The longest UDP payload that is sent from now on, in bytes.
        payload_bytes: u16,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "the first path",
            Self::PeerMoved => "the peer has another address",
            Self::DirectAnswers => "a direct path answers",
            Self::DirectSilent => "the direct path answers no more",
            Self::DirectNarrow => "the direct path carries no data",
            Self::DirectGone => "the direct path is gone",
            Self::OtherRelay => "another relay is used",
            Self::NoneLeft => "no path is left",
            Self::Unbatched => "nothing is acknowledged: packets leave one by one",
            Self::BlackHole { payload_bytes } => {
                return write!(
                    f,
                    "the path takes packets of {payload_bytes} bytes, and no longer ones"
                );
            }
        })
    }
}

/// Why a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The session is over ([`Input::SessionOver`]).
    Session,
    /// The direct path has not answered for long, and there is no relay.
    Stranded,
}

/// Why the machine wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WakeReason {
    /// To see whether data arrives.
    Progress,
    /// To open a path that could not be opened.
    Again,
    /// To go a detour, if the peer has not answered, or QUIC cannot open a path yet.
    Detour,
    /// To ping the detour.
    Nudge,
    /// To ask QUIC where the peer is.
    Follow,
    /// To try a narrow route again.
    Narrow,
    /// To end a link without a route.
    Stranded,
    /// To end a link whose session is over.
    SessionOver,
}
