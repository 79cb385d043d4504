//! Answers of a batch, gathered so that several to one client leave in one call of the kernel.
//!
//! Those to different clients leave one by one: `sendmmsg` was measured, and saves nothing, as it is the way through the
//! kernel that costs, and not the call.

use std::net::{IpAddr, SocketAddr};

use noq_udp::Transmit;

use super::socket::Socket;

/// To whom, from where, and how long each answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The index of the socket.
    pub(super) via: usize,
    pub(super) from: Option<IpAddr>,
    pub(super) to: SocketAddr,
    pub(super) segment: usize,
}

/// What is to be sent next.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    run: Option<Run>,
}

impl Outgoing {
    pub(super) fn push(&mut self, sockets: &[Socket], run: Run, answer: &[u8]) {
        let most = sockets[run.via].run_max(run.segment);
        let joins = self.run == Some(run) && self.bytes.len() + answer.len() <= most * run.segment;
        if !joins {
            self.flush(sockets);
            self.run = Some(run);
        }
        self.bytes.extend_from_slice(answer);
    }

    /// Sends what is there. A full send buffer loses answers, as any network may; the clients ask again.
    pub(super) fn flush(&mut self, sockets: &[Socket]) {
        if let Some(Run { via, from, to, segment }) = self.run.take() {
            let segment_size = (self.bytes.len() > segment).then_some(segment);
            let contents = &self.bytes;
            let transmit =
                Transmit { destination: to, ecn: None, contents, segment_size, src_ip: from };
            let _best_effort = sockets[via].send(&transmit);
        }
        self.bytes.clear();
    }
}
