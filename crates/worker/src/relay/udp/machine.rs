//! What a worker asks its relay by UDP, and when: without a socket, and without a clock.
//!
//! Hello, bind, and then pings: soon after datagrams were sent, so that a way that has gone silent is left within half a
//! second, and as long as the longest datagram that has got there, since a path may become narrower.

use std::time::Duration;

use holepunch_wire::relay::udp::{
    Bind, Channel, Echo, FromRelay, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_SAFE, Ping, Reason, ToRelay,
};
use holepunch_wire::session::{RelayToken, SessionId};
use holepunch_wire::stun::proof::{AddressProof, ProofNonce};
use rand::{Rng, RngExt};
use tokio::time::Instant;

/// A hello or a bind without an answer is repeated after this, which doubles ...
const AGAIN_FIRST: Duration = Duration::from_millis(250);
/// ... up to this: UDP may get out again, in another network say.
const AGAIN_LONGEST: Duration = Duration::from_secs(30);
/// So many hellos leave from one port, toward one of the relay's addresses.
const HELLOS_MAX: u32 = 4;
/// So many binds are asked with one cookie; then another one is asked for.
const BINDS_MAX: u32 = 3;
/// An idle channel is pinged so often: below the half minute for which NATs keep mappings at least (RFC 4787 §4.3 asks for
/// two minutes, and many keep less).
const PING_IDLE: Duration = Duration::from_secs(15);
/// One that carries, although it is heard from: what comes says nothing of what goes.
const PING_CARRIED: Duration = Duration::from_secs(1);
/// Datagrams were sent, and nothing has come since: the peer's QUIC acknowledges within 25 ms and a round trip.
const PING_SILENT: Duration = Duration::from_millis(250);
/// A ping without an answer is repeated after this, ...
const PING_AGAIN: Duration = Duration::from_millis(150);
/// ... and from then on the WebSocket carries, ...
const DOUBT_AFTER: Duration = Duration::from_millis(400);
/// ... and from then on there is no channel any more: another one is asked for, from another port.
const LOST_AFTER: Duration = Duration::from_secs(4);
const _: () = assert!(PING_AGAIN.as_millis() * 2 < DOUBT_AFTER.as_millis());
const _: () = assert!(DOUBT_AFTER.as_millis() < LOST_AFTER.as_millis());
/// So many pings try whether the longest datagram gets there.
const TRIALS_MAX: u32 = 4;

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Send(Vec<u8>),
    /// Another socket, and then this.
    SendFromElsewhere(Vec<u8>),
}

/// What a datagram was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// One of the link.
    Data(&'a [u8]),
    /// An answer, or nothing that was asked for.
    Nothing,
    /// There will be no channel of this session.
    Over(Reason),
}

#[derive(Debug)]
enum Stage {
    Hello(ProofNonce),
    /// With this cookie, and what the answer to the last bind names it by.
    Bind(ProofNonce, AddressProof, Option<Echo>),
    Bound(Bound),
}

#[derive(Debug)]
struct Bound {
    channel: Channel,
    echo: Echo,
    /// The first ping that has no answer, and the last one.
    asked: Option<(Instant, Instant)>,
    number: u64,
    asked_last: Instant,
    heard_at: Instant,
    /// Since when datagrams were sent, and no ping was answered.
    carried_since: Option<Instant>,
    is_doubtful: bool,
    proved: usize,
    trials: u32,
}

pub(super) struct Machine {
    session: SessionId,
    stage: Stage,
    tries: u32,
    due: Instant,
    is_over: bool,
}

fn nonce(rng: &mut impl Rng) -> ProofNonce {
    ProofNonce(rng.random())
}

