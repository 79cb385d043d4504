//! What every program over a link begins with: a worker that joins a room or calls a peer, and the link.

use std::path::PathBuf;

use holepunch_link::Link;

use crate::exit::Failure;
use crate::settings::Environment;
use crate::worker::{RoomArg, StunArgs};

/// With whom to link, and by which rendezvous
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// The rendezvous; required [env: RENDEZVOUS_SERVICE_URL]
    #[arg(long, value_name = "URL")]
    rendezvous_url: Option<String>,
    /// The room to meet the peer in [env: ROOM]
    #[arg(long, value_name = "NAME")]
    room: Option<RoomArg>,
    /// The worker to call, instead of a room [env: PEER]
    #[arg(long, value_name = "ID", conflicts_with = "room")]
    peer: Option<String>,
    /// File of this worker's key; made where there is none. Without it, a fresh key [env: IDENTITY]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Words that both sides know and the rendezvous does not: `holepunch invite` makes some
    /// [env: ROOM_SECRET]
    #[arg(long, value_name = "WORDS")]
    room_secret: Option<String>,
    /// Use no relay [env: NO_RELAY]
    #[arg(long)]
    no_relay: bool,
    #[command(flatten)]
    stun: StunArgs,
}

/// A link, and the worker that keeps it.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) link: Link,
}

impl Joined {
    /// Ends the link and the worker, within a second. What matters has to have arrived before.
    pub(crate) async fn leave(self, reason: &str) {
        self.link.close(reason);
    }
}

/// Starts a worker and waits for the first link; says on standard error what it waits for.
pub(crate) async fn join(args: JoinArgs, environment: &Environment) -> Result<Joined, Failure> {
    let _ = (args, environment);
    Err(Failure::failed("not linked"))
}
