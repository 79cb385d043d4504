//! What is known of one registered worker.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::candidate::{Candidate, CandidateKind};
use holepunch_wire::identity::PublicKey;
use holepunch_wire::nat::NatProfile;
use holepunch_wire::session::{AddressProof, RoomName, SessionId};
use holepunch_wire::stun::proof::ProofNonce;

use crate::calls::Line;
use crate::doors::{ConnectionId, Observed, Protocol, Worker};
use crate::liveness::Liveness;
use crate::plan::Side;
use crate::queue::Place;
use crate::session::{MESH_WORKERS_MAX, REMATCH_AFTER};

/// Messages of the sub-protocol that one worker may send at once, and in a second from then on.
const MESSAGES_BURST: u32 = 60;
const MESSAGES_PER_SECOND: u32 = 20;
/// Likewise of those that are passed on to all its peers.
const NEWS_BURST: u32 = 24;
const NEWS_PER_SECOND: u32 = 2;
/// What a worker says of itself that is told to whoever looks after the server, likewise: an honest one has a new address now
/// and then, and one that tells another one with each message would fill the log.
const TOLD_BURST: u32 = 10;
const TOLD_PER_SECOND: u32 = 1;
/// Former peers that are remembered, so that they are not the first choice again. Those of the last
/// [`REMATCH_AFTER`] are remembered beyond that, all of a room of many.
const PARTNERS_MAX: usize = 4;

/// What is known of a worker that speaks `holepunch.v1`, beyond the baseline.
#[derive(Debug)]
pub(crate) struct V1 {
    pub(crate) profile: NatProfile,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) generation: u32,
    /// The key that it has proved.
    pub(crate) key: Option<PublicKey>,
    pub(crate) nonce: ProofNonce,
    /// The address that our STUN server has seen the worker at.
    pub(crate) proven: Option<IpAddr>,
    pub(crate) resume: String,
    pub(crate) sessions: BTreeSet<SessionId>,
    /// Whether it has asked for peers, in a room of many.
    pub(crate) wants_peers: bool,
    /// Whether it was shown out of the room that it wanted: it is in the room without a name, and meets nobody there, until
    /// it has named another one.
    pub(crate) shown_out: bool,
    /// Whether it may be called from other rooms.
    pub(crate) callable: bool,
    /// Those who have called it from there, and wait.
    pub(crate) line: Line,
    /// Whether it was told that the others in its room have each other.
    pub(crate) told_occupied: bool,
    /// When it was told what opens the TURN servers.
    pub(crate) turn_issued_at: Instant,
    messages: Allowance,
    news: Allowance,
}

/// How many messages may come, as of some moment.
#[derive(Debug)]
struct Allowance {
    left: u32,
    refilled_at: Instant,
}

impl V1 {
    pub(crate) fn new(nonce: ProofNonce, resume: String, now: Instant) -> Self {
        Self {
            profile: NatProfile::default(),
            candidates: Vec::new(),
            generation: 0,
            key: None,
            nonce,
            proven: None,
            resume,
            sessions: BTreeSet::new(),
            wants_peers: false,
            shown_out: false,
            callable: false,
            line: Line::default(),
            told_occupied: false,
            turn_issued_at: now,
            messages: Allowance::new(MESSAGES_BURST, now),
            news: Allowance::new(NEWS_BURST, now),
        }
    }

    /// Whether another message is within what one worker may send.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        self.messages.allows(MESSAGES_PER_SECOND, MESSAGES_BURST, now)
    }

    /// Whether another one that is passed on to all its peers is.
    pub(crate) fn allows_news(&mut self, now: Instant) -> bool {
        self.news.allows(NEWS_PER_SECOND, NEWS_BURST, now)
    }
}

impl Allowance {
    fn new(burst: u32, now: Instant) -> Self {
        Self { left: burst, refilled_at: now }
    }

