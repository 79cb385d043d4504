//! What one instance says to another arrives in order and once, whatever the fabric does to it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Envelope, Packet};

/// What has not been acknowledged by then is sent again, later and later.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(2);
/// Envelopes that are sent at once, and kept where some before them are missing: the others wait.
const WINDOW: usize = 256;
/// Envelopes that wait for one instance: several for each of the workers that one has.
const WAITING_MAX: usize = 1 << 18;

/// The way to another instance, and back.
#[derive(Debug)]
pub(super) struct Trunk {
    /// The number of the first that waits.
    first: u64,
    waiting: VecDeque<Envelope>,
    /// How many of these have been sent, since the last time that all are sent again.
    sent: usize,
    /// The highest number that has ever been sent: nobody has received more.
    highest: u64,
    again_at: Option<Instant>,
    again_after: Duration,
    received: u64,
    /// Those that came before others.
    early: BTreeMap<u64, Option<Envelope>>,
    /// Something has come that is not acknowledged yet.
    owes: bool,
}

impl Default for Trunk {
    fn default() -> Self {
        Self {
            first: 1,
            waiting: VecDeque::new(),
            sent: 0,
            highest: 0,
            again_at: None,
            again_after: AGAIN_AFTER,
            received: 0,
            early: BTreeMap::new(),
            owes: false,
        }
    }
}

impl Trunk {
    /// Takes an envelope; `false`: so many wait that the other one must be gone.
    pub(super) fn send(&mut self, envelope: Envelope) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push_back(envelope);
        true
    }

    /// Takes a packet: the envelopes that are complete now, `None` for each that cannot be read. That one counts as received:
    /// were it asked for again, it would be the same, and all behind it would wait for ever.
    pub(super) fn receive(&mut self, packet: Packet) -> Vec<Option<Envelope>> {
        let Packet { sent, received } = packet;
        let received = received.min(self.highest);
        while self.first <= received && self.waiting.pop_front().is_some() {
            (self.first, self.sent) = (self.first + 1, self.sent.saturating_sub(1));
            (self.again_at, self.again_after) = (None, AGAIN_AFTER);
        }
        let mut complete = Vec::new();
        let Some((number, envelope)) = sent else { return complete };
        self.owes = true;
        if number > self.received && number - self.received <= WINDOW as u64 {
            self.early.insert(number, envelope);
        }
        while let Some(envelope) = self.early.remove(&(self.received + 1)) {
            self.received += 1;
            complete.push(envelope);
        }
        complete
    }

    /// The next packet to send now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Packet> {
        if self.again_at.is_some_and(|at| at <= now) {
            self.sent = 0;
            self.again_at = None;
            self.again_after = (self.again_after * 2).min(AGAIN_AFTER_MAX);
        }
        let next = self.waiting.get(self.sent).filter(|_| self.sent < WINDOW);
        let sent = next.map(|envelope| (self.first + self.sent as u64, Some(envelope.clone())));
        if let Some((number, _)) = sent {
            self.highest = self.highest.max(number);
            self.sent += 1;
        }
        if self.sent > 0 {
            self.again_at.get_or_insert(now + self.again_after);
        }
        let is_due = std::mem::take(&mut self.owes) || sent.is_some();
        is_due.then_some(Packet { sent, received: self.received })
    }

    /// When something is to be sent again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.again_at
    }
}

#[cfg(test)]
mod tests {
    use crate::names::Room;
    use proptest::prelude::*;

    use super::super::{Epoch, Letter};
    use super::*;

    fn envelope(number: u64) -> Envelope {
        Envelope { room: Room::default(), epoch: Epoch(number), letter: Letter::NotOwned }
    }

    proptest! {
        #[test]
        fn whatever_is_lost_doubled_or_late_all_arrive_once_and_in_order(
            count in 1u64..600,
            fates in proptest::collection::vec(0u8..4, 1..400),
        ) {
            #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
            let mut now = Instant::now();
            let (mut a, mut b) = (Trunk::default(), Trunk::default());
            (1..=count).for_each(|number| assert!(a.send(envelope(number))));
            let mut fates = fates.into_iter().chain(std::iter::repeat(0));
            let (mut arrived, mut late) = (Vec::new(), Vec::new());
            while arrived.len() < usize::try_from(count).unwrap() {
                let mut there: Vec<Packet> = std::mem::take(&mut late);
                while let Some(packet) = a.poll(now) {
                    match fates.next() {
                        Some(1) => {}
                        Some(2) => there.extend([packet.clone(), packet]),
                        Some(3) => late.push(packet),
                        _ => there.push(packet),
                    }
                }
                for packet in there {
                    arrived.extend(b.receive(packet).into_iter().flatten().map(|it| it.epoch.0));
                }
                while let Some(packet) = b.poll(now) {
                    if fates.next() != Some(1) {
                        a.receive(packet);
                    }
                }
                now = a.poll_timeout().map_or(now, |at| at.max(now));
            }
            prop_assert_eq!(arrived, (1..=count).collect::<Vec<_>>());
        }
    }
}
