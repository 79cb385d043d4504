//! What became of one history.

use std::time::Duration;

use holepunch_wire::plan::Strategy;

/// How a pair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both hold an authenticated answer of the other.
    Direct,
    /// Both were told that no direct path is to be expected.
    Relay,
    /// Neither.
    Failed,
}

/// What became of one history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// From the second report until both held an authenticated answer.
    pub link_time: Option<Duration>,
    /// From the offer to the verdict, the later of the two sides.
    pub verdict_time: Option<Duration>,
    /// Packets to the peer, or to where it was sought, until the link or the end; the side that came
    /// first stands first.
    pub probes: [u32; 2],
    /// The same until the relay verdict.
    pub probes_at_verdict: [u32; 2],
    /// Sockets that sent to the peer, or to where it was sought, of the side that had more.
    pub sockets: usize,
    /// Most new pairs of socket and destination within a second, of the side that had more.
    pub new_flows_per_second: usize,
    /// The strategy of the plan that led there.
    pub strategy: Option<Strategy>,
    /// The reason of the verdict or of the failure.
    pub reason: Option<String>,
    /// From the first packet after the incident until both paths answered again. `None`: there was no
    /// incident, or no repair.
    pub repair_time: Option<Duration>,
}
