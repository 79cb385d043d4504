//! The direct way between two sides is cut, and mended; the way to the rendezvous stays.

use crate::error::LabError;
use crate::topology::Lab;

/// Table of nftables that holds the cut.
const TABLE: &str = "cut";

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
}
