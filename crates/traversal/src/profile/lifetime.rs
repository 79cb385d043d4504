//! How long an idle mapping lives, measured in the background: a fresh socket makes a mapping and is
//! silent for some time; then the own socket asks the server to send to it (RFC 5780 §4.6). What
//! arrives proves that the mapping has lived for so long, and the next silence is twice as long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::stun::{
    BindingOutcome, BindingResponse, RequestOptions, TransactionId, binding_request_with,
};
use rand::RngExt;

use crate::doors::{SocketId, Transmit, Turn};

/// The first silence. Some common NATs forget after 30 s.
const FIRST_SILENCE: Duration = Duration::from_secs(25);
/// The longest: what is longer changes nothing.
const LONGEST_SILENCE: Duration = Duration::from_secs(200);
/// A lost packet is no proof: each question is asked so often, ...
const ATTEMPTS: u32 = 3;
/// ... so far apart.
const AGAIN_AFTER: Duration = Duration::from_millis(700);

#[derive(Debug)]
enum Step {
    /// The fresh socket asks for its mapping.
    Mapping,
    /// It is silent; its external port is this.
    Silent { port: u16 },
    /// The own socket has asked that something be sent there.
    Asked { port: u16 },
}

/// The measurement.
#[derive(Debug)]
pub(super) struct Lifetime {
    pub(super) socket: SocketId,
    server: SocketAddr,
    step: Step,
    silence: Duration,
    transaction: TransactionId,
    attempts: u32,
    next_at: Instant,
    pub(super) proven: Option<Duration>,
}

/// What became of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing new.
    Goes,
    /// The mapping has lived for so long.
    Proven(Duration),
    /// The measurement is over; the socket is to be closed.
    Over(SocketId),
}

impl Lifetime {
    pub(super) fn new(socket: SocketId, server: SocketAddr, (now, rng): Turn<'_>) -> Self {
        Self {
            socket,
            server,
            step: Step::Mapping,
            silence: FIRST_SILENCE,
            transaction: rng.random::<u128>().into(),
            attempts: 0,
            next_at: now,
            proven: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// Takes a response on any socket; `None` when it is none of this measurement's.
    pub(super) fn handle_response(
        &mut self,
        socket: SocketId,
        response: &BindingResponse,
        (now, rng): Turn<'_>,
    ) -> Option<Progress> {
        if response.transaction != self.transaction || socket != self.socket {
            return None;
        }
        let BindingOutcome::Mapped(mapped) = response.outcome else {
            return Some(Progress::Over(self.socket));
        };
        match self.step {
            Step::Mapping => {
                self.step = Step::Silent { port: mapped.port() };
                self.next_at = now + self.silence;
                Some(Progress::Goes)
            }
            Step::Silent { .. } => Some(Progress::Goes),
            Step::Asked { .. } => {
                let proven = self.silence;
                self.proven = Some(proven);
                if self.silence * 2 > LONGEST_SILENCE {
                    return Some(Progress::Over(self.socket));
                }
                self.silence *= 2;
                self.begin(Step::Mapping, (now, rng));
                Some(Progress::Proven(proven))
            }
        }
    }

    fn begin(&mut self, step: Step, (now, rng): Turn<'_>) {
        self.step = step;
        self.transaction = rng.random::<u128>().into();
        self.attempts = 0;
        self.next_at = now;
    }

    /// Does what is due: a datagram to send, or the end.
    pub(super) fn handle_timeout(&mut self, (now, rng): Turn<'_>) -> (Option<Transmit>, Progress) {
        if self.next_at > now {
            return (None, Progress::Goes);
        }
        if let Step::Silent { port } = self.step {
            self.begin(Step::Asked { port }, (now, rng));
        }
        if self.attempts == ATTEMPTS {
            return (None, Progress::Over(self.socket));
        }
        self.attempts += 1;
        self.next_at = now + AGAIN_AFTER;
        let (socket, response_port) = match self.step {
            Step::Mapping | Step::Silent { .. } => (self.socket, None),
            Step::Asked { port } => (SocketId::MAIN, Some(port)),
        };
        let options = RequestOptions { response_port, ..RequestOptions::default() };
        let payload = binding_request_with(self.transaction, &options);
        (Some(Transmit { socket, to: self.server, payload, ttl: None }), Progress::Goes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    /// Measures a mapping that lives for so long; the proven lifetime, and how long that took.
    fn measure(lives: Duration) -> (Option<Duration>, Duration) {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let start = Instant::now();
        let (mut now, mut rng) = (start, StdRng::seed_from_u64(1));
        let server = "192.0.2.1:3478".parse().unwrap();
        let mut lifetime = Lifetime::new(SocketId(7), server, (now, &mut rng));
        let mut touched = now;
        loop {
            now = now.max(lifetime.poll_timeout());
            let (transmit, progress) = lifetime.handle_timeout((now, &mut rng));
            if progress != Progress::Goes {
                return (lifetime.proven, now - start);
            }
            let Some(transmit) = transmit else { continue };
            let arrives = transmit.socket == SocketId(7) || now - touched <= lives;
            if transmit.socket == SocketId(7) {
                touched = now;
            }
            if arrives {
                let response = BindingResponse {
                    transaction: lifetime.transaction,
                    outcome: BindingOutcome::Mapped("203.0.113.1:4000".parse().unwrap()),
                    other: None,
                    origin: None,
                    proof: None,
                };
                let progress =
                    lifetime.handle_response(SocketId(7), &response, (now, &mut rng)).unwrap();
                if matches!(progress, Progress::Over(_)) {
                    return (lifetime.proven, now - start);
                }
            }
        }
    }

    #[test]
    fn the_longest_silence_that_a_mapping_survives_is_found() {
        let secs = Duration::from_secs;
        assert_eq!(measure(secs(20)).0, None);
        assert_eq!(measure(secs(30)).0, Some(secs(25)));
        assert_eq!(measure(secs(120)).0, Some(secs(100)));
        let (proven, took) = measure(secs(300));
        assert_eq!(proven, Some(secs(200)));
        assert!(took < secs(400));
    }
}
