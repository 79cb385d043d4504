//! What every program over a link begins with: a worker that joins a room or calls a peer, and the link.

mod attending;
mod meeting;
mod staying;
mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use holepunch_programs::{BUSY, INTERRUPTED};
use holepunch_wire::session::{RoomMode, SessionId};
use holepunch_worker::{
    Config, Guesses, Identity, Link, LinkError, LinkPath, Links, Notice, PathKind, RendezvousUrl,
    Worker,
};
use tokio::task::JoinHandle;

use crate::code::{self, GUESSES_SHOWN_MAX, WORDS, WORDS_MAX};
use crate::exit::Failure;
use crate::headings::{LOGGING, MEETING};
use crate::hints::not_started;
use crate::output;
use crate::peering::{
    IdentityFile, PeeringArgs, is_room_of_calls, rendezvous_if_named, rendezvous_url,
};
use crate::settings::{Environment, Seconds};
use crate::signals::Stop;
use crate::why::in_words;
use crate::worker::StunArgs;
use attending::{Left, REPLACED, ToTell, attend};
pub(crate) use attending::{Manner, Telling, tell_paths};
pub(crate) use meeting::{Alone, Invited};
use meeting::{By, Claimed, Inviting};
pub(crate) use staying::{LINKS_MAX, Staying, stay};
use waiting::{Code as CodeOf, Heard, Waiting};

/// A peer whose link is lost is given so long to come back: one that has crashed and is started again by
/// hand, or by its supervisor, is there by then, once the rendezvous has missed it for 5 s.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// When the first attempt to reach the rendezvous has not ended by then, it is said: by then a person wonders, and the
/// handshake has had three round trips of the longest that there are.
const UNANSWERED_AFTER: Duration = Duration::from_secs(3);
/// What is said of a worker that whoever knows its id may call.
const OPEN_TO_CALLS: &str = "whoever calls this id is the peer, known or not, and a rendezvous may list it: \
                             --accept=ID or --room-secret keeps strangers out";

/// What is said of a room that keeps nobody out.
const OPEN_TO_ALL: &str = "whoever comes first to this room is the peer, known or not: a code (no --room at all) or \
                           --room-secret keeps strangers out";

/// With whom to link, and by which rendezvous
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// The rendezvous, unless one is remembered
    ///
    /// `holepunch login URL` remembers one [env: RENDEZVOUS_SERVICE_URL]
    #[arg(long, value_name = "URL", help_heading = MEETING)]
    rendezvous_url: Option<String>,
    #[command(flatten)]
    peering: PeeringArgs,
    /// Words of the code that this side makes up, each worth 11 bits; from 2 to 24 [default: 2]
    #[arg(long, value_name = "N", help_heading = MEETING, hide_short_help = true, value_parser = clap::value_parser!(u16).range(i64::from(WORDS)..=i64::from(WORDS_MAX)))]
    words: Option<u16>,
    /// The code of the other side, or `-` for a line of standard input [env: CODE]
    #[arg(skip)]
    code: Option<String>,
    /// Who is offered to whom in a room that is named.
    #[arg(skip)]
    room_mode: Option<RoomMode>,
    #[command(flatten)]
    stun: StunArgs,
    /// Fail where there is no link within so long
    ///
    /// The exit code is 1. Without it wait for ever, or an hour with a code of this side [env: GIVE_UP_AFTER_SEC]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, help_heading = MEETING)]
    give_up_after_sec: Option<Seconds>,
    /// Say nothing of the way to the link
    ///
    /// Standard error tells nothing of that way, nor of its changes.
    #[arg(long, short, help_heading = LOGGING)]
    quiet: bool,
    /// Tell the history of the link on standard error in the end
    #[arg(long, help_heading = LOGGING)]
    why: bool,
}

/// With whom to link, where either side may make the code up
#[derive(Debug, clap::Args)]
pub(crate) struct MeetArgs {
    /// The code of the other side; without it this side makes one up
    ///
    /// `-` stands for a line of standard input [env: CODE]
    code: Option<String>,
    #[command(flatten)]
    join: JoinArgs,
}

impl From<MeetArgs> for JoinArgs {
    fn from(MeetArgs { code, join }: MeetArgs) -> Self {
        join.with_code(code)
    }
}

impl JoinArgs {
    /// Whether anybody who has read this worker's id somewhere may become the peer by a call.
    pub(crate) fn lets_anybody_call(&self, environment: &Environment) -> Result<bool, Failure> {
        let has_code = self.code.is_some();
        Ok(!has_code && self.peering.lets_anybody_call(environment)?)
    }

