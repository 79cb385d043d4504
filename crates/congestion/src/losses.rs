//! How much of what is sent is lost.

/// Lost shares above this are no accident of the medium: the queue of the path overflows.
const OVERLOAD_SHARE: f64 = 0.15;
/// With fewer lost packets in a round trip, their share says nothing: of 20 packets, 3 are lost now and then though 2 % are lost at random.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(lost: u32, delivered: u32) -> Losses {
        let mut losses = Losses::default();
        (0..lost).for_each(|_| losses.handle_lost(1_000));
        (0..delivered).for_each(|_| losses.handle_delivered(1_000));
        losses
    }

    #[test]
    fn a_few_per_cent_are_no_overload() {
        assert!(!losses(100, 900).overloaded());
    }

    #[test]
    fn a_large_share_is_one() {
        assert!(losses(200, 800).overloaded());
    }

    #[test]
    fn a_large_share_of_a_few_packets_is_none() {
        assert!(!losses(3, 3).overloaded());
    }
}
