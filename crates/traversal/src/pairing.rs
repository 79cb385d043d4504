//! One offered peer, from the first PING until it is lost.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::WorkerId;
use holepunch_wire::probe::{Ping, Pong};
use holepunch_wire::rate::Bucket;
use holepunch_wire::signal::Offer;

use crate::answers::{PEER, STRANGERS};
use crate::doors::{
    Event, FailReason, LostReason, Out, Transmit, Turn, WakeReason, WakeUp, earlier,
};
use crate::schedule::{self, PING_UNTIL};

/// Addresses that PINGs go to: the offered one, and two sources that the peer's PINGs came from.
const TARGETS_MAX: usize = 3;
/// PINGs whose answers still count. A punch sends at most 25 to each of three addresses.
const SENT_MAX: usize = 128;
/// PINGs that PINGs of the peer trigger, beside the schedule.
const TRIGGERED_MAX: u32 = 5;
/// An answer to the last PING of a punch may take so long.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// A linked peer that has not answered is asked again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A linked peer that has answered nothing for so long is gone (the consent time-out of RFC 7675).
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// An address that PINGs go to, with an allowance of answers of its own: whoever floods from one
/// address with the peer's id does not use up another's.
#[derive(Debug)]
struct Target {
    address: SocketAddr,
    answers: Bucket,
}

impl Target {
    fn new(address: SocketAddr) -> Self {
        Self { address, answers: Bucket::default() }
    }
}

#[derive(Debug)]
struct SentPing {
    number: u32,
    to: SocketAddr,
    at: Instant,
}

#[derive(Debug)]
enum Phase {
    /// PINGs leave by the schedule, until a PING and a PONG of the peer have come.
    Punching { index: u32, next_at: Option<Instant> },
    /// The link is there.
    Linked(Linked),
    /// It came to an end.
    Over,
}

#[derive(Debug)]
struct Linked {
    path: SocketAddr,
    heard_at: Instant,
    ask_at: Instant,
    /// PINGs since the last answer.
    asked: u32,
}

#[derive(Debug)]
pub(crate) struct Pairing {
    own: WorkerId,
    pub(crate) peer: WorkerId,
    started: Instant,
    targets: Vec<Target>,
    sent: VecDeque<SentPing>,
    /// PINGs sent in all; the number of the last one.
    probes: u32,
    triggered: u32,
    pings: u32,
    pongs: u32,
    /// The target that answered last, and after what time.
    answered: Option<(SocketAddr, Duration)>,
    /// PINGs answered from addresses that are no targets yet.
    newcomers: Bucket,
    phase: Phase,
    pub(crate) out: Out,
}

impl Pairing {
    /// Starts a punch. `early` are the sources of PINGs that the peer has sent already, the newest
    /// last: where there are too many, the newest count.
    pub(crate) fn new(own: WorkerId, offer: Offer, early: &[SocketAddr], now: Instant) -> Self {
        let mut pairing = Self {
            own,
            started: now,
            targets: vec![Target::new(offer.endpoint)],
            sent: VecDeque::new(),
            probes: 0,
            triggered: 0,
            pings: 0,
            pongs: 0,
            answered: None,
            newcomers: Bucket::default(),
            phase: Phase::Punching { index: 0, next_at: Some(now) },
            out: Out {
                events: VecDeque::from([Event::PunchStarted(offer.peer.clone(), offer.endpoint)]),
                ..Out::default()
            },
            peer: offer.peer,
        };
        for &from in early.iter().rev() {
            if pairing.may_ping(from) {
                pairing.ping_from(from, now);
            }
        }
        pairing
    }