    /// With the code of the other side, where there is one.
    pub(crate) fn with_code(self, code: Option<String>) -> Self {
        Self { code, ..self }
    }

    /// In a room of this mode, where this side is its first.
    pub(crate) fn in_room_of(self, room_mode: Option<RoomMode>) -> Self {
        Self { room_mode, ..self }
    }

    /// Whether a room or a peer is named.
    pub(crate) fn is_named(&self, environment: &Environment) -> bool {
        self.peering.is_named(environment)
    }
}

/// What does not change from one link to the next.
struct Company {
    worker: Worker,
    manner: Manner,
    waiting: Waiting,
    quiet: bool,
    why: bool,
    /// When the command began.
    began: Instant,
    /// How long a link is waited for.
    patience: Option<Duration>,
    /// Until when a peer whose link was lost is waited for, from the beginning of the command.
    back_until: Option<Duration>,
    /// How long somebody has said that one is waited for.
    own_patience: Option<Duration>,
    /// When it is said that the rendezvous has not answered yet.
    unanswered_at: Option<Instant>,
    /// Whether the peer has refused the last link.
    was_refused: bool,
    /// The session of the last link: what is said of its end is known.
    last: Option<SessionId>,
}

/// A link, and the worker that keeps it.
pub(crate) struct Joined {
    pub(crate) link: Link,
    attendant: JoinHandle<Left>,
    company: Company,
}

/// What follows a program's end.
pub(crate) enum Turn<T> {
    /// Nothing: that was its outcome.
    Over(Joined, T),
    /// It has not had its turn, since the peer refused the link. Here is the next one.
    Again(Joined),
}

/// Why a program may go on with another link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Another {
    /// The peer has another link.
    Busy,
    /// One of the two does not know the room's secret.
    Secret(LinkError),
    /// The same peer has made a new link.
    Replaced,
    /// The network, or the peer, has gone.
    Lost(LinkError),
    /// Whoever has called is not the one that was waited for.
    Unwanted,
}

impl Joined {
    /// What follows a program's end: where the two do not share a secret, the next link.
    pub(crate) async fn turn<T>(
        self,
        has_begun: bool,
        outcome: T,
        stop: &mut Stop,
    ) -> Result<Turn<T>, Failure> {
        match self.another(has_begun) {
            Some(Another::Busy) => {
                self.leave(BUSY).await;
                Err(Failure::failed("the peer is busy with another link"))
            }
            Some(refused @ Another::Secret(_)) => Ok(Turn::Again(self.next(refused, stop).await?)),
            Some(Another::Replaced | Another::Lost(_) | Another::Unwanted) | None => {
                Ok(Turn::Over(self, outcome))
            }
        }
    }

    /// Why the link has ended, where another one may follow. It is no refusal where the program `has_begun`
    /// with the peer: whoever ends the link so after that has had its part.
    pub(crate) fn another(&self, has_begun: bool) -> Option<Another> {
        match self.link.ended()? {
            LinkError::ClosedByPeer(reason) if reason == BUSY && !has_begun => Some(Another::Busy),
            why @ (LinkError::SecretMissing(_) | LinkError::WrongSecret) => {
                (!has_begun).then_some(Another::Secret(why))
            }
            LinkError::Closed(reason) if reason == REPLACED => Some(Another::Replaced),
            why @ LinkError::Unreachable(_) => Some(Another::Lost(why)),
            LinkError::Closed(_)
            | LinkError::ClosedByPeer(_)
            | LinkError::WrongKey { .. }
            | LinkError::Impostor { .. }
            | LinkError::NoProtocol(_)
            | LinkError::Protocol(_)
            | _ => None,
        }
    }

    /// Where calls are waited for, whoever knows the id may come: one that is not meant is sent away with the reason, and does
    /// not end the program.
    pub(crate) fn after_caller(&self, why: &str) -> Option<Another> {
        if !self.company.waiting.is_for_calls() {
            return None;
        }
        self.company.say(why);
        self.link.close(why);
        Some(Another::Unwanted)
    }

