//! What a line does: many packets, some at a time, with the times at both ends.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::{COPIES, TRIES, TRY_WAIT, since_epoch, until};

/// How many packets are sent, and how many at a time: few enough for the buffer of any socket.
const TICKS: u32 = 640;
const WINDOW: u32 = 64;

/// What became of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Packets sent.
    pub(crate) sent: u32,
    /// Those of them that arrived at the reflector.
    pub(crate) arrived: u32,
    /// Those of them whose answers came back.
    pub(crate) returned: u32,
    /// The shortest times outward, inward, and there and back.
    pub(crate) outward: Duration,
    pub(crate) inward: Duration,
    pub(crate) round_trip: Duration,
}

/// Sends packets to the reflector at `destination` and hears what comes back.
pub(super) fn measure(socket: &UdpSocket, destination: SocketAddrV4) -> io::Result<Measured> {
    let mut measured = Measured {
        sent: TICKS,
        arrived: 0,
        returned: 0,
        outward: Duration::MAX,
        inward: Duration::MAX,
        round_trip: Duration::MAX,
    };
    for window in 0..TICKS / WINDOW {
        let mut sent = Vec::new();
        for index in 0..WINDOW {
            sent.push((Instant::now(), since_epoch()));
            socket.send_to(format!("tick {window}.{index}").as_bytes(), destination)?;
        }
        measured.arrived = end_window(socket, destination, window, &sent, &mut measured)?;
    }
    Ok(measured)
}

/// Asks how many have arrived in all. The answer comes after those to the packets before it.
fn end_window(
    socket: &UdpSocket,
    destination: SocketAddrV4,
    window: u32,
    sent: &[(Instant, Duration)],
    measured: &mut Measured,
) -> io::Result<u32> {
    let question = format!("ticks {window}");
    let (this, end) = (format!("tick {window}."), format!("{question} "));
    for _ in 0..TRIES {
        for _ in 0..COPIES {
            socket.send_to(question.as_bytes(), destination)?;
        }
        let deadline = Instant::now() + TRY_WAIT;
        loop {
            let text = match until(deadline, socket) {
                Ok((text, source)) if source == destination.into() => text,
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Ok(_) | Err(_) => continue,
            };
            if let Some(count) = text.strip_prefix(&end) {
                return count.parse().map_err(|_| super::invalid("not a count of ticks"));
            }
            if let Some(answer) = text.strip_prefix(&this) {
                measured.hear(answer, sent);
            }
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, format!("{destination} does not answer")))
}

impl Measured {
    /// `answer` is the number of a packet in its window, and when it arrived.
    fn hear(&mut self, answer: &str, sent: &[(Instant, Duration)]) {
        let (now, wall) = (Instant::now(), since_epoch());
        let heard = answer.split_once(' ').and_then(|(index, at)| {
            let (left, left_wall) = *sent.get(index.parse::<usize>().ok()?)?;
            Some((left, left_wall, Duration::from_nanos(at.parse().ok()?)))
        });
        let Some((left, left_wall, at)) = heard else { return };
        self.returned += 1;
        self.round_trip = self.round_trip.min(now.duration_since(left));
        self.outward = self.outward.min(at.saturating_sub(left_wall));
        self.inward = self.inward.min(wall.saturating_sub(at));
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<u64>> =
            text.split(' ').map(|word| word.parse::<u64>().ok()).collect();
        let [sent, arrived, returned, outward, inward, round_trip] =
            <[u64; 6]>::try_from(numbers?).ok()?;
        let count = |number| u32::try_from(number).ok();
        Some(Self {
            sent: count(sent)?,
            arrived: count(arrived)?,
            returned: count(returned)?,
            outward: Duration::from_micros(outward),
            inward: Duration::from_micros(inward),
            round_trip: Duration::from_micros(round_trip),
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, arrived, returned, .. } = self;
        let [outward, inward, round_trip] =
            [self.outward, self.inward, self.round_trip].map(|time| time.as_micros());
        write!(f, "{sent} {arrived} {returned} {outward} {inward} {round_trip}")
    }
}
