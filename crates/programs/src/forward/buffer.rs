//! Bytes that wait for a TCP connection to take them.

use std::collections::VecDeque;

/// Bytes are kept in parts of this size: what is allocated is at most two parts more than what is held.
const PART_BYTES: usize = 16 * 1024;

/// Bytes, the first ones first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    parts: VecDeque<Vec<u8>>,
    /// What of the first part was taken already.
    taken: usize,
}

impl Buffer {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.parts.back().is_none_or(|part| part.len() == PART_BYTES) {
                self.parts.push_back(Vec::with_capacity(PART_BYTES));
            }
            let Some(part) = self.parts.back_mut() else { return };
            let (now, rest) = bytes.split_at(bytes.len().min(PART_BYTES - part.len()));
            part.extend_from_slice(now);
            bytes = rest;
        }
    }

    /// The first bytes; none where there are none.
    pub(super) fn first(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| &part[self.taken..])
    }

    /// Takes so many of [`first`](Self::first) off.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.parts.front().is_some_and(|part| part.len() <= self.taken) {
            self.parts.pop_front();
            self.taken = 0;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_and_nothing_is_kept_of_it() {
        let all: Vec<u8> = (0..=250).cycle().take(5 * PART_BYTES + 7).collect();
        let (mut buffer, mut out) = (Buffer::default(), Vec::new());
        for piece in all.chunks(1000) {
            buffer.push(piece);
            let some = buffer.first().len().min(700);
            out.extend_from_slice(&buffer.first()[..some]);
            buffer.take(some);
        }
        while !buffer.is_empty() {
            let first = buffer.first();
            assert!((1..=PART_BYTES).contains(&first.len()));
            out.extend_from_slice(first);
            buffer.take(first.len());
        }
        assert!(out == all && buffer.parts.is_empty());
    }
}