    /// Waits for the link that follows one that has ended.
    pub(crate) async fn next(self, why: Another, stop: &mut Stop) -> Result<Self, Failure> {
        let Self { link, attendant, mut company } = self;
        let left = attendant.await.map_err(Failure::failed)?;
        if let Some(link) = left.next {
            if let Another::Lost(error) = why {
                company.say(format!("the link is lost: {error}; going on with the next one"));
            }
            return Ok(company.joined(link, left.links));
        }
        company.back_until = match &why {
            Another::Lost(_) => Some(company.began.elapsed() + BACK_WITHIN),
            // It is still waited for: that was somebody else.
            Another::Busy | Another::Secret(_) => company.back_until,
            Another::Replaced | Another::Unwanted => None,
        };
        if company.back_until.is_some() {
            company.waiting.lost(BACK_WITHIN);
        }
        // What was told meanwhile is not told again; but wrong codes count, whenever they come.
        let mut counted = Ok(());
        while let Some(notice) = company.worker.next_notice().now_or_never().flatten() {
            if company.last != session_of_end(&notice) {
                counted = counted.and(company.waiting.recount(&notice));
            }
        }
        let heard = match &why {
            Another::Busy => company.waiting.busy(),
            Another::Secret(error) => company.waiting.no_link(link.peer(), error),
            Another::Replaced => Heard::Nothing,
            Another::Unwanted => Heard::Line("waiting for another call".to_owned()),
            Another::Lost(error) => Heard::Line(format!(
                "the link is lost: {error}; waiting {} s for the peer to come back",
                BACK_WITHIN.as_secs()
            )),
        };
        drop(link);
        company.was_refused = matches!(why, Another::Busy | Another::Secret(_));
        let patience = company.back_until.or(company.patience);
        let outcome = match counted.map_err(Failure::failed).and_then(|()| company.take(heard)) {
            Ok(()) => company.next_link(left.links, stop, patience).await,
            Err(failure) => Err(failure),
        };
        company.or_leave(outcome).await
    }

    /// When the command began.
    pub(crate) fn began(&self) -> Instant {
        self.company.began
    }

    /// Ends the link and the worker, within a second. What matters has to have arrived before.
    pub(crate) async fn leave(self, reason: &str) {
        self.link.close(reason);
        self.company.leave().await;
    }

    /// Ends everything because somebody wants that.
    pub(crate) async fn interrupted(self) -> Failure {
        self.leave(INTERRUPTED).await;
        Failure::interrupted()
    }
}

/// Waits for a direct path, but not longer than this. Whether there is one.
pub(crate) async fn until_direct(link: &Link, wait: Duration) -> bool {
    tokio::select! {
        () = first_direct(link) => true,
        _ended = link.closed() => false,
        () = tokio::time::sleep(wait) => is_direct(&link.path()),
    }
}

/// Returns when there is, or has been, a direct path.
pub(crate) async fn first_direct(link: &Link) {
    let mut events = link.path_events();
    while !is_direct(&events.next().await.path) {}
}

fn is_direct(path: &LinkPath) -> bool {
    matches!(path.kind, PathKind::Direct { .. })
}

/// A worker that has begun to look for its peer.
struct Begun {
    company: Company,
    links: Links,
    /// What the worker is; its key among it, where it meets by a code.
    config: Config,
    is_by_code: bool,
}

/// Starts a worker and waits for the first link; says on standard error what it waits for.
pub(crate) async fn join(
    args: JoinArgs,
    environment: &Environment,
    manner: Manner,
    stop: &mut Stop,
) -> Result<Joined, Failure> {
    let Begun { mut company, links, .. } = begin(args, environment, manner, stop).await?;
    let patience = company.patience;
    let outcome = company.next_link(links, stop, patience).await;
    company.or_leave(outcome).await
}

