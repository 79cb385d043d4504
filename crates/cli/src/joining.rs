//! What every program over a link begins with: a worker that joins a room or calls a peer, and the link.

use std::time::{Duration, Instant};

use holepunch_worker::{Config, Link, LinkPath, Links, Notice, PathKind, Signal, Worker};

use crate::exit::Failure;
use crate::output;
use crate::peering::{PeeringArgs, rendezvous_url};
use crate::settings::Environment;
use crate::signals::Stop;
use crate::why::in_words;
use crate::worker::StunArgs;

/// With whom to link, and by which rendezvous
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// The rendezvous; required [env: RENDEZVOUS_SERVICE_URL]
    #[arg(long, value_name = "URL")]
    rendezvous_url: Option<String>,
    #[command(flatten)]
    peering: PeeringArgs,
    #[command(flatten)]
    stun: StunArgs,
    /// Say nothing of the way to the link on standard error
    #[arg(long, short)]
    quiet: bool,
    /// Tell the history of the link on standard error in the end
    #[arg(long)]
    why: bool,
}

/// A link, and the worker that keeps it.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) link: Link,
    worker: Worker,
    why: bool,
    /// When the command began.
    began: Instant,
}

impl Joined {
    /// Waits for a direct path, but not longer than this. Whether there is one.
    pub(crate) async fn until_direct(&self, wait: Duration) -> bool {
        let is_direct = |path: &LinkPath| matches!(path.kind, PathKind::Direct { .. });
        let direct = async {
            let mut events = self.link.path_events();
            while !is_direct(&events.next().await.path) {}
        };
        tokio::select! {
            () = direct => true,
            _ended = self.link.closed() => false,
            () = tokio::time::sleep(wait) => is_direct(&self.link.path()),
        }
    }

    /// Time since the command began.
    pub(crate) fn since_start(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends the link and the worker, within a second. What matters has to have arrived before.
    pub(crate) async fn leave(self, reason: &str) {
        self.link.close(reason);
        if self.why {
            tell(&self.worker);
        }
        self.worker.shutdown().await;
    }
}

/// Starts a worker and waits for the first link; says on standard error what it waits for.
pub(crate) async fn join(args: JoinArgs, environment: &Environment) -> Result<Joined, Failure> {
    let began = Instant::now();
    let rendezvous = rendezvous_url(args.rendezvous_url, environment)?;
    let mut config = args.peering.apply(Config::new(rendezvous), environment)?;
    config.stun_servers.extend(args.stun.named(environment)?);
    if config.peer.is_none() && config.room.is_default() {
        return Err(Failure::usage(
            "with whom to link? Name a room that both sides join (--room), or the worker to call (--peer)",
        ));
    }
    let mut stop = Stop::listen()?;
    let mut worker = Worker::start(config).await.map_err(Failure::failed)?;
    let mut links =
        worker.take_links().ok_or_else(|| Failure::failed("the worker has no links"))?;
    if !args.quiet {
        output::progress(format!("worker {}", worker.id()));
    }
    match next_link(&mut worker, &mut links, &mut stop, args.quiet).await {
        Ok(link) => Ok(Joined { link, worker, why: args.why, began }),
        Err(failure) => {
            if args.why {
                tell(&worker);
            }
            worker.shutdown().await;
            Err(failure)
        }
    }
}

fn tell(worker: &Worker) {
    worker.stories().all().iter().flat_map(in_words).for_each(output::progress);
}

async fn next_link(
    worker: &mut Worker,
    links: &mut Links,
    stop: &mut Stop,
    quiet: bool,
) -> Result<Link, Failure> {
    loop {
        tokio::select! {
            _signal = stop.wait() => return Err(Failure::interrupted()),
            link = links.next() => {
                let link = link.ok_or_else(|| Failure::failed("the worker has ended by itself"))?;
                if !quiet {
                    output::progress(format!("linked with {}, {}", link.peer(), link.path().kind));
                }
                return Ok(link);
            }
            notice = worker.next_notice() => match notice {
                Some(notice) if !quiet => say(&notice),
                Some(_) => {}
                None => return Err(Failure::failed("the worker has ended by itself")),
            },
        }
    }
}

/// Says what is waited for, or what is in the way.
#[expect(clippy::wildcard_enum_match_arm, reason = "the log says the rest")]
fn say(notice: &Notice) {
    match notice {
        Notice::Signal(Signal::Connecting(url)) => {
            output::progress(format!("connecting to {}", url.host_str().unwrap_or_default()));
        }
        Notice::Signal(Signal::Connected | Signal::ConnectedV1) => {
            output::progress("waiting for the peer");
        }
        Notice::Signal(Signal::Disconnected { why, retry_in }) => {
            output::progress(format!(
                "no connection to the rendezvous: {why}; trying again in {:.1} s",
                retry_in.as_secs_f64()
            ));
        }
        Notice::LinkEnded(peer, _, why) => output::progress(format!("no link with {peer}: {why}")),
        Notice::UdpUnavailable(why, _) => output::progress(why),
        Notice::NoEndpoint(unseen) => output::progress(unseen),
        _ => {}
    }
}
