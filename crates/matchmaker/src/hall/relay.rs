//! What opens the relay of a session: tokens that end, and are made anew before.

use std::time::{Duration, Instant};

use holepunch_wire::relay::RELAY_TOKEN_LIFETIME;
use holepunch_wire::session::{RelayToken, SessionId};
use holepunch_wire::signal::v1::ServerV1;

use super::{Hall, Shared, Step};
use crate::seat::Seat;

/// After half of a token's life: what is left of it is for workers that are away meanwhile, and for clocks that differ.
const RENEW_AFTER: Duration = Duration::from_secs(RELAY_TOKEN_LIFETIME.as_secs() / 2);

impl Shared {
    /// What opens the relay of a session for each of the two, from now on, for as many bytes where they are bounded.
    pub(super) fn relay_tokens(
        &self,
        id: SessionId,
        bytes_max: Option<u64>,
        now: Instant,
    ) -> Option<[RelayToken; 2]> {
        let (at, unix) = self.wall_clock?;
        let unix = unix + now.saturating_duration_since(at);
        self.relay.as_ref()?.tokens(id, unix, bytes_max)
    }
}

impl Hall {
    /// The session has its tokens; the time of the next ones.
    pub(super) fn renew_later(&mut self, id: SessionId, is_again: bool, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let at = now + RENEW_AFTER;
        session.relay = Some((at, is_again));
        self.renewals.insert((at, id));
    }

    /// Both workers of each session whose time it is get fresh ones.
    pub(super) fn renew_relays(&mut self, step: &mut Step<'_>) {
        while let Some(&(at, id)) = self.renewals.first()
            && at <= step.now
        {
            self.renewals.pop_first();
            self.renew_later(id, true, step.now);
            let ends = self
                .sessions
                .get(&id)
                .map(|session| session.ends.each_ref().map(|end| (end.seat, end.gone.is_some())));
            for (seat, _) in ends.into_iter().flatten().filter(|(_, is_gone)| !is_gone) {
                self.tell_renewed(id, seat, step);
            }
        }
    }

    /// Nobody knows how old the tokens are of a session that was taken over: both of its workers get fresh ones.
    pub(super) fn renew_adopted(&mut self, id: SessionId, step: &mut Step<'_>) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.relay.is_none()) else {
            return;
        };
        let seats = session.ends.each_ref().map(|end| end.seat);
        let has_key = |seat| self.people.get(seat).is_some_and(|it| it.card.key().is_some());
        if step.shared.relay.is_some() && seats.iter().all(has_key) {
            self.renew_later(id, true, step.now);
            seats.into_iter().for_each(|seat| self.tell_renewed(id, seat, step));
        }
    }

    /// A worker may have missed what opens the relay of its session by now.
    pub(super) fn tell_renewed(&self, id: SessionId, seat: Seat, step: &mut Step<'_>) {
        let Some(session) = self.sessions.get(&id) else { return };
        if !session.relay.is_some_and(|(_, is_again)| is_again) {
            return;
        }
        let bytes_max = session.ends.iter().filter_map(|end| end.relay_bytes).min();
        let tokens = step.shared.relay_tokens(id, bytes_max, step.now);
        if let (Some(tokens), Some(own)) = (tokens, session.index(seat)) {
            let token = tokens[own].clone();
            step.say(seat, ServerV1::RelayToken { session: id, token });
        }
    }
}
