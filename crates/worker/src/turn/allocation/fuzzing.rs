//! An allocation and what a server, or whoever sends in its name, may answer: as many steps as the input has.

use std::time::{Duration, Instant};

use turn_client_proto::types::stun::message::{Message, MessageClass};

use super::played::{Signed, allocation, empty_success, error, success};
use super::{Allocation, REQUESTS_MAX, Told};

/// Datagrams that the allocation may send in one step: a repeated request for each that is awaited, and more.
const TRANSMITS_MAX: usize = 4 * REQUESTS_MAX;
/// Steps of one input; further bytes are not looked at.
const STEPS_MAX: usize = 200;
/// The errors that change something, and one that is not known.
const CODES: [u16; 7] = [400, 401, 403, 437, 438, 486, 508];

/// An allocation, what was asked last, and whether anybody has answered who has the key.
struct Played {
    allocation: Allocation,
    now: Instant,
    asked: Vec<Vec<u8>>,
    was_signed: bool,
    has_failed: bool,
}

/// Plays the input, and looks after each step whether what must hold does.
pub(in crate::turn) fn answers(input: &[u8]) {
    let now = Instant::now();
    let (asked, was_signed, has_failed) = (Vec::new(), false, false);
    let mut played = Played { allocation: allocation(now), now, asked, was_signed, has_failed };
    let mut rest = input;
    for _ in 0..STEPS_MAX {
        let Some(([what, how], after)) = rest.split_first_chunk() else { return };
        let has_bytes = matches!(what % 8, 0 | 6);
        let raw = usize::from(has_bytes) * usize::from(*how);
        let (bytes, after) = after.split_at(raw.min(after.len()));
        rest = after;
        played.step(*what, *how, bytes);
        played.look();
    }
}

impl Played {
    fn step(&mut self, what: u8, how: u8, bytes: &[u8]) {
        let signed = match how % 3 {
            0 => Signed::No,
            1 => Signed::Wrongly,
            _ => Signed::Rightly,
        };
        let number = usize::from(how / 3);
        let request = self.asked.get(number % self.asked.len().max(1)).cloned();
        match (what % 8, request) {
            (0, _) => self.hears(bytes, false),
            (1, Some(request)) => {
                let answer = error(&request, CODES[number % CODES.len()], signed);
                self.hears(&answer, signed == Signed::Rightly);
            }
            (2, Some(request)) => self.hears(&success(&request, signed), signed == Signed::Rightly),
            (3, Some(request)) => {
                self.hears(&empty_success(&request, signed), signed == Signed::Rightly);
            }
            (4, _) => self.now += Duration::from_millis(u64::from(how) * u64::from(how)),
            (5, _) => {
                let peer = ([192, 0, 2, how % 16], 1).into();
                let _may_be_too_many = self.allocation.want_peer(peer, self.now);
            }
            (6, _) => {
                // Data of the peer's in whatever channel there is.
                let mut message =
                    self.allocation.header(bytes.len()).unwrap_or([0x40, 0, 0, how]).to_vec();
                message.extend_from_slice(bytes);
                self.hears(&message, false);
            }
            _ => self.allocation.delete(self.now),
        }
    }

    fn hears(&mut self, datagram: &[u8], is_signed: bool) {
        self.was_signed |= is_signed;
        if let Some(data) = self.allocation.handle(datagram, self.now) {
            assert!(self.allocation.header(0).is_some(), "data comes by a channel");
            assert!(datagram.len() >= data.len());
        }
    }

    fn look(&mut self) {
        let mut transmits = 0;
        while let Some(datagram) = self.allocation.poll_transmit(self.now) {
            transmits += 1;
            assert!(transmits <= TRANSMITS_MAX, "it goes on sending");
            let request = Message::from_bytes(&datagram);
            if request.is_ok_and(|it| it.has_class(MessageClass::Request)) {
                self.asked.insert(0, datagram);
                self.asked.truncate(REQUESTS_MAX);
            }
        }
        while let Some(told) = self.allocation.poll_told(self.now) {
            assert!(!self.has_failed, "nothing comes behind the end: {told:?}");
            match told {
                Told::Allocated(_) | Told::Bound(_) => {
                    assert!(self.was_signed, "nobody has shown the key: {told:?}");
                }
                Told::Failed(failure) => {
                    self.has_failed = true;
                    assert!(!failure.why.is_empty());
                }
            }
        }
        let _when_it_is_due = self.allocation.poll_timeout(self.now);
        assert!(self.allocation.requests.len() <= REQUESTS_MAX);
    }
}
