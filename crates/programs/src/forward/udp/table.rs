//! The UDP flows of a link: which there are, and when one has been idle for too long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A flow without a datagram either way for so long is over (RFC 4787 REQ-5: 5 minutes or more are recommended).
pub const IDLE: Duration = Duration::from_secs(5 * 60);
/// Where there are as many as may be, one that has been idle for so long gives way to a new one, and no other (RFC 4787
/// REQ-5: not in less than 2 minutes).
pub const IDLE_LEAST: Duration = Duration::from_secs(2 * 60);
/// Flows at once on a link, of each of its sides: one for each source address.
pub const FLOWS_MAX: usize = 512;
const _: () = assert!(IDLE_LEAST.as_secs() >= 120 && IDLE.as_secs() > IDLE_LEAST.as_secs());

/// Who has opened a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A program of this side.
    Own,
    /// The peer.
    Peers,
}

/// Why a flow cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFlow {
    /// There are [`FLOWS_MAX`], and all of them are in use.
    #[error("{FLOWS_MAX} UDP flows are open, and none has been idle for {} s", IDLE_LEAST.as_secs())]
    Full,
    /// The number is that of a flow which is there.
    #[error("the number of a UDP flow that is open already")]
    Taken,
}

#[derive(Debug)]
struct Entry<F> {
    whose: Whose,
    used_at: Instant,
    flow: F,
}

/// The flows of a link, by their numbers.
#[derive(Debug)]
pub struct Table<F>(BTreeMap<u32, Entry<F>>);

impl<F> Default for Table<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<F> Table<F> {
    /// Opens a flow. The one that has given way to it, where there were as many as may be.
    ///
    /// # Errors
    /// None has given way, or the number is taken.
    pub fn open(
        &mut self,
        id: u32,
        whose: Whose,
        flow: F,
        now: Instant,
    ) -> Result<Option<F>, NoFlow> {
        if self.0.contains_key(&id) {
            return Err(NoFlow::Taken);
        }
        let of_side = self.0.iter().filter(|(_, entry)| entry.whose == whose);
        let mut gives_way = None;
        if of_side.clone().count() >= FLOWS_MAX {
            let idlest = of_side.min_by_key(|(_, entry)| entry.used_at);
            let idle = |used_at| now.saturating_duration_since(used_at) >= IDLE_LEAST;
            let (id, _) = idlest.filter(|(_, entry)| idle(entry.used_at)).ok_or(NoFlow::Full)?;
            gives_way = Some(*id);
        }
        let given_way = gives_way.and_then(|id| self.close(id));
        self.0.insert(id, Entry { whose, used_at: now, flow });
        Ok(given_way)
    }

    /// A datagram goes either way: the flow, where it is open.
    pub fn used(&mut self, id: u32, now: Instant) -> Option<&F> {
        let entry = self.0.get_mut(&id)?;
        entry.used_at = entry.used_at.max(now);
        Some(&entry.flow)
    }

    /// Closes a flow.
    pub fn close(&mut self, id: u32) -> Option<F> {
        self.0.remove(&id).map(|entry| entry.flow)
    }

    /// Closes a flow where it is this one: its number may be a younger one's by now.
    pub fn close_if(&mut self, id: u32, is_this: impl FnOnce(&F) -> bool) -> Option<F> {
        self.0.get(&id).filter(|entry| is_this(&entry.flow))?;
        self.close(id)
    }

    /// When a flow has been idle for long enough, unless it is used before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().map(|entry| entry.used_at + IDLE).min()
    }

    /// Closes those that have been idle for long enough.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<F> {
        let is_over = |entry: &Entry<F>| now.saturating_duration_since(entry.used_at) >= IDLE;
        let over: Vec<u32> =
            self.0.iter().filter(|(_, entry)| is_over(entry)).map(|(id, _)| *id).collect();
        over.into_iter().filter_map(|id| self.close(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_flow_lives_as_long_as_it_is_used_and_five_minutes_more() {
        let (mut table, start) = (Table::default(), Instant::now());
        assert_eq!(table.poll_timeout(), None);
        table.open(1, Whose::Own, "a", start).unwrap();
        table.open(2, Whose::Peers, "b", start + SECOND).unwrap();
        assert_eq!(table.poll_timeout(), Some(start + IDLE));
        assert_eq!(table.used(1, start + IDLE - SECOND), Some(&"a"));
        assert_eq!(table.poll_timeout(), Some(start + SECOND + IDLE));
        assert!(table.handle_timeout(start + IDLE).is_empty());
        assert_eq!(table.handle_timeout(start + IDLE + SECOND), ["b"]);
        assert_eq!(table.used(2, start + IDLE + SECOND), None);
        assert_eq!(table.handle_timeout(start + IDLE * 2), ["a"]);
        assert_eq!(table.poll_timeout(), None);
    }

    #[test]
    fn a_flow_that_ends_late_does_not_close_a_younger_one_of_its_number() {
        let (mut table, start) = (Table::default(), Instant::now());
        table.open(1, Whose::Peers, "old", start).unwrap();
        assert_eq!(table.handle_timeout(start + IDLE), ["old"]);
        table.open(1, Whose::Peers, "young", start + IDLE).unwrap();
        assert_eq!(table.close_if(1, |flow| *flow == "old"), None);
        assert_eq!(table.used(1, start + IDLE), Some(&"young"));
        assert_eq!(table.close_if(1, |flow| *flow == "young"), Some("young"));
        assert_eq!(table.close_if(1, |_| true), None);
    }

    #[test]
    fn where_there_are_too_many_one_that_was_idle_for_two_minutes_gives_way_and_no_other() {
        let (mut table, start) = (Table::default(), Instant::now());
        for id in 0..FLOWS_MAX as u32 {
            assert_eq!(table.open(id, Whose::Peers, id, start), Ok(None));
        }
        let new = 100_000;
        let almost = start + IDLE_LEAST - SECOND;
        assert_eq!(table.open(new, Whose::Peers, new, almost), Err(NoFlow::Full));
        assert_eq!(table.open(new + 1, Whose::Own, new, almost), Ok(None), "the other side's own");
        table.used(0, almost).unwrap();
        assert_eq!(table.open(new, Whose::Peers, new, start + IDLE_LEAST), Ok(Some(1)));
        assert_eq!(table.open(new, Whose::Peers, new, start + IDLE), Err(NoFlow::Taken));
        assert_eq!(table.close(new), Some(new));
        assert_eq!(table.close(new), None);
    }
}
