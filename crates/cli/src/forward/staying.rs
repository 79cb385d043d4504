//! `holepunch forward`: one link after the other, or many at once, until somebody ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use holepunch_programs::forward::{Forward, ForwardError, Forwarder, Missing};
use holepunch_programs::is_orderly;
use holepunch_wire::rate::Bucket;
use holepunch_worker::{CloseCode, Link, LinkError};
use tokio::task::JoinSet;

use super::telling::{Event, TOLD, linked, telling};
use super::{ALONE, End};
use crate::exit::Failure;
use crate::joining::{self, JoinArgs, LINKS_MAX, Manner, Staying, tell_paths};
use crate::output;
use crate::settings::Environment;
use crate::signals::Stop;

/// What has become of a link.
struct Served {
    link: Link,
    why: LinkError,
    /// Why the two have not begun.
    not_begun: Option<ForwardError>,
}

pub(super) async fn carry(
    join: JoinArgs,
    environment: &Environment,
    mut what: Forward,
    end: &mut End,
) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    // A code is for one.
    what.peers_max = if join.is_named(environment) { LINKS_MAX } else { 1 };
    // From here on programs are listened to, whether there is a link or not.
    let forwarder = Arc::new(Forwarder::new(what));
    let manner = Manner { telling: telling(end.json, None), alone: ALONE, replaces: false };
    let staying = joining::stay(join, environment, manner, &mut stop).await?;
    let service = Service {
        staying,
        forwarder,
        served: JoinSet::new(),
        untold: Vec::new(),
        told: Bucket::default(),
    };
    service.run(&mut stop, end).await
}

struct Service {
    staying: Staying,
    forwarder: Arc<Forwarder>,
    served: JoinSet<Served>,
    /// Links whose end has not been told yet.
    untold: Vec<Link>,
    /// Links that come and go are told at this pace: peers cause them.
    told: Bucket,
}

impl Service {
    async fn run(mut self, stop: &mut Stop, end: &mut End) -> Result<ExitCode, Failure> {
        let why = loop {
            let forwarder = &self.forwarder;
            let is_missing = |code, text| forwarder.is_missing(Missing { code, text });
            tokio::select! {
                _signal = stop.wait() => {
                    end.tell(CloseCode::Interrupted.text().to_owned(), self.forwarder.summary());
                    return Err(self.staying.interrupted().await);
                }
                next = self.staying.next(is_missing) => match next {
                    Ok(link) => self.serve(link, end.json),
                    Err(failure) => break Err(failure),
                },
                Some(served) = self.served.join_next() => {
                    let served = served.map_err(Failure::failed)?;
                    match self.ended(served, end.json) {
                        Ok(None) => {}
                        Ok(Some(why)) => break Ok(why),
                        Err(failure) => break Err(failure),
                    }
                }
            }
        };
        self.staying.leave("forwarding has ended").await;
        let why = why?;
        end.tell(why.to_string(), self.forwarder.summary());
        output::progress("the peer has left; nothing is listened for any more");
        Ok(ExitCode::SUCCESS)
    }

    /// Serves a link by itself: what becomes of it touches no other.
    fn serve(&mut self, link: Link, json: bool) {
        // What comes after a link is told after its end, though that one's connections may take a moment more.
        for (before, why) in self.untold.clone().iter().filter_map(|it| Some((it, it.ended()?))) {
            self.tell_end(before, &why, None, json);
        }
        self.untold.push(link.clone());
        if self.told.take(TOLD, Instant::now()) {
            self.staying.say(format!("linked with {}, {}", link.peer(), link.path().kind));
            if json {
                linked(&link);
            }
        }
        let several = !self.staying.is_by_code();
        let telling = telling(json, several.then(|| link.peer().to_string()));
        let telling = self.staying.quietly(telling);
        let forwarder = Arc::clone(&self.forwarder);
        self.served.spawn(async move {
            // With the program's end nothing more is told: they end with this task.
            let mut paths = JoinSet::new();
            paths.spawn(tell_paths(link.clone(), telling));
            let outcome = forwarder.through(&link).await;
            let not_begun = outcome.err();
            if let Some(error) = &not_begun {
                link.close(&error.to_string());
            }
            let why = link.closed().await;
            paths.abort_all();
            Served { link, why, not_begun }
        });
    }

    /// What follows the end of a link: nothing, the end of the program because the one peer of a code has left, or a failure.
    fn ended(&mut self, served: Served, json: bool) -> Result<Option<LinkError>, Failure> {
        let Served { link, why, not_begun } = served;
        let has_begun = not_begun.is_none();
        if self.staying.is_by_code() {
            if is_orderly(&why) {
                return Ok(Some(why));
            }
            if let (Some(error), LinkError::Closed(_)) = (&not_begun, &why) {
                return Err(Failure::failed(error));
            }
        }
        self.tell_end(&link, &why, not_begun.as_ref(), json);
        self.staying.ended(&link, &why, has_begun)?;
        Ok(None)
    }

    /// Tells the end of a link, unless that was told before.
    fn tell_end(
        &mut self,
        link: &Link,
        why: &LinkError,
        not_begun: Option<&ForwardError>,
        json: bool,
    ) {
        let untold = self.untold.iter().position(|it| it.session() == link.session());
        let is_told = untold.map(|at| self.untold.swap_remove(at)).is_none();
        if is_told || !self.told.take(TOLD, Instant::now()) {
            return;
        }
        let peer = link.peer();
        if json {
            output::json_line(&Event::Unlinked { peer: peer.as_str(), why: why.to_string() });
        }
        let text = match (not_begun, why) {
            (Some(error), LinkError::Closed(_)) => format!("{peer} is not served: {error}"),
            (Some(_), _) => return,
            (None, why) if is_orderly(why) => format!("{peer} has left"),
            (None, why) => format!("the link with {peer} has ended: {why}"),
        };
        let goes_on = if self.staying.live() == 0 { "; waiting for the next link" } else { "" };
        self.staying.say(format!("{text}{goes_on}"));
    }
}