    fn allows(&mut self, per_second: u32, burst: u32, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let earned = elapsed.as_millis() * u128::from(per_second) / 1000;
        if let Some(earned) = u32::try_from(earned).ok().filter(|earned| *earned > 0) {
            self.left = self.left.saturating_add(earned).min(burst);
            self.refilled_at = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

/// One worker that is registered, or will be when it has proved its key.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: WorkerId,
    pub(crate) observed: Observed,
    pub(crate) room: RoomName,
    pub(crate) http_ip: Option<IpAddr>,
    pub(crate) endpoint: Option<SocketAddr>,
    /// Its place in the queue; kept, but not in the queue, while a ping is overdue.
    pub(crate) place: Option<Place>,
    /// The last pairing by a plain offer: with whom, and from which place.
    pub(crate) paired: Option<(ConnectionId, Place)>,
    /// Those it was offered before, the last one at the end, and when.
    pub(crate) partners: VecDeque<(WorkerId, Instant)>,
    pub(crate) liveness: Liveness,
    pub(crate) pinged_at: Option<Instant>,
    pub(crate) rtt: Option<Duration>,
    pub(crate) ignored: u32,
    pub(crate) reports_refused: u32,
    told: Allowance,
    pub(crate) v1: Option<Box<V1>>,
}

impl Connection {
    /// What a listing shows.
    pub(crate) fn seen(&self) -> Worker<'_> {
        let Self { worker: id, observed, http_ip, endpoint, .. } = self;
        Worker { id, observed: *observed, http_ip: *http_ip, endpoint: *endpoint }
    }

    pub(crate) fn new(
        worker: WorkerId,
        observed: Observed,
        room: RoomName,
        liveness: Liveness,
        v1: Option<Box<V1>>,
        now: Instant,
    ) -> Self {
        Self {
            worker,
            observed,
            room,
            http_ip: None,
            endpoint: None,
            place: None,
            paired: None,
            partners: VecDeque::new(),
            liveness,
            pinged_at: None,
            rtt: None,
            ignored: 0,
            reports_refused: 0,
            told: Allowance::new(TOLD_BURST, now),
            v1,
        }
    }

    /// Whether one more thing that it says of itself is told.
    pub(crate) fn is_told(&mut self, now: Instant) -> bool {
        self.told.allows(TOLD_PER_SECOND, TOLD_BURST, now)
    }

    pub(crate) fn is_overdue(&self) -> bool {
        matches!(self.liveness, Liveness::Overdue { .. })
    }

    pub(crate) fn protocol(&self) -> Protocol {
        if self.v1.is_some() { Protocol::V1 } else { Protocol::Baseline }
    }

    /// Whether it is where it is since it was shown out of its room.
    pub(crate) fn is_shown_out(&self) -> bool {
        self.v1.as_ref().is_some_and(|v1| v1.shown_out)
    }

    /// Whether a worker of this room may call it.
    pub(crate) fn is_callable_from(&self, room: &RoomName) -> bool {
        // One that was shown out is in a room that it has not named, where nobody is to find it.
        let is_for_all = || self.v1.as_ref().is_some_and(|v1| v1.callable);
        !self.is_shown_out() && (self.room == *room || is_for_all())
    }

    /// How many sessions it has under way.
    pub(crate) fn sessions(&self) -> usize {
        self.v1.as_ref().map_or(0, |v1| v1.sessions.len())
    }

    /// Whether it has one.
    pub(crate) fn is_engaged(&self) -> bool {
        self.sessions() > 0
    }

    pub(crate) fn remember(&mut self, partner: WorkerId, now: Instant) {
        self.partners.retain(|(known, _)| *known != partner);
        while let Some((_, at)) = self.partners.front()
            && self.partners.len() >= PARTNERS_MAX
            && (*at + REMATCH_AFTER <= now || self.partners.len() >= MESH_WORKERS_MAX)
        {
            self.partners.pop_front();
        }
        self.partners.push_back((partner, now));
    }

    /// Whether its endpoint is its own.
    pub(crate) fn proof(&self) -> AddressProof {
        self.endpoint.map_or(AddressProof::None, |endpoint| self.proof_of(endpoint.ip()))
    }

    /// Whether this address is its own.
    pub(crate) fn proof_of(&self, ip: IpAddr) -> AddressProof {
        let proven = self.v1.as_ref().and_then(|v1| v1.proven);
        if proven == Some(ip) {
            AddressProof::Stun
        } else if self.observed.ip == ip {
            AddressProof::Signalling
        } else {
            AddressProof::None
        }
    }

    /// Whether its router has opened a port. One of another address than the worker's own is that of a
    /// router behind another NAT. (Where no STUN server has seen the worker, its connection shows where
    /// it is.)
    pub(crate) fn has_mapped_port(&self) -> bool {
        let at = self.endpoint.map_or(self.observed.ip, |endpoint| endpoint.ip());
        let is_open =
            |it: &Candidate| it.kind == CandidateKind::PortMapped && it.address().ip() == at;
        self.v1.iter().flat_map(|v1| &v1.candidates).any(is_open)
    }

    /// What the planner is to know of it.
    pub(crate) fn side(&self, now: Instant) -> Side {
        let profile = self.v1.as_ref().map(|v1| v1.profile.clone()).unwrap_or_default();
        // A ping that is still out shows that the round trip takes longer than that.
        let out = self.pinged_at.map(|at| now.saturating_duration_since(at));
        let rtt = self.rtt.or(out);
        let port_mapped = self.has_mapped_port();
        Side {
            profile,
            endpoint: self.endpoint,
            proof: self.proof(),
            port_mapped,
            rtt,
            observed: self.observed.ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_messages_is_cut_to_the_allowance() {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let mut v1 = V1::new(ProofNonce([0; 16]), String::new(), start);
        let mut taken = |at| (0..1000).filter(|_| v1.allows(at)).count();
        assert_eq!(taken(start), 60);
        assert_eq!(taken(start + Duration::from_secs(1)), 20);
        assert_eq!(taken(start + Duration::from_secs(3600)), 60);
    }
}
