//! The TCP connections between a worker and the rendezvous, which the test can cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections to a rendezvous until it is dropped.
#[derive(Debug)]
pub(crate) struct Cables {
    pub(crate) address: SocketAddr,
    cuts: watch::Sender<u32>,
    /// How many connections are let through; further ones wait.
    allowed: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Cables {
    pub(crate) async fn to(rendezvous: SocketAddr, allowed: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = watch::Sender::new(0);
        let watched = cuts.subscribe();
        let (allowed, allowing) = watch::channel(allowed);
        let task = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((mut near, _)) = listener.accept().await {
                number += 1;
                let mut allowing = allowing.clone();
                let mut cut = watched.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    if allowing.wait_for(|allowed| number <= *allowed).await.is_err() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(rendezvous).await else { return };
                    tokio::select! {
                        _ended = copy_bidirectional(&mut near, &mut far) => {}
                        _cut = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts, allowed, task }
    }

    /// Ends all connections of the moment without a word.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The same, and there will be no others.
    pub(crate) fn end(&self) {
        self.task.abort();
        self.cut();
    }

    /// Lets everything through that waits.
    pub(crate) fn release(&self) {
        self.allowed.send_replace(usize::MAX);
    }
}

impl Drop for Cables {
    fn drop(&mut self) {
        self.end();
    }
}
