//! How a UDP datagram stands in datagrams of the link: whole where it fits, else in pieces of one size.
//!
//! Each begins with a head of 8 bytes, big-endian: the flow (4), the number of the UDP datagram in its flow (2, it begins anew
//! after 65,535), which piece of it this is (1), and how many there are (1). A piece that is lost is not asked for again: then
//! the datagram is lost, as UDP may.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the head.
pub const HEAD_BYTES: usize = 8;
/// Most pieces of a datagram: the longest one of UDP over the shortest path of QUIC has 58.
pub const PIECES_MAX: usize = 64;
/// Datagrams of a link of which something is missing; of more the oldest is dropped.
pub const PARTIALS_MAX: usize = 64;
/// Bytes of all these.
pub const PARTIAL_BYTES_MAX: usize = 512 * 1024;
/// What is missing for so long does not come any more: an ordered path needs milliseconds between two pieces.
pub const COMPLETE_WITHIN: Duration = Duration::from_secs(2);

/// Cuts a datagram into pieces for a path that takes so many bytes; `None` where it takes too few.
pub(super) fn cut(flow: u32, number: u16, datagram: &[u8], bytes_max: usize) -> Option<Vec<Bytes>> {
    let most = bytes_max.checked_sub(HEAD_BYTES).filter(|most| *most > 0)?;
    let count = datagram.len().div_ceil(most).max(1);
    let count_byte = u8::try_from(count).ok().filter(|_| count <= PIECES_MAX)?;
    // All of one size: the path of the next moment may take less.
    let size = datagram.len().div_ceil(count).max(1);
    let piece = |index: u8| {
        let begin = (usize::from(index) * size).min(datagram.len());
        let bytes = &datagram[begin..datagram.len().min(begin + size)];
        let mut piece = BytesMut::with_capacity(HEAD_BYTES + bytes.len());
        piece.put_u32(flow);
        piece.put_u16(number);
        piece.put_u8(index);
        piece.put_u8(count_byte);
        piece.put_slice(bytes);
        piece.freeze()
    };
    Some((0..count_byte).map(piece).collect())
}

/// What is not a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a piece of a datagram")]
pub struct NoPiece;

/// A datagram of which something is missing.
#[derive(Debug)]
struct Partial {
    flow: u32,
    number: u16,
    pieces: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
    began: Instant,
}

/// Puts the pieces of a link's datagrams together, in whatever order they come.
#[derive(Debug, Default)]
pub struct Assembly {
    /// The oldest first.
    partials: VecDeque<Partial>,
    bytes: usize,
    dropped: u64,
}

impl Assembly {
    /// Takes what has come of the link. The flow and the UDP datagram, where that is whole now.
    ///
    /// # Errors
    /// It is no piece.
    pub fn take(
        &mut self,
        mut piece: Bytes,
        now: Instant,
    ) -> Result<Option<(u32, Bytes)>, NoPiece> {
        let head = piece.get(..HEAD_BYTES).ok_or(NoPiece)?;
        let flow = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let number = u16::from_be_bytes([head[4], head[5]]);
        let (index, count) = (usize::from(head[6]), usize::from(head[7]));
        if index >= count || count > PIECES_MAX {
            return Err(NoPiece);
        }
        let bytes = piece.split_off(HEAD_BYTES);
        if count == 1 {
            return Ok(Some((flow, bytes)));
        }
        self.forget_old(now);
        // A piece is a part of its packet's buffer: a short one would keep the whole of it, uncounted.
        let bytes = Bytes::copy_from_slice(&bytes);
        Ok(self.add(flow, number, (index, count), bytes, now).map(|whole| (flow, whole)))
    }

    fn add(
        &mut self,
        flow: u32,
        number: u16,
        (index, count): (usize, usize),
        bytes: Bytes,
        now: Instant,
    ) -> Option<Bytes> {
        let is_this =
            |it: &Partial| it.flow == flow && it.number == number && it.pieces.len() == count;
        let at = self.partials.iter().position(is_this).unwrap_or_else(|| {
            let pieces = vec![None; count];
            self.partials.push_back(Partial {
                flow,
                number,
                pieces,
                missing: count,
                bytes: 0,
                began: now,
            });
            self.partials.len() - 1
        });
        let partial = self.partials.get_mut(at)?;
        let place = partial.pieces.get_mut(index)?;
        if place.is_some() {
            return None;
        }
        partial.missing -= 1;
        partial.bytes += bytes.len();
        self.bytes += bytes.len();
        *place = Some(bytes);
        if partial.missing > 0 {
            while self.partials.len() > PARTIALS_MAX || self.bytes > PARTIAL_BYTES_MAX {
                self.drop_oldest();
            }
            return None;
        }
        let whole = self.partials.remove(at)?;
        self.bytes -= whole.bytes;
        let mut datagram = BytesMut::with_capacity(whole.bytes);
        whole.pieces.iter().flatten().for_each(|piece| datagram.put_slice(piece));
        Some(datagram.freeze())
    }

