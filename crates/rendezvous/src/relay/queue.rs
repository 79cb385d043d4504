//! What is to be written to one worker's socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use axum::body::Bytes;

use holepunch_wire::relay::RELAY_FRAME_BYTES_MAX;

use super::frame::{BINARY, OwnHead};

/// Once so many bytes wait for a worker that is connected, the other one is not read from. The kernel's
/// buffers hold what a fast path needs (four times as much here, and in a read, was slower): this is for the
/// time until a task is called, and a bound on what thousands of stopped readers cost.
pub(super) const QUEUE_BYTES_MAX: usize = RELAY_FRAME_BYTES_MAX;
/// Most bytes that wait for a worker that is not connected (yet): a handshake and a first window of
/// datagrams. Of more the oldest are dropped: they are datagrams.
pub(super) const EARLY_BYTES_MAX: usize = RELAY_FRAME_BYTES_MAX + 1024;
/// What a frame in the queue costs beside its bytes: a flood of empty ones is bounded, too.
const ENTRY_BYTES: usize = 64;
/// Pings and pongs that wait; a client that sends more pings is not answered each.
const CONTROLS_MAX: usize = 4;
/// Frames in one call of the kernel, two pieces each.
const WRITE_FRAMES_MAX: usize = 32;
/// Pieces in one call of the kernel.
pub(super) const WRITE_PIECES_MAX: usize = 2 * WRITE_FRAMES_MAX;

#[derive(Debug)]
struct Entry {
    head: OwnHead,
    payload: Bytes,
    /// Bytes of the buffer that the payload keeps alive; 0 where it is its own.
    pins: usize,
}

impl Entry {
    fn new(first: u8, payload: Bytes, pins: usize) -> Self {
        Self { head: OwnHead::new(first, payload.len()), payload, pins }
    }

    fn bytes(&self) -> usize {
        self.head.as_bytes().len() + self.payload.len()
    }

    fn is_control(&self) -> bool {
        self.head.as_bytes().first() != Some(&BINARY)
    }
}

/// Frames in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are written already.
    written: usize,
    bytes: usize,
    controls: usize,
}

impl Queue {
    /// Adds a message that was read from a buffer of so many bytes.
    pub(super) fn push(&mut self, payload: Bytes, buffer_bytes: usize) {
        let entry = Entry::new(BINARY, payload, buffer_bytes);
        self.bytes += entry.bytes() + ENTRY_BYTES;
        self.entries.push_back(entry);
    }

    /// Adds a ping or pong: the next to be written.
    pub(super) fn push_control(&mut self, first: u8, payload: Bytes) {
        if self.controls >= CONTROLS_MAX {
            return;
        }
        self.controls += 1;
        let entry = Entry::new(first, payload, 0);
        self.bytes += entry.bytes() + ENTRY_BYTES;
        self.entries.insert(usize::from(self.written > 0), entry);
    }

