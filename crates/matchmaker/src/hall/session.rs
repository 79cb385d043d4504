//! Sessions: two workers of the sub-protocol that were offered each other.

use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::nat::NatClass;
use holepunch_wire::plan::{PLANS_MAX, Plan};
use holepunch_wire::session::SessionId;

use super::queue::Place;
use crate::card::Card;
use crate::plan::Tried;
use crate::seat::{Held, Seat};

/// A session in which the two talk waits so long for a worker that has lost its connection.
pub const RESUME_WITHIN: Duration = Duration::from_secs(30);
/// One that has no path yet does so long, and so does one that had only the relay, whose worker has lost
/// that connection, too: most likely it has crashed. A worker that lives is back within 3.5 s, at its
/// third attempt.
pub(crate) const RETURN_WITHIN: Duration = Duration::from_secs(5);
/// Two whose session came to nothing are not offered each other again before this.
pub(crate) const REMATCH_AFTER: Duration = Duration::from_secs(5);
/// Workers in a room where everyone is offered everyone.
pub(crate) const MESH_WORKERS_MAX: usize = 32;

/// One of the two.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) seat: Seat,
    pub(crate) worker: WorkerId,
    /// From which place in the queue it came.
    pub(crate) place: Option<Place>,
    /// Whether it says that the path is direct.
    pub(crate) direct: bool,
    /// Whether it says that the relay serves.
    pub(crate) relayed: bool,
    /// Where its connection is gone.
    pub(crate) gone: Option<Gone>,
    /// Whether it says that the direct path answers no more.
    pub(crate) repairing: bool,
    /// Since when its connection to the relay has been gone; `None` where it is there, or never was.
    pub(crate) unrelayed_since: Option<Instant>,
    /// How much the relay carries for each of its sessions, where that is bounded.
    pub(crate) relay_bytes: Option<u64>,
}

impl End {
    pub(crate) fn new((seat, place): (Seat, Option<Place>), card: &Card) -> Self {
        Self {
            seat,
            worker: card.worker.clone(),
            place,
            direct: false,
            relayed: false,
            gone: None,
            repairing: false,
            unrelayed_since: None,
            relay_bytes: card.relay_bytes,
        }
    }

    /// One whose connection may be gone, and has yet to show itself.
    pub(crate) fn missing(seat: Seat, worker: WorkerId, is_ignored: bool, now: Instant) -> Self {
        let gone = Some(Gone { since: now, until: now, is_ignored });
        Self {
            seat,
            worker,
            place: None,
            direct: false,
            relayed: false,
            gone,
            repairing: false,
            unrelayed_since: None,
            relay_bytes: None,
        }
    }
}

/// A worker's connection is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gone {
    since: Instant,
    /// Until when it may come back.
    pub(crate) until: Instant,
    /// The worker has been here since, and has not taken the session up.
    pub(crate) is_ignored: bool,
}

/// Two workers that were offered each other.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) ends: [End; 2],
    pub(crate) number: u32,
    pub(crate) plans: [Plan; 2],
    /// Of which classes the NATs of the two are, as far as it is known.
    pub(crate) classes: [NatClass; 2],
    /// Whether checks to every address of the peer have been in vain.
    pub(crate) plain_failed: bool,
    /// What else has been in vain.
    pub(crate) tried: Tried,
    /// Whether there is no other plan because a worker has declined the search of one.
    pub(crate) is_declined: bool,
    /// The last plan whose search each of the two was ready for.
    pub(crate) accepted: [Option<u32>; 2],
    /// Whether no desk has told of it, but a worker that has lost its connection.
    pub(crate) is_recovered: bool,
    /// When what opens the relay is made anew, where they have one; and whether it has been before.
    pub(crate) relay: Option<(Instant, bool)>,
}

impl Session {
    pub(crate) fn new(ends: [End; 2], plans: [Plan; 2]) -> Self {
        Self {
            ends,
            number: 1,
            plans,
            classes: <[NatClass; 2]>::default(),
            plain_failed: false,
            tried: Tried::default(),
            is_declined: false,
            accepted: [None; 2],
            is_recovered: false,
            relay: None,
        }
    }