impl Machine {
    pub(super) fn new(session: SessionId, rng: &mut impl Rng, now: Instant) -> Self {
        Self { session, stage: Stage::Hello(nonce(rng)), tries: 0, due: now, is_over: false }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); never, where it is over.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_over).then_some(self.due)
    }

    /// Where datagrams of the link may go, and how long they may be.
    pub(super) fn in_use(&self) -> Option<(Channel, usize)> {
        let Stage::Bound(bound) = &self.stage else { return None };
        let is_usable = !self.is_over && !bound.is_doubtful && bound.proved > 0;
        is_usable.then_some((bound.channel, bound.proved))
    }

    /// What closes the channel.
    pub(super) fn close(&self) -> Option<Vec<u8>> {
        let Stage::Bound(bound) = &self.stage else { return None };
        Some(ToRelay::Close(bound.channel, bound.echo).to_bytes())
    }

    /// Datagrams of the link were sent. Whether [`due`](Self::due) is earlier from now on.
    pub(super) fn carried(&mut self, now: Instant) -> bool {
        let Stage::Bound(bound) = &mut self.stage else { return false };
        if bound.carried_since.is_some() {
            return false;
        }
        bound.carried_since = Some(now);
        let due = bound.due();
        let is_earlier = due < self.due;
        self.due = due;
        is_earlier
    }

    /// Does what is due.
    pub(super) fn handle_timeout(
        &mut self,
        token: &RelayToken,
        rng: &mut impl Rng,
        now: Instant,
    ) -> Option<Action> {
        if self.is_over || now < self.due {
            return None;
        }
        match &mut self.stage {
            Stage::Hello(_) if self.tries > 0 && self.tries.is_multiple_of(HELLOS_MAX) => {
                Some(self.begin_anew(rng, now))
            }
            Stage::Hello(nonce) => {
                let hello = ToRelay::Hello(*nonce).to_bytes();
                self.wait(now);
                Some(Action::Send(hello))
            }
            Stage::Bind(..) if self.tries >= BINDS_MAX => Some(self.begin_anew(rng, now)),
            Stage::Bind(nonce, cookie, asked) => {
                // Each with the token of now: it may have been renewed meanwhile.
                let bind = Bind::new(*nonce, *cookie, self.session, token);
                *asked = Some(bind.echo());
                self.wait(now);
                Some(Action::Send(ToRelay::Bind(bind).to_bytes()))
            }
            Stage::Bound(bound) => {
                if bound.look(now) {
                    return Some(self.begin_anew(rng, now));
                }
                let ping = (now >= bound.due()).then(|| bound.ping(now));
                self.due = bound.due();
                ping.map(Action::Send)
            }
        }
    }

    /// Reads a datagram of the relay.
    pub(super) fn handle<'a>(
        &mut self,
        datagram: &'a [u8],
        rng: &mut impl Rng,
        now: Instant,
    ) -> Heard<'a> {
        let Some(message) = FromRelay::parse(datagram) else { return Heard::Nothing };
        match (&mut self.stage, message) {
            (Stage::Bound(bound), FromRelay::Data(channel, payload))
                if channel == bound.channel =>
            {
                bound.heard_at = now;
                return Heard::Data(payload);
            }
            (Stage::Bound(bound), FromRelay::Pong(ping)) if ping.channel == bound.channel => {
                bound.answered(&ping, now);
                self.due = bound.due();
            }
            (Stage::Bound(bound), FromRelay::Unknown(channel)) if channel == bound.channel => {
                // The relay was started again, or a NAT has another port for this worker.
                self.stage = Stage::Hello(nonce(rng));
                self.wait(now);
            }
            (Stage::Bound(bound), FromRelay::Closed(channel, echo, why))
                if (channel, echo) == (bound.channel, bound.echo) =>
            {
                return self.refused(why, rng, now);
            }
            (Stage::Hello(nonce), FromRelay::Challenge(echo, cookie))
                if echo == FromRelay::echo_of(*nonce) =>
            {
                self.stage = Stage::Bind(*nonce, cookie, None);
                (self.tries, self.due) = (0, now);
            }
            (Stage::Bind(_, _, asked), FromRelay::Bound(channel, echo)) if *asked == Some(echo) => {
                self.stage = Stage::Bound(Bound::new(channel, echo, now));
                (self.tries, self.due) = (0, now);
            }
            (Stage::Bind(_, _, asked), FromRelay::Refused(why, echo)) if *asked == Some(echo) => {
                return self.refused(why, rng, now);
            }
            _ => {}
        }
        Heard::Nothing
    }

    fn refused(&mut self, why: Reason, rng: &mut impl Rng, now: Instant) -> Heard<'static> {
        match why {
            Reason::Ended | Reason::Quota | Reason::Replaced | Reason::Token => {
                self.is_over = true;
                return Heard::Over(why);
            }
            Reason::Full | Reason::ShuttingDown | Reason::Other => {
                self.stage = Stage::Hello(nonce(rng));
                self.due = now + AGAIN_LONGEST;
            }
        }
        Heard::Nothing
    }

    fn begin_anew(&mut self, rng: &mut impl Rng, now: Instant) -> Action {
        let nonce = nonce(rng);
        self.stage = Stage::Hello(nonce);
        self.wait(now);
        Action::SendFromElsewhere(ToRelay::Hello(nonce).to_bytes())
    }

    fn wait(&mut self, now: Instant) {
        self.due = now + (AGAIN_FIRST * 2_u32.pow(self.tries.min(10))).min(AGAIN_LONGEST);
        self.tries = self.tries.saturating_add(1);
    }
}

