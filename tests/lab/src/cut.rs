//! The direct way between two sides is cut, and mended; or one side has no network at all for a while.

use crate::error::LabError;
use crate::topology::Lab;

/// Table of nftables that holds the cut.
const TABLE: &str = "cut";
/// Table that holds an outage.
const OUTAGE: &str = "outage";

impl Lab {
    /// From now on the public network drops UDP between the two, without a word.
    ///
    /// # Errors
    /// The rules are refused.
    ///
    /// # Panics
    /// There are no such sides.
    pub fn cut(&self, a: usize, b: usize) -> Result<(), LabError> {
        let [a, b] = [a, b].map(|side| self.side(side).public_ip());
        self.wan.load_rules(&format!(
            "table ip {TABLE} {{
  chain between {{
    type filter hook forward priority filter
    policy accept
    ip saddr {a} ip daddr {b} meta l4proto udp drop
    ip saddr {b} ip daddr {a} meta l4proto udp drop
  }}
}}
"
        ))
    }

    /// Ends the cut.
    ///
    /// # Errors
    /// There is none.
    pub fn mend(&self) -> Result<(), LabError> {
        self.wan.load_rules(&format!("delete table ip {TABLE}\n"))
    }

    /// From now on the public network drops all packets from and to a side, those of the rendezvous as well.
    ///
    /// # Errors
    /// The rules are refused.
    ///
    /// # Panics
    /// There is no such side.
    pub fn silence(&self, side: usize) -> Result<(), LabError> {
        let address = self.side(side).public_ip();
        self.wan.load_rules(&format!(
            "table ip {OUTAGE} {{
  chain from {{
    type filter hook prerouting priority raw
    policy accept
    ip saddr {address} drop
  }}
  chain to {{
    type filter hook postrouting priority filter
    policy accept
    ip daddr {address} drop
  }}
}}
"
        ))
    }

    /// Ends the outage.
    ///
    /// # Errors
    /// There is none.
    pub fn unsilence(&self) -> Result<(), LabError> {
        self.wan.load_rules(&format!("delete table ip {OUTAGE}\n"))
    }
}
