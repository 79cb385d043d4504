//! How much of what is sent is lost.

/// Lost shares above this are no accident of the medium: the queue of the path overflows.
const OVERLOAD_SHARE: f64 = 0.08;
/// With fewer lost packets in a round trip, their share says nothing: 2 % at random are 3 of 40 packets now and then.
const OVERLOAD_PACKETS: u32 = 6;

/// The losses of one round trip.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Losses {
    packets: u32,
    bytes: u64,
    delivered: u64,
}

impl Losses {
    pub(crate) fn handle_lost(&mut self, bytes: u64) {
        self.packets = self.packets.saturating_add(1);
        self.bytes += bytes;
    }

    pub(crate) fn handle_delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    /// Whether more is lost than accidents explain.
    pub(crate) fn overloaded(&self) -> bool {
        let all = (self.bytes + self.delivered) as f64;
        self.packets >= OVERLOAD_PACKETS && self.bytes as f64 > all * OVERLOAD_SHARE
    }
}