/// Starts a worker; by a code of its own, once the rendezvous has granted the room.
async fn begin(
    args: JoinArgs,
    environment: &Environment,
    manner: Manner,
    stop: &mut Stop,
) -> Result<Begun, Failure> {
    let began = Instant::now();
    let patience = environment.setting(
        "--give-up-after-sec",
        args.give_up_after_sec,
        &["GIVE_UP_AFTER_SEC"],
    )?;
    let code = match manner.alone {
        // What this side makes up is for others: a code in the environment is none of its own.
        Alone::MakesCode(_) => None,
        Alone::BothWays(_) | Alone::AsksForCode => code::given(args.code, environment)?,
    };
    // What is wrong with it is said before anybody is asked.
    let has_rendezvous = rendezvous_if_named(args.rendezvous_url.clone(), environment)?.is_some();
    let by = By::new(code, args.peering.is_named(environment), manner.alone, has_rendezvous)?;
    let (config, identity) =
        config(args.rendezvous_url.clone(), args.peering, args.stun, &by, environment)?;
    let is_by_code = by != By::Settings;
    let identity = match identity.load()? {
        // By it the two know each other again.
        None if is_by_code => Some(Identity::generate().map_err(Failure::failed)?),
        identity => identity,
    };
    // A room of calls to this worker alone has its mode already.
    let room_mode = config.room_mode.or(args.room_mode);
    let config = Config { identity, room_mode, ..config };
    let own_id = config.identity.as_ref().map(Identity::worker_id);
    if own_id.is_some() && own_id == config.peer {
        return Err(Failure::usage(
            "PEER (--peer) is the id of this side itself, as its --identity has it: name the other side's",
        ));
    }
    let (quiet, why) = (args.quiet, args.why);
    let own_patience = patience.map(|Seconds(patience)| patience);
    let patience = meeting::patience(own_patience, &by);
    let other_side = other_side(&config, manner.alone, args.rendezvous_url.is_some());
    let company = |worker: Worker, config: &Config| {
        let company = Company {
            waiting: waiting(config, &by),
            worker,
            manner: manner.clone(),
            quiet,
            why,
            began,
            patience,
            back_until: None,
            own_patience,
            unanswered_at: Some(Instant::now() + UNANSWERED_AFTER),
            was_refused: false,
            last: None,
        };
        company.say(format!("worker {}", company.worker.id()));
        if let Some(command) = &other_side {
            company.say(format!("on the other side:  {command} --peer {}", company.worker.id()));
        }
        if config.room_secret.is_none() && config.peer.is_none() && config.callers.is_empty() {
            company.say(if config.callable { OPEN_TO_CALLS } else { OPEN_TO_ALL });
        }
        company
    };
    let Claimed { company, links } = match by {
        By::OwnCode(command) => {
            let words = args.words.unwrap_or(WORDS);
            let tells_rendezvous = args.rendezvous_url.is_some();
            let inviting = Inviting { words, command, tells_rendezvous };
            meeting::invite(&config, &inviting, &manner, stop, company).await?
        }
        By::Settings | By::Code(_) => {
            let (worker, links) = started(config.clone()).await?;
            Claimed { company: company(worker, &config), links }
        }
    };
    Ok(Begun { company, links, config, is_by_code })
}

/// The command of the other side, but for the id, where calls are waited for.
fn other_side(config: &Config, alone: Alone, tells_rendezvous: bool) -> Option<String> {
    let command = config.callable.then(|| alone.other_side())?;
    let rendezvous = config.rendezvous.public();
    Some(if tells_rendezvous {
        format!("{command} --rendezvous-url {rendezvous}")
    } else {
        command
    })
}

/// Returns at that time, and never without one.
pub(crate) async fn until_some(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The session whose end a notice tells.
fn session_of_end(notice: &Notice) -> Option<SessionId> {
    if let Notice::LinkEnded(_, session, _) = notice { Some(*session) } else { None }
}

/// A worker, and its links.
async fn started(config: Config) -> Result<(Worker, Links), Failure> {
    let mut worker = Worker::start(config).await.map_err(not_started)?;
    let links = worker.take_links().ok_or_else(|| Failure::failed("the worker has no links"))?;
    Ok((worker, links))
}

fn waiting(config: &Config, by: &By) -> Waiting {
    let code = match by {
        By::Settings => None,
        By::Code(_) => Some(CodeOf::OtherSide),
        By::OwnCode(_) => Some(CodeOf::ThisSide { guesses: 0 }),
    };
    let room = (code.is_none() && !config.room.is_default()).then(|| config.room.as_str());
    let has_secret = config.room_secret.is_some();
    let waiting =
        Waiting::new(config.rendezvous.authority(), room, config.peer.clone(), has_secret, code)
            .doubting(doubt(&config.rendezvous, by));
    if is_room_of_calls(config) { waiting.for_calls(&config.room) } else { waiting }
}

/// What a host without a scheme was taken for: the two places where one stands differ in that.
fn doubt(rendezvous: &RendezvousUrl, by: &By) -> Option<&'static str> {
    let of_code = if let By::Code(code) = by { code.bare_rendezvous() } else { None };
    if of_code.is_some_and(|url| url.parse::<RendezvousUrl>().as_ref() == Ok(rendezvous)) {
        Some(
            "the code names it without a scheme, which means https:// (one that speaks no TLS is written as \
             @http://HOST)",
        )
    } else if rendezvous.scheme_was_missing() {
        Some(
            "its URL has no scheme, which means http:// (one that speaks TLS is written as https://HOST)",
        )
    } else {
        None
    }
}

