//! SIGHUP: what comes from files is read again, and nothing ends.

use std::fmt;

use holepunch_rendezvous::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;
use crate::service_manager;

type Reload = Box<dyn Fn() + Send + Sync>;

/// What SIGHUP has read again. Each says in the log what has come of it.
#[derive(Default)]
pub(crate) struct Hooks(Vec<(&'static str, Reload)>);

impl Hooks {
    /// `reload` is called at each SIGHUP.
    pub(crate) fn add(&mut self, what: &'static str, reload: impl Fn() + Send + Sync + 'static) {
        self.0.push((what, Box::new(reload)));
    }

    /// Certificate and key, where there are some.
    pub(crate) fn with_tls(mut self, tls: Option<&Tls>) -> Self {
        if let Some(tls) = tls.cloned() {
            // The log tells what is wrong with them.
            self.add("certificate and key", move || drop(tls.reload()));
        }
        self
    }

    /// The keys of tokens are read again by the server itself.
    pub(crate) fn with_token_keys(mut self, are_wanted: bool) -> Self {
        if are_wanted {
            self.add("keys of tokens", || {});
        }
        self
    }

    fn run(&self, others: impl Fn()) {
        let again: Vec<&str> = self.0.iter().map(|(what, _)| *what).collect();
        if again.is_empty() {
            tracing::info!("SIGHUP: nothing here comes from files that are read again");
        } else {
            tracing::info!(?again, "SIGHUP: what comes from files is read again");
        }
        service_manager::reloading();
        self.0.iter().for_each(|(_, reload)| reload());
        others();
        service_manager::ready();
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(what, _)| what)).finish()
    }
}

/// Whoever makes it is not ended by SIGHUP any more.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let hangups = signal(SignalKind::hangup());
        hangups
            .map(Self)
            .map_err(|error| Failure::failed(format!("cannot handle signals: {error}")))
    }

    /// Runs the hooks at each SIGHUP, and what else there is to do, for ever.
    pub(crate) async fn serve(&mut self, hooks: &Hooks, others: impl Fn()) {
        while self.0.recv().await.is_some() {
            hooks.run(&others);
        }
        std::future::pending().await
    }
}
