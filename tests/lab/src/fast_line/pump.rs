//! Moves the packets of one direction from one device to the other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_tun::Tun;

use super::lane::{Fate, Lane};
use super::tally::Tally;

/// Longest packet that is read: longer ones do not come, since the devices' MTU is 1,500.
const PACKET_BYTES_MAX: usize = 2048;
/// Most packets under way in one direction, beside the bytes that queue and delay allow: at the worst 300 MB.
const PACKETS_MAX: usize = 200_000;
/// Packets that are read before the time is looked at and what is due is delivered: some 100 µs of work.
const BATCH: usize = 64;
/// While packets are under way, the devices are looked at so often. A packet is late by no more than this and what the
/// timer takes; batches of this time cost half the CPU time of packets one by one.
const TICK: Duration = Duration::from_micros(100);

/// One direction.
pub(super) struct Pump {
    pub(super) from: Arc<Tun>,
    pub(super) to: Arc<Tun>,
    pub(super) lane: Lane,
    pub(super) tally: Arc<Tally>,
    /// What is on the line, with the time when it arrives; in that order, since the delay is the same for all.
    pub(super) under_way: VecDeque<(Instant, Box<[u8]>)>,
}

impl Pump {
    /// Runs until a device fails; `runtime` is the one that the device `from` was made in.
    pub(super) fn run(mut self, runtime: &Runtime) -> io::Result<()> {
        let mut buffer = [0; PACKET_BYTES_MAX];
        loop {
            if self.under_way.is_empty() {
                // Nothing is to be done until a packet comes, at whatever time.
                let length = runtime.block_on(self.from.recv(&mut buffer))?;
                self.take(&buffer[..length], Instant::now());
            }
            let has_more = self.read_batch(&mut buffer)?;
            self.deliver();
            if !has_more {
                self.wait();
            }
        }
    }

    /// Reads what there is, up to a batch; whether there may be more.
    fn read_batch(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        for _ in 0..BATCH {
            match self.from.try_recv(buffer) {
                Ok(length) => self.take(&buffer[..length], Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn take(&mut self, packet: &[u8], now: Instant) {
        self.tally.offered();
        // Beyond the limit the lane is not asked: a packet that it has taken would have used the line.
        if self.under_way.len() >= PACKETS_MAX {
            self.tally.failed();
            return;
        }
        match self.lane.offer(packet.len(), now) {
            Fate::Arrives(at) => self.under_way.push_back((at, packet.into())),
            Fate::Lost => self.tally.lost(),
            Fate::NoRoom => self.tally.queue_dropped(),
        }
    }

    /// Gives out what has arrived by now, up to a batch, so that reading does not have to wait.
    fn deliver(&mut self) {
        for _ in 0..2 * BATCH {
            let now = Instant::now();
            if self.under_way.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let Some((at, packet)) = self.under_way.pop_front() else { return };
            // A packet that the kernel refuses, as it does when the device is down, is counted and gone.
            match self.to.try_send(&packet) {
                Ok(_) => self.tally.passed(&packet, now.duration_since(at)),
                Err(_) => self.tally.failed(),
            }
        }
    }

    fn wait(&self) {
        let Some((at, _)) = self.under_way.front() else { return };
        let left = at.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(TICK));
    }
}
