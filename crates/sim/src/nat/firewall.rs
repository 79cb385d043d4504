//! A stateful firewall: filtering without translation.

use std::net::SocketAddr;
use std::time::Instant;

use super::sessions::Sessions;
use super::{Counters, DropReason, FirewallConfig};

/// A firewall that lets packets out and, by its filtering, others in. Its owners are the inside
/// endpoints themselves.
#[derive(Debug)]
pub struct Firewall {
    config: FirewallConfig,
    sessions: Sessions<SocketAddr>,
    counters: Counters,
}

impl Firewall {
    /// A firewall with an empty table.
    #[must_use]
    pub fn new(config: FirewallConfig) -> Self {
        let sessions = Sessions::new(config.lifetime);
        Self { config, sessions, counters: Counters::default() }
    }

    /// A packet from inside.
    ///
    /// # Errors
    /// It is dropped.
    pub fn outbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(), DropReason> {
        self.sessions.expire(now);
        if !self.sessions.contains(from, to) && self.sessions.len() >= self.config.table_max {
            return Err(self.counters.dropped(DropReason::TableFull));
        }
        self.sessions.touch(from, to, now);
        self.counters.table_is(self.sessions.len());
        Ok(())
    }

    /// A packet from outside.
    ///
    /// # Errors
    /// It is dropped.
    pub fn inbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(), DropReason> {
        self.sessions.expire(now);
        let is_open = self.sessions.has_any(to);
        if !is_open || !self.sessions.admits(self.config.filtering, to, from) {
            return Err(self.counters.dropped(DropReason::Filtered));
        }
        let room = self.sessions.len() < self.config.table_max;
        if self.config.refresh_on_inbound && (room || self.sessions.contains(to, from)) {
            self.sessions.touch(to, from, now);
            self.counters.table_is(self.sessions.len());
        }
        Ok(())
    }

    /// Forgets every session, as a restart does.
    pub fn reset(&mut self) {
        self.sessions.clear();
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
