//! Moves the packets of one direction from one device to the other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::device::{Packet, Reader, Writer};
use super::lane::{Fate, Lane};
use super::tally::{Arrived, Tally};

/// Most packets under way in one direction, beside the bytes that queue and delay allow: at the worst 300 MB.
const PACKETS_MAX: usize = 200_000;
/// Packets that are read before the time is looked at and what is due is delivered: some 100 µs of work.
const BATCH: usize = 64;
/// While packets are under way, the devices are looked at so often. A packet is late by no more than this and what the
/// timer takes: as by a card that waits as long before it interrupts. At 500 Mbit/s, sixteen packets come together.
const TICK: Duration = Duration::from_micros(400);

/// What is between the devices.
struct Between {
    lane: Lane,
    tally: Arc<Tally>,
    /// What is on the line, with the time when it arrives; in that order, since the delay is the same for all.
    under_way: VecDeque<(Instant, Packet)>,
}

impl Between {
    /// Packets come to the line, at this moment; how many.
    fn take(&mut self, packets: impl Iterator<Item = Packet>) -> usize {
        let now = Instant::now();
        let mut taken = 0;
        for packet in packets {
            taken += 1;
            self.tally.offered();
            // Beyond the limit the lane is not asked: a packet that it has taken would have used the line.
            if self.under_way.len() >= PACKETS_MAX {
                self.tally.failed();
                continue;
            }
            match self.lane.offer(packet.len(), now) {
                Fate::Arrives(at) => self.under_way.push_back((at, packet)),
                Fate::Lost => self.tally.lost(),
                Fate::NoRoom => self.tally.queue_dropped(),
            }
        }
        taken
    }
}

/// One direction.
pub(super) struct Pump {
    from: Reader,
    to: Writer,
    line: Between,
    arrived: Vec<Arrived>,
}

impl Pump {
    pub(super) fn new(from: Reader, to: Writer, lane: Lane, tally: Arc<Tally>) -> Self {
        let line = Between { lane, tally, under_way: VecDeque::new() };
        Self { from, to, line, arrived: Vec::new() }
    }

    /// Runs until a device fails.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            if self.line.under_way.is_empty() {
                // Nothing is to be done until a packet comes, at whatever time.
                let packets = self.from.wait()?;
                self.line.take(packets);
            }
            let has_more = self.read_batch()?;
            let has_due = self.deliver();
            if !has_more && !has_due && !self.line.under_way.is_empty() {
                std::thread::sleep(TICK);
            }
        }
    }

    /// Reads what there is, a batch or a little more; whether there may be more.
    fn read_batch(&mut self) -> io::Result<bool> {
        let mut read = 0;
        while read < BATCH {
            match self.from.read() {
                Ok(packets) => read += self.line.take(packets),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Gives out what has arrived by now, up to a batch, so that reading does not have to wait; whether there may be more.
    fn deliver(&mut self) -> bool {
        let now = Instant::now();
        let due = self.line.under_way.iter().take(2 * BATCH).take_while(|(at, _)| *at <= now);
        self.arrived.clear();
        self.arrived.extend(due.map(|(at, packet)| Arrived::new(packet, now.duration_since(*at))));
        let due = self.line.under_way.drain(..self.arrived.len()).map(|(_, packet)| packet);
        // What the kernel refuses, as it does when the device is down, is counted and gone; and with it the rest of the
        // batch, since how much of it has been taken is not told.
        match self.to.write(due) {
            Ok(()) => self.arrived.iter().for_each(|arrived| self.line.tally.passed(arrived)),
            Err(_) => self.arrived.iter().for_each(|_| self.line.tally.failed()),
        }
        self.arrived.len() == 2 * BATCH
    }
}