    pub(crate) fn is_linked(&self) -> bool {
        matches!(self.phase, Phase::Linked(_))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Takes a PING with the peer's id; `false` when it has to count as a stranger's: it comes from
    /// one address too many, or there were too many.
    pub(crate) fn handle_ping(&mut self, from: SocketAddr, ping: &Ping<'_>, now: Instant) -> bool {
        if !(self.may_ping(from) || self.is_linked()) {
            return false;
        }
        let target = self.targets.iter_mut().find(|target| target.address == from);
        let (used, rate) =
            target.map_or((&mut self.newcomers, STRANGERS), |target| (&mut target.answers, PEER));
        if !used.take(rate, now) {
            return false;
        }
        let payload = ping.answer(self.own.as_str());
        self.out.transmits.push_back(Transmit::new(from, payload));
        self.ping_from(from, now);
        true
    }

    /// Whether a PING of the peer is a reason to send one at once: ours have gone out, none has been
    /// answered, and few have been triggered.
    fn may_trigger(&self) -> bool {
        let punching = matches!(self.phase, Phase::Punching { .. });
        let unanswered = self.probes > 0 && self.answered.is_none();
        punching && unanswered && self.triggered < TRIGGERED_MAX
    }

    /// Whether `from` is, or may become, one of the addresses that PINGs go to.
    fn may_ping(&self, from: SocketAddr) -> bool {
        self.is_target(from) || self.targets.len() < TARGETS_MAX
    }

    fn is_target(&self, address: SocketAddr) -> bool {
        self.targets.iter().any(|target| target.address == address)
    }

    /// A PING of the peer has come from there.
    fn ping_from(&mut self, from: SocketAddr, now: Instant) {
        self.pings = self.pings.saturating_add(1);
        self.out.events.push_back(Event::PingReceived(self.peer.clone(), from, self.pings));
        if !self.is_target(from) {
            // A linked peer whose NAT rebinds may do so often: the newest source is worth most.
            self.targets.truncate(TARGETS_MAX - 1);
            self.targets.push(Target::new(from));
            self.out.events.push_back(Event::SourceObserved(self.peer.clone(), from));
            self.send_ping(from, now);
        } else if self.may_trigger() {
            // The peer's NAT is open now, and our first PING may have died at it: a triggered check
            // (RFC 8445 §7.3.1.4) finds the way without waiting for the schedule.
            self.triggered += 1;
            self.send_ping(from, now);
        }
    }

    /// Takes a PONG; `false` when it is not the peer's answer to a PING that was sent.
    pub(crate) fn handle_pong(
        &mut self,
        from: SocketAddr,
        pong: &Pong<'_>,
        (now, rng): Turn<'_>,
    ) -> bool {
        let number = pong.acknowledged(self.peer.as_str(), self.own.as_str());
        let sent = self.sent.iter().find(|sent| Some(sent.number) == number);
        // The answer may leave the peer's NAT by another port, but hardly by another address.
        let from_peer = self.targets.iter().any(|target| target.address.ip() == from.ip());
        let (Some(sent), true) = (sent, from_peer) else { return false };
        let (to, rtt) = (sent.to, now.saturating_duration_since(sent.at));
        self.answered = Some((to, rtt));
        self.pongs = self.pongs.saturating_add(1);
        self.out.events.push_back(Event::PongReceived(self.peer.clone(), from, self.pongs));
        if let Phase::Linked(linked) = &mut self.phase {
            // The path stays while it answers, however many other addresses do.
            if linked.path != to && linked.asked >= 2 {
                linked.path = to;
                self.targets = vec![Target::new(to)];
                self.out.events.push_back(Event::PathMoved(self.peer.clone(), to));
            }
            if linked.path == to {
                linked.heard_at = now;
                linked.asked = 0;
                linked.ask_at = now + schedule::keep_alive(rng);
            }
        }
        true
    }

    /// Ends the pairing because another peer is offered.
    pub(crate) fn replace(&mut self) -> Option<Event> {
        let event = Event::PeerLost(self.peer.clone(), LostReason::Replaced);
        self.is_linked().then_some(event)
    }

    pub(crate) fn handle_timeout(&mut self, (now, rng): Turn<'_>) {
        self.establish((now, rng));
        match &mut self.phase {
            Phase::Punching { index, next_at } => {
                if now >= self.started + PING_UNTIL + ANSWER_GRACE {
                    return self.fail();
                }
                if next_at.is_some_and(|at| at <= now) {
                    // What a machine that was not called for long has missed is left out.
                    while next_at.is_some_and(|at| at <= now) {
                        *index += 1;
                        let next = schedule::jittered_ping_at(*index, rng);
                        *next_at = next.map(|after| self.started + after);
                    }
                    self.ping_all(now);
                }
            }
            Phase::Linked(linked) => {
                let silent = now.saturating_duration_since(linked.heard_at);
                if silent >= SILENCE_MAX {
                    let lost = Event::PeerLost(self.peer.clone(), LostReason::Silent(silent));
                    self.out.events.push_back(lost);
                    self.phase = Phase::Over;
                } else if linked.ask_at <= now {
                    linked.asked += 1;
                    linked.ask_at = now + ASK_AGAIN_AFTER;
                    let (path, asked) = (linked.path, linked.asked);
                    if asked > 1 { self.ping_all(now) } else { self.send_ping(path, now) }
                }
            }
            Phase::Over => {}
        }
    }

    /// The link is there once a PING and a PONG have come.
    fn establish(&mut self, (now, rng): Turn<'_>) {
        let (Phase::Punching { .. }, Some((path, rtt))) = (&self.phase, self.answered) else {
            return;
        };
        if self.pings == 0 {
            return;
        }
        let ask_at = now + schedule::keep_alive(rng);
        self.phase = Phase::Linked(Linked { path, heard_at: now, ask_at, asked: 0 });
        self.targets = vec![Target::new(path)];
        self.out.events.push_back(Event::LinkEstablished {
            peer: self.peer.clone(),
            address: path,
            after: now.saturating_duration_since(self.started),
            rtt,
            probes: self.probes,
        });
    }

    fn fail(&mut self) {
        let reason = match (self.pings, self.pongs) {
            (0, 0) => FailReason::Silence,
            (_, 0) => FailReason::OnlyPings,
            (_, _) => FailReason::OnlyPongs,
        };
        let (peer, probes) = (self.peer.clone(), self.probes);
        self.out.events.push_back(Event::LinkFailed { peer, reason, probes });
        self.phase = Phase::Over;
    }

    fn ping_all(&mut self, now: Instant) {
        for index in 0..self.targets.len() {
            self.send_ping(self.targets[index].address, now);
        }
    }

    fn send_ping(&mut self, to: SocketAddr, now: Instant) {
        self.probes = self.probes.saturating_add(1);
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(SentPing { number: self.probes, to, at: now });
        let payload = Ping::encode(self.own.as_str(), self.probes);
        self.out.transmits.push_back(Transmit::new(to, payload));
    }

    pub(crate) fn poll_timeout(&self) -> Option<WakeUp> {
        match &self.phase {
            Phase::Punching { next_at, .. } => {
                let end = self.started + PING_UNTIL + ANSWER_GRACE;
                earlier(
                    next_at.map(|at| (at, WakeReason::Ping)),
                    Some((end, WakeReason::PunchDeadline)),
                )
            }
            Phase::Linked(linked) => {
                let at = linked.ask_at.min(linked.heard_at + SILENCE_MAX);
                Some((at, WakeReason::PeerKeepAlive))
            }
            Phase::Over => None,
        }
    }
}
