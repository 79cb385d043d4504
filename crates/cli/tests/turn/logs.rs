//! What this thread logs.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// The log so far; it goes on until this is dropped.
pub(crate) struct Logs {
    text: Text,
    _guard: DefaultGuard,
}

#[derive(Clone)]
struct Text {
    bytes: Arc<Mutex<Vec<u8>>>,
    changes: watch::Sender<()>,
}

impl Logs {
    pub(crate) fn start() -> Self {
        let text = Text { bytes: Arc::default(), changes: watch::channel(()).0 };
        let filter: Targets =
            "info,stun_types=error,stun_proto=off,turn_client_proto=off".parse().unwrap();
        let log = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(text.clone());
        let subscriber = tracing_subscriber::registry().with(log).with(filter);
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.bytes.lock().unwrap().clone()).unwrap()
    }

    /// Waits until the text is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&str) -> bool) {
        let mut changes = self.text.changes.subscribe();
        while !wanted(&self.text()) {
            changes.changed().await.unwrap();
        }
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        self.changes.send_replace(());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Text {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
