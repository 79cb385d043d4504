//! What a hall knows of a worker.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::rate::{Bucket, Rate};
use holepunch_wire::session::{SESSIONS_MAX, SessionId};

use super::MESH_WORKERS_MAX;
use super::calls::Line;
use super::queue::Place;
use super::session::REMATCH_AFTER;
use crate::card::Card;
use crate::plan::Side;
use crate::seat::{Over, Resumes, Seat};
/// What is told of one worker to whoever looks after the server: an honest one waits for a new peer now and then, and one
/// that does so with each message would fill the log.
pub(super) const TOLD: Rate = Rate { count: 1, per: Duration::from_secs(1), burst: 8 };
/// Former peers that are remembered, so that they are not the first choice again. Those of the last
/// [`REMATCH_AFTER`] are remembered beyond that, all of a room of many.
const PARTNERS_MAX: usize = 4;

/// One worker in a hall.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) card: Arc<Card>,
    /// Since when its first ping has been out.
    pub(super) pinged_at: Option<Instant>,
    /// Its place in the queue; kept, but not in the queue, while a ping is overdue.
    pub(super) place: Option<Place>,
    /// The last pairing by a plain offer: with whom, and from which place.
    pub(super) paired: Option<(Seat, Place)>,
    /// Those it was offered before, the last one at the end, and when.
    pub(super) partners: VecDeque<Partner>,
    pub(super) sessions: BTreeSet<SessionId>,
    /// It has lost a connection, and takes up its sessions with this one.
    pub(super) resumes: Resumes,
    pub(super) over: Over,
    /// Whether it has asked for peers, in a room of many.
    pub(super) wants_peers: bool,
    /// Whether it was told that the others in its room have each other.
    pub(super) told_occupied: bool,
    /// Those who have called it from other rooms, and wait.
    pub(super) line: Option<Box<Line>>,
    /// Those in whose line it stands.
    pub(super) waits_for: BTreeSet<Seat>,
    pub(super) told: Bucket,
}

/// One that a worker was offered.
#[derive(Debug)]
pub(super) struct Partner {
    pub(super) worker: WorkerId,
    pub(super) seat: Seat,
    pub(super) met_at: Instant,
}

impl Person {
    pub(super) fn new(card: Arc<Card>, now: Instant) -> Self {
        Self {
            pinged_at: since(&card, now),
            card,
            place: None,
            paired: None,
            partners: VecDeque::new(),
            sessions: BTreeSet::new(),
            resumes: Resumes::Nothing,
            over: Over::default(),
            wants_peers: false,
            told_occupied: false,
            line: None,
            waits_for: BTreeSet::new(),
            told: Bucket::default(),
        }
    }

    pub(super) fn is_v1(&self) -> bool {
        self.card.v1.is_some()
    }

    /// How many sessions it has under way.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len() + self.card.elsewhere
    }

    pub(super) fn is_engaged(&self) -> bool {
        self.sessions() > 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.sessions() >= SESSIONS_MAX
    }

    pub(super) fn side(&self, now: Instant) -> Side {
        self.card.side(self.pinged_at.map(|at| now.saturating_duration_since(at)))
    }

    pub(super) fn remember(&mut self, (worker, seat): (WorkerId, Seat), now: Instant) {
        self.partners.retain(|known| known.worker != worker);
        while let Some(first) = self.partners.front()
            && self.partners.len() >= PARTNERS_MAX
            && (first.met_at + REMATCH_AFTER <= now || self.partners.len() >= MESH_WORKERS_MAX)
        {
            self.partners.pop_front();
        }
        self.partners.push_back(Partner { worker, seat, met_at: now });
    }
}

fn since(card: &Card, now: Instant) -> Option<Instant> {
    card.pinged.map(|out| now.checked_sub(out).unwrap_or(now))
}