/// What the worker is to be; everything is looked at before anything is written.
fn config(
    rendezvous: Option<String>,
    peering: PeeringArgs,
    stun: StunArgs,
    by: &By,
    environment: &Environment,
) -> Result<(Config, IdentityFile), Failure> {
    let of_code = if let By::Code(code) = by { code.rendezvous().map(str::to_owned) } else { None };
    let rendezvous = rendezvous_url(rendezvous.or(of_code), environment)?;
    let peering = if *by == By::Settings { peering } else { peering.by_code()? };
    let (mut config, identity) = peering.apply(Config::new(rendezvous), environment)?;
    config.stun_servers.extend(stun.named(environment)?);
    if let By::Code(code) = by {
        (config.room, config.room_secret) = (code.room(), Some(code.secret()));
        config.room_guesses = Guesses::new(Some(GUESSES_SHOWN_MAX));
    }
    Ok((config, identity))
}

impl Company {
    fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            (self.manner.telling.line)(text.as_ref());
        }
    }

    fn take(&self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Nothing => Ok(()),
            Heard::Line(text) => {
                self.say(text);
                Ok(())
            }
            Heard::Hopeless(why) => Err(Failure::failed(why)),
        }
    }

    /// The next link; `patience` counts from the beginning of the command.
    async fn next_link(
        &mut self,
        mut links: Links,
        stop: &mut Stop,
        patience: Option<Duration>,
    ) -> Result<(Link, Links), Failure> {
        let ended = || Failure::failed("the worker has ended by itself");
        let over = until_some(patience.map(|patience| self.began + patience));
        tokio::pin!(over);
        loop {
            tokio::select! {
                _signal = stop.wait() => return Err(Failure::interrupted()),
                link = links.next() => return Ok((link.ok_or_else(ended)?, links)),
                notice = self.worker.next_notice() => self.hear(&notice.ok_or_else(ended)?)?,
                () = until_some(self.unanswered_at) => self.unanswered(),
                () = until_some(self.waiting.is_clear_at()) => self.cleared()?,
                () = &mut over => return Err(self.given_up()),
            }
        }
    }

    /// Says what is waited for, once.
    fn unanswered(&mut self) {
        self.unanswered_at = None;
        self.waiting.unanswered().iter().for_each(|text| self.say(text));
    }

    /// Says what has become clear of the other side.
    fn cleared(&mut self) -> Result<(), Failure> {
        let heard = self.waiting.is_clear();
        self.take(heard)
    }

    /// What is missing, when it has been waited for long enough.
    fn given_up(&self) -> Failure {
        let (missing, text) = self.waiting.given_up();
        Failure::failed(text).because(missing.code())
    }

    fn hear(&mut self, notice: &Notice) -> Result<(), Failure> {
        let session = session_of_end(notice);
        if session.is_some() && session == self.last {
            return Ok(());
        }
        let heard = self.waiting.hear(notice);
        self.take(heard)
    }

    fn joined(mut self, link: Link, links: Links) -> Joined {
        let linked = format!("linked with {}, {}", link.peer(), link.path().kind);
        // One that follows a refusal may be refused again, which a person need not see each time.
        let later = std::mem::take(&mut self.was_refused).then(|| linked.clone());
        if later.is_none() {
            self.say(linked);
        }
        self.last = Some(link.session());
        self.waiting.linked();
        let mut manner = self.manner.clone();
        if self.quiet {
            manner.telling.line = Arc::new(|_| ());
        }
        let told = ToTell { linked: later, wrong_secret: self.waiting.wrong_secret() };
        let attendant = attend(link.clone(), links, manner, told);
        Joined { link, attendant, company: self }
    }

    async fn or_leave(self, outcome: Result<(Link, Links), Failure>) -> Result<Joined, Failure> {
        match outcome {
            Ok((link, links)) => Ok(self.joined(link, links)),
            Err(failure) => {
                self.leave().await;
                Err(failure)
            }
        }
    }

    async fn leave(self) {
        if self.why {
            let stories = self.worker.stories().all();
            if stories.is_empty() {
                output::progress(self.waiting.without_a_story());
            }
            stories.iter().flat_map(in_words).for_each(output::progress);
        }
        self.worker.shutdown().await;
    }
}
