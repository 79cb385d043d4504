//! SIGTERM and SIGINT.

use std::io::IsTerminal;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::exit::Failure;
use crate::output;

/// Ctrl-C where a line is edited, and the terminal makes no signal of it.
static TYPED: Notify = Notify::const_new();

/// Somebody has typed Ctrl-C where that is no signal: the same as SIGINT to whoever waits, or waits next.
pub(crate) fn interrupt_typed() {
    TYPED.notify_one();
}

/// Both signals that ask a service to end. Made before the service starts, so that none is missed.
#[derive(Debug)]
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("cannot handle signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Returns when one of them came, with its name.
    pub(crate) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => {
                // The terminal has shown `^C`.
                if std::io::stdin().is_terminal() {
                    output::line_is_open();
                }
                "SIGINT"
            }
            () = TYPED.notified() => "SIGINT",
        }
    }
}