    /// One that another hall has begun, as far as one of its workers knows.
    pub(crate) fn again(ends: [End; 2], plan: Plan) -> Self {
        let number = plan.number.clamp(1, PLANS_MAX);
        let plan = Plan { number, ..plan };
        Self { number, ..Self::new(ends, [plan.clone(), plan]) }
    }

    /// What the desk of one of the two knows of it.
    pub(crate) fn held(&self, session: SessionId, seat: Seat) -> Option<Held> {
        let own = self.index(seat)?;
        let End { direct, relayed, place, .. } = self.ends[own];
        let peer = self.ends[1 - own].worker.clone();
        let (was_waiting, plan) = (place.is_some(), self.plans[own].clone());
        let is_recovered = false;
        Some(Held { session, own, peer, plan, was_waiting, direct, relayed, is_recovered })
    }

    /// What holds of a session by itself.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        let [first, second] = &self.ends;
        assert_ne!(first.seat, second.seat, "a connection talks to itself");
        assert_ne!(first.worker, second.worker, "a worker talks to itself");
        assert!(first.gone.is_none() || second.gone.is_none(), "nobody is left");
        assert!((1..=PLANS_MAX).contains(&self.number), "plan {}", self.number);
        for (plan, accepted) in self.plans.iter().zip(self.accepted) {
            assert_eq!(plan.number, self.number, "the two follow different plans");
            assert!(accepted.is_none_or(|it| it <= self.number), "a plan to come is accepted");
        }
        assert_eq!(self.plans[0].strategy, self.plans[1].strategy, "the two do different things");
    }

    /// Whether the search of the current plan has been made.
    pub(crate) fn has_searched(&self) -> bool {
        self.accepted == [Some(self.number); 2]
    }

    /// Which of the two this is.
    pub(crate) fn index(&self, seat: Seat) -> Option<usize> {
        self.ends.iter().position(|end| end.seat == seat)
    }

    /// One of the two has lost its connection.
    pub(crate) fn goes(&mut self, own: usize, now: Instant) {
        self.ends[own].gone = Some(Gone { since: now, until: now, is_ignored: false });
        self.wait();
    }

    /// Decides anew until when the one that is gone may come back: before, and now.
    pub(crate) fn wait(&mut self) -> Option<(Instant, Instant)> {
        let own = self.ends.iter().position(|end| end.gone.is_some())?;
        let is_lost = self.is_lost(own);
        let has_path = self.is_linked();
        let end = &mut self.ends[own];
        let (gone, unrelayed) = (end.gone.as_mut()?, end.unrelayed_since);
        let until = match (has_path, is_lost) {
            (true, false) => gone.since + RESUME_WITHIN,
            (true, true) => unrelayed.map_or(gone.since, |at| at.max(gone.since)) + RETURN_WITHIN,
            (false, _) => gone.since + RETURN_WITHIN,
        };
        Some((std::mem::replace(&mut gone.until, until), until))
    }

    /// Whether one that is gone has no way left to its peer: not even the relay, whose connection it
    /// lost together with the other one.
    pub(crate) fn is_lost(&self, own: usize) -> bool {
        let (end, peer) = (&self.ends[own], &self.ends[1 - own]);
        let has_direct = self.is_direct() && !peer.repairing;
        let since = end.gone.map(|gone| gone.since);
        let together = |unrelayed: Instant| since.is_some_and(|at| unrelayed + RETURN_WITHIN >= at);
        !has_direct && end.unrelayed_since.is_some_and(together)
    }

    /// Whether the two may still talk directly when the one that is gone has not come back.
    pub(crate) fn outlives_a_worker(&self) -> bool {
        let own = self.ends.iter().position(|end| end.gone.is_some());
        self.is_direct() && own.is_some_and(|own| !self.is_lost(own))
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.ends.iter().any(|end| end.direct)
    }

    /// Whether the two talk, directly or through the relay: such a session waits for a worker that has
    /// lost its connection.
    pub(crate) fn is_linked(&self) -> bool {
        self.ends.iter().any(|end| end.direct || end.relayed)
    }
}
