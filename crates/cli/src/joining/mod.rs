//! What every program over a link begins with: a worker that joins a room or calls a peer, and the link.

mod attending;
mod company;
mod joined;
mod meeting;
mod staying;
mod waiting;

use std::time::{Duration, Instant};

use holepunch_wire::session::RoomMode;
use holepunch_worker::{Config, Guesses, Identity, Links, RendezvousUrl, Worker};

use crate::code::{self, GUESSES_SHOWN_MAX, WORDS, WORDS_MAX};
use crate::exit::Failure;
use crate::headings::{LOGGING, MEETING};
use crate::hints::not_started;
use crate::peering::{
    IdentityFile, PeeringArgs, is_room_of_calls, rendezvous_if_named, rendezvous_url,
};
use crate::settings::{Environment, Seconds};
use crate::signals::Stop;
use crate::worker::StunArgs;
pub(crate) use attending::{Manner, Telling, tell_paths};
use company::Company;
pub(crate) use company::until_some;
pub(crate) use joined::{Joined, Turn, first_direct, until_direct};
pub(crate) use meeting::{Alone, Invited};
use meeting::{By, Claimed, Inviting};
pub(crate) use staying::{LINKS_MAX, Staying, stay};
use waiting::{Code as CodeOf, Waiting};

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
    let is_of_code = rendezvous.is_none() && of_code.is_some();
    let rendezvous = rendezvous_url(rendezvous.or(of_code), environment)?;
    let peering = if *by == By::Settings { peering } else { peering.by_code(is_of_code)? };
    let (mut config, identity) = peering.apply(Config::new(rendezvous), environment)?;
    config.stun_servers.extend(stun.named(environment)?);
    if let By::Code(code) = by {
        (config.room, config.room_secret) = (code.room(), Some(code.secret()));
        config.room_guesses = Guesses::new(Some(GUESSES_SHOWN_MAX));
    }
    Ok((config, identity))
}