    fn forget_old(&mut self, now: Instant) {
        let is_old = |it: &Partial| now.saturating_duration_since(it.began) >= COMPLETE_WITHIN;
        while self.partials.front().is_some_and(is_old) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(dropped) = self.partials.pop_front() {
            self.bytes -= dropped.bytes;
            self.dropped += 1;
        }
    }

    /// Drops all that is not whole; how many datagrams were dropped since this was last asked.
    pub fn give_up(&mut self) -> u64 {
        while !self.partials.is_empty() {
            self.drop_oldest();
        }
        self.poll_dropped()
    }

    /// How many datagrams were dropped since this was last asked: they were not whole in time, or too many.
    pub fn poll_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datagram(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    #[test]
    fn what_fits_is_one_piece_and_what_does_not_is_whole_again_in_any_order() {
        let now = Instant::now();
        for length in [0, 1, 1192, 1193, 1400, 1452, 2384, 2385, 9000, 65_507] {
            let sent = datagram(length);
            let mut pieces = cut(7, 9, &sent, 1200).unwrap();
            assert_eq!(pieces.len(), length.div_ceil(1192).max(1), "{length}");
            assert!(pieces.iter().all(|piece| piece.len() <= 1200));
            pieces.reverse();
            let mut assembly = Assembly::default();
            let last = pieces.pop().unwrap();
            for piece in pieces {
                assert_eq!(assembly.take(piece.clone(), now), Ok(None));
                assert_eq!(assembly.take(piece, now), Ok(None), "once more");
            }
            let whole = assembly.take(last, now).unwrap().unwrap();
            assert_eq!((whole.0, whole.1.len()), (7, length));
            assert!(whole.1 == sent && assembly.bytes == 0 && assembly.partials.is_empty());
        }
        assert_eq!(cut(7, 9, &datagram(65_507), 500), None, "too many pieces");
        assert_eq!(cut(7, 9, &[], HEAD_BYTES), None);
    }

    #[test]
    fn beginnings_without_an_end_take_no_more_than_their_share() {
        let (mut assembly, now) = (Assembly::default(), Instant::now());
        for number in 0..1000 {
            let piece = cut(1, number, &datagram(60_000), 1200).unwrap().remove(0);
            assert_eq!(assembly.take(piece, now), Ok(None));
            assert!(assembly.partials.len() <= PARTIALS_MAX && assembly.bytes <= PARTIAL_BYTES_MAX);
        }
        for number in 0..100 {
            for piece in cut(2, number, &datagram(60_000), 1200).unwrap().into_iter().skip(1) {
                assert_eq!(assembly.take(piece, now), Ok(None));
                assert!(assembly.bytes <= PARTIAL_BYTES_MAX);
            }
        }
        assert!(assembly.poll_dropped() >= 1000 && assembly.poll_dropped() == 0);
    }

    #[test]
    fn what_is_not_whole_in_time_is_forgotten() {
        let (mut assembly, now) = (Assembly::default(), Instant::now());
        let pieces = cut(1, 1, &datagram(1400), 1200).unwrap();
        assert_eq!(assembly.take(pieces[0].clone(), now), Ok(None));
        assert_eq!(assembly.take(pieces[1].clone(), now + COMPLETE_WITHIN), Ok(None));
        assert_eq!(assembly.poll_dropped(), 1);
        assert!(assembly.take(pieces[0].clone(), now + COMPLETE_WITHIN).unwrap().is_some());
        assert_eq!(assembly.give_up(), 0, "nothing is left");
        assert_eq!(assembly.take(pieces[0].clone(), now), Ok(None));
        assert_eq!((assembly.give_up(), assembly.bytes), (1, 0));
    }

    #[test]
    fn what_is_no_piece_is_said_to_be_none() {
        let (mut assembly, now) = (Assembly::default(), Instant::now());
        for bad in
            [&[][..], &[0; 7], &[0; 8], &[0, 0, 0, 0, 0, 0, 1, 1], &[0, 0, 0, 0, 0, 0, 0, 65]]
        {
            assert_eq!(assembly.take(Bytes::copy_from_slice(bad), now), Err(NoPiece), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_stays_within_the_limits(all in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..200)) {
            let (mut assembly, now) = (Assembly::default(), Instant::now());
            for piece in all {
                let _whole_or_not = assembly.take(piece.into(), now);
                let held: usize = assembly.partials.iter().map(|partial| partial.bytes).sum();
                prop_assert!(assembly.partials.len() <= PARTIALS_MAX && held == assembly.bytes);
            }
        }
    }
}
