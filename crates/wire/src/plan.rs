//! The plan: what one side of a pair does to open a direct path. The rendezvous makes it from both
//! NAT profiles; the worker follows it within budgets of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::truncate;

/// Longest reason that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 512;

/// Most plans of one session: a profile that becomes better, and strategies that fail, need a handful.
pub const PLANS_MAX: u32 = 32;

/// Most sockets of a search, whatever the plan says.
pub const SOCKETS_MAX: u16 = 256;
/// Most packets of a search. Conntrack tables of a few thousand entries are common in offices.
pub const PROBES_MAX: u16 = 2048;
/// Most packets of a search with a new pair of socket and destination, in a second: what NATs bind without trouble.
pub const PER_SECOND_MAX: u16 = 100;

/// Most ports that a window leaves out.
pub const EXCEPT_MAX: usize = 32;

/// How a pair is to be linked, for people, for reports and for the planner's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Plain, after a first packet that dies before it reaches the peer's NAT.
    Opener,
    /// Fresh sockets whose ports the NAT keeps.
    Preserved,
    /// Ports that follow each other are predicted.
    Sequence,
    /// A block's ports are swept.
    Sweep,
    /// Many sockets on one side, many ports tried by the other.
    Birthday,
    /// All free ports of one block are aimed at one port of the other.
    Exhaust,
    /// Find out whether the NAT reuses ports; the plan that follows depends on it.
    TestReuse,
    /// No direct path is to be expected.
    Relay,
    /// Checks to all candidates, and to the sources that the peer's checks come from. It runs beside
    /// every other strategy. Also what a word of a later version is taken for.
    #[serde(other)]
    Plain,
}

impl Strategy {
    /// The word that stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Opener => "opener",
            Self::Preserved => "preserved",
            Self::Sequence => "sequence",
            Self::Sweep => "sweep",
            Self::Birthday => "birthday",
            Self::Exhaust => "exhaust",
            Self::TestReuse => "test_reuse",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which ports of the peer a search sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Aim {
    /// The peer's endpoint, from every socket: what the many-socket side does.
    Endpoint,
    /// Likewise, but to the port that the peer's packets come from once one has arrived: its NAT gives
    /// it another port toward this side than the one that it could be told.
    Observed,
    /// Likewise, but to the first port that the peer announces when it accepts the plan: that of its fresh
    /// socket, which seeks in place of the one whose endpoint is known.
    FreshPort,
    /// The ports that the peer announces when it accepts the plan: from the worker's own socket each
    /// of them, from fresh sockets the n-th from the n-th.
    Announced,
    /// Every port from `first` to `last`, from `centre` outward, from each socket.
    Window {
        /// The lowest port.
        first: u16,
        /// The highest port.
        last: u16,
        /// Where to begin.
        centre: u16,
    },
    /// Ports of the whole range, in random order, none twice.
    Random,
}

/// What a side says when it accepts a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Announce {
    /// The local ports of its fresh sockets, which its NAT is expected to keep.
    LocalPorts,
    /// The external ports that its NAT is expected to give to its next mappings.
    NextPorts,
    /// The same, but some of them further ahead, so that a few ports taken by others do no harm.
    SkewedPorts,
    /// The external port of its fresh socket, the one that it will send from, as a STUN server sees it:
    /// its NAT gives one to all destinations.
    FreshPort,
    /// Nothing.
    #[default]
    #[serde(other)]
    Nothing,
}

/// A search for ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// Sockets to send from.
    pub sockets: u16,
    /// Whether all of them are to be fresh; else the worker's own socket is the first.
    #[serde(default)]
    pub fresh: bool,
    /// Where to.
    pub aim: Aim,
    /// What to say when accepting.
    #[serde(default)]
    pub announce: Announce,
    /// Most packets in all.
    pub probes_max: u16,
    /// Most packets with a new pair of socket and destination, in a second.
    pub per_second: u16,
    /// Ports of a window that are known to be taken; at most [`EXCEPT_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<u16>,
}

/// What one side does to open a direct path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which of the plans of this session, from 1: profiles become better, strategies fail.
    pub number: u32,
    /// The strategy.
    pub strategy: Strategy,
    /// How long this side holds back its first packets that reach the peer, after the offer has come.
    #[serde(default)]
    pub delay_ms: u32,
    /// TTL of the very first packets, which are to open the own NAT and no more; in a search whose sockets
    /// all send to one endpoint, of the first from each socket, and of all where `delay_ms` is not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opener_ttl: Option<u8>,
    /// The search, once both sides have accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Share of such pairs that are linked, in percent, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_percent: Option<u8>,
    /// Why this strategy, in words.
    #[serde(default)]
    pub reason: String,
}

impl Plan {
    /// A plan without a search.
    #[must_use]
    pub fn new(strategy: Strategy, reason: impl Into<String>) -> Self {
        Self {
            number: 1,
            strategy,
            delay_ms: 0,
            opener_ttl: None,
            search: None,
            expected_percent: None,
            reason: reason.into(),
        }
    }

    /// The plan with an overlong reason cut.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        truncate(&mut self.reason, REASON_BYTES_MAX);
        if let Some(search) = &mut self.search {
            search.except.truncate(EXCEPT_MAX);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_wire() {
        let search = Search {
            sockets: 3,
            fresh: false,
            aim: Aim::Window { first: 2048, last: 2111, centre: 2080 },
            announce: Announce::Nothing,
            probes_max: 381,
            per_second: 100,
            except: vec![2050],
        };
        let mut plan = Plan::new(Strategy::Sweep, "two blocks that reuse ports");
        plan.search = Some(search);
        plan.expected_percent = Some(99);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert!(text.contains(r#""aim":{"to":"window","first":2048"#), "{text}");
    }

    #[test]
    fn every_strategy_has_the_word_of_its_wire_form() {
        for strategy in [
            Strategy::Plain,
            Strategy::Opener,
            Strategy::Preserved,
            Strategy::Sequence,
            Strategy::Sweep,
            Strategy::Birthday,
            Strategy::Exhaust,
            Strategy::TestReuse,
            Strategy::Relay,
        ] {
            let json = format!("\"{strategy}\"");
            assert_eq!(serde_json::to_string(&strategy).unwrap(), json);
            assert_eq!(serde_json::from_str::<Strategy>(&json).unwrap(), strategy);
        }
        assert_eq!(serde_json::from_str::<Strategy>("\"magic\"").unwrap(), Strategy::Plain);
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let mut plan = Plan::new(Strategy::Plain, "ü".repeat(400));
        plan = plan.bounded();
        assert_eq!(plan.reason.len(), 512);
    }
}
