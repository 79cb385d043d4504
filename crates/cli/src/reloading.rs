//! SIGHUP: what comes from files is read again, and nothing ends.

use std::fmt;

use holepunch_rendezvous::Tls;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;
use crate::service_manager;

type Reload<S> = Box<dyn Fn(&S) + Send + Sync>;

/// What SIGHUP has read again, of a server. Each says in the log what has come of it.
pub(crate) struct Hooks<S>(Vec<(&'static str, Reload<S>)>);

impl<S> Default for Hooks<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S> Hooks<S> {
    /// `reload` is called at each SIGHUP.
    pub(crate) fn add(&mut self, what: &'static str, reload: impl Fn(&S) + Send + Sync + 'static) {
        self.0.push((what, Box::new(reload)));
    }

    /// Certificate and key, where there are some.
    pub(crate) fn with_tls(mut self, tls: Option<&Tls>) -> Self {
        if let Some(tls) = tls.cloned() {
            // The log tells what is wrong with them.
            self.add("certificate and key", move |_| drop(tls.reload()));
        }
        self
    }

    fn run(&self, server: &S) {
        let again: Vec<&str> = self.0.iter().map(|(what, _)| *what).collect();
        if again.is_empty() {
            tracing::info!("SIGHUP: nothing here comes from files that are read again");
        } else {
            tracing::info!(?again, "SIGHUP: what comes from files is read again");
        }
        service_manager::reloading();
        self.0.iter().for_each(|(_, reload)| reload(server));
        service_manager::ready();
    }
}

impl<S> fmt::Debug for Hooks<S> {
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

    /// Runs the hooks of a server at each SIGHUP, for ever.
    pub(crate) async fn serve<S>(&mut self, hooks: &Hooks<S>, server: &S) {
        while self.0.recv().await.is_some() {
            hooks.run(server);
        }
        std::future::pending().await
    }
}