impl Bound {
    fn new(channel: Channel, echo: Echo, now: Instant) -> Self {
        Self {
            channel,
            echo,
            asked: None,
            number: 0,
            asked_last: now,
            heard_at: now,
            carried_since: None,
            is_doubtful: false,
            proved: 0,
            trials: 0,
        }
    }

    /// When the next ping is to be sent, or its answer to be missed.
    fn due(&self) -> Instant {
        if self.proved == 0 && self.asked.is_none() {
            return self.asked_last;
        }
        match (self.asked, self.carried_since) {
            (Some((_, last)), _) => last + PING_AGAIN,
            (None, Some(since)) => {
                let silent = since.max(self.heard_at) + PING_SILENT;
                silent.min(self.asked_last + PING_CARRIED).max(self.asked_last + PING_AGAIN)
            }
            (None, None) if self.has_trial() => self.asked_last + PING_CARRIED,
            (None, None) => self.asked_last + PING_IDLE,
        }
    }

    fn has_trial(&self) -> bool {
        self.proved < PAYLOAD_BYTES_MAX && self.trials < TRIALS_MAX
    }

    /// Looks whether an answer is late; whether the channel is lost.
    fn look(&mut self, now: Instant) -> bool {
        let Some((first, _)) = self.asked else { return false };
        let waited = now.saturating_duration_since(first);
        self.is_doubtful |= waited >= DOUBT_AFTER;
        waited >= LOST_AFTER
    }

    fn ping(&mut self, now: Instant) -> Vec<u8> {
        // A trial asks nothing else: that it stays without an answer is no doubt.
        let is_trial = self.proved > 0 && self.asked.is_none() && self.has_trial();
        let payload =
            if is_trial { PAYLOAD_BYTES_MAX } else { self.proved.max(PAYLOAD_BYTES_SAFE) };
        if is_trial {
            self.trials += 1;
        } else {
            let first = self.asked.map_or(now, |(first, _)| first);
            self.asked = Some((first, now));
        }
        self.asked_last = now;
        self.number += 1;
        let padding = vec![0; Ping::padding_for(payload)];
        let proved = u16::try_from(self.proved).unwrap_or(u16::MAX);
        let ping = Ping { channel: self.channel, number: self.number, proved, padding: &padding };
        ToRelay::Ping(ping).to_bytes()
    }

    fn answered(&mut self, ping: &Ping<'_>, now: Instant) {
        if ping.number > self.number {
            return;
        }
        self.heard_at = now;
        let is_new = ping.payload_bytes() > self.proved;
        self.proved = self.proved.max(ping.payload_bytes().min(PAYLOAD_BYTES_MAX));
        // One of a shorter trial, or the answer to a ping long ago, says nothing of now.
        if ping.payload_bytes() >= self.proved {
            (self.asked, self.carried_since, self.is_doubtful) = (None, None, false);
        }
        if is_new {
            // The relay is told at once.
            self.asked_last = now.checked_sub(PING_IDLE).unwrap_or(now);
        }
    }
}

#[cfg(test)]
mod tests;