    /// Whether the sender has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= QUEUE_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is to be written next, as it lies in memory; how many pieces.
    pub(super) fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; WRITE_PIECES_MAX]) -> usize {
        let (mut count, mut skip) = (0, self.written);
        for entry in self.entries.iter().take(WRITE_FRAMES_MAX) {
            for part in [entry.head.as_bytes(), &entry.payload] {
                let rest = part.get(skip..).unwrap_or_default();
                skip = skip.saturating_sub(part.len());
                if !rest.is_empty() {
                    pieces[count] = IoSlice::new(rest);
                    count += 1;
                }
            }
        }
        count
    }

    /// So many bytes of the pieces have been written.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        while let Some(first) = self.entries.front() {
            if self.written < first.bytes() {
                break;
            }
            self.written -= first.bytes();
            self.drop_at(0);
        }
        if self.entries.is_empty() {
            self.entries.shrink_to(0); // Idle connections keep no memory each.
        }
    }

    /// What stays in the queue keeps no buffer alive that is much larger than itself.
    pub(super) fn unpin(&mut self) {
        for entry in self.entries.iter_mut().rev().filter(|entry| !entry.is_control()) {
            if entry.pins == 0 {
                break;
            }
            if entry.pins > 2 * entry.payload.len() {
                entry.payload = Bytes::copy_from_slice(&entry.payload);
            }
            entry.pins = 0;
        }
    }

    /// The oldest go, until what is left may wait for a worker that is not connected; how many.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let before = self.entries.len();
        while self.bytes > EARLY_BYTES_MAX {
            self.drop_at(0);
        }
        before - self.entries.len()
    }

    /// The socket is another one: what was written in part, or was for the old one alone, goes.
    pub(super) fn begin_anew(&mut self) {
        if std::mem::take(&mut self.written) > 0 {
            self.drop_at(0);
        }
        while let Some(at) = self.entries.iter().position(Entry::is_control) {
            self.drop_at(at);
        }
    }

    /// What is still to be written of a frame that is written in part.
    pub(super) fn rest_of_first(&self) -> Vec<u8> {
        let first = self.entries.front().filter(|_| self.written > 0);
        let bytes = first.map(|first| [first.head.as_bytes(), &first.payload].concat());
        bytes.map(|mut bytes| bytes.split_off(self.written)).unwrap_or_default()
    }

    fn drop_at(&mut self, at: usize) {
        let Some(entry) = self.entries.remove(at) else { return };
        self.bytes -= entry.bytes() + ENTRY_BYTES;
        self.controls -= usize::from(entry.is_control());
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{PING, PONG};
    use super::*;

    fn data(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    /// Writes so many bytes.
    fn write(queue: &mut Queue, most: usize) -> Vec<u8> {
        let mut pieces = [IoSlice::new(&[]); WRITE_PIECES_MAX];
        let count = queue.pieces(&mut pieces);
        let mut all: Vec<u8> = pieces[..count].iter().flat_map(|it| it.iter().copied()).collect();
        all.truncate(most);
        queue.advance(all.len());
        all
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let (mut queue, mut expected) = (Queue::default(), Vec::new());
        for length in [0, 1, 125, 126, 70_000, 3] {
            queue.push(data(length), 0);
            expected.extend_from_slice(OwnHead::new(BINARY, length).as_bytes());
            expected.extend_from_slice(&data(length));
        }
        let mut all = Vec::new();
        let mut most = 1;
        while !queue.is_empty() {
            all.extend(write(&mut queue, most));
            most = most * 2 % 4093;
        }
        assert_eq!(all, expected);
        assert_eq!((queue.bytes, queue.written), (0, 0));
    }

    #[test]
    fn a_control_frame_comes_before_the_others_and_never_within_one() {
        let mut queue = Queue::default();
        queue.push(data(10), 0);
        queue.push(data(10), 0);
        write(&mut queue, 3);
        queue.push_control(PONG, Bytes::new());
        queue.push_control(PING, Bytes::new());
        let rest = write(&mut queue, 1000);
        assert_eq!(rest[9..13], [PING, 0, PONG, 0]);
        assert_eq!(rest.len(), 9 + 4 + 12);
    }

    #[test]
    fn floods_are_bounded() {
        let mut queue = Queue::default();
        (0..100).for_each(|_| queue.push_control(PONG, Bytes::new()));
        assert_eq!(queue.entries.len(), CONTROLS_MAX);
        let empty = std::iter::repeat_with(Bytes::new);
        let taken = empty.take_while(|it| {
            queue.push(it.clone(), 0);
            !queue.is_full()
        });
        assert!(taken.take(1_000_000).count() < QUEUE_BYTES_MAX / ENTRY_BYTES);
    }

    #[test]
    fn a_small_frame_does_not_keep_a_large_buffer() {
        let mut queue = Queue::default();
        let buffer = data(100_000);
        queue.push(buffer.slice(..60_000), buffer.len());
        queue.push(buffer.slice(..10), buffer.len());
        queue.unpin();
        let is_shared = |entry: &Entry| entry.payload.as_ptr() == buffer.as_ptr();
        assert!(is_shared(&queue.entries[0]) && !is_shared(&queue.entries[1]));
    }

    #[test]
    fn of_early_frames_the_latest_are_kept() {
        let mut queue = Queue::default();
        for length in 1000..2000 {
            queue.push(data(length), 0);
            queue.drop_oldest();
        }
        assert!(queue.bytes <= EARLY_BYTES_MAX && queue.bytes > EARLY_BYTES_MAX - 4000);
        assert_eq!(queue.entries.back().unwrap().payload.len(), 1999);
    }

    #[test]
    fn a_new_socket_gets_whole_frames_and_no_old_pings() {
        let mut queue = Queue::default();
        queue.push(data(10), 0);
        queue.push(data(20), 0);
        write(&mut queue, 5);
        queue.push_control(PING, Bytes::new());
        queue.begin_anew();
        assert_eq!(write(&mut queue, 1000).len(), 22);
        assert_eq!((queue.bytes, queue.controls), (0, 0));
    }

    #[test]
    fn the_rest_of_a_frame_under_way_is_known() {
        let mut queue = Queue::default();
        queue.push(vec![1, 2, 3].into(), 0);
        assert!(queue.rest_of_first().is_empty());
        write(&mut queue, 3);
        assert_eq!(queue.rest_of_first(), [2, 3]);
    }
}
