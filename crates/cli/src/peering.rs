//! With whom a worker links, and how: the settings that `worker` and every program over a link share.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use holepunch_wire::nat::SearchWish;
use holepunch_wire::session::{RoomMode, RoomName, RoomNameError};
use holepunch_worker::{
    Config, Identity, Proxy, RendezvousUrl, RoomSecret, WorkerId, load_or_create,
};

use crate::code::random_hex;
use crate::config_file::make_folder;
use crate::entry::{NamedBy, TokenArgs};
use crate::exit::Failure;
use crate::headings::{MEETING, NETWORK};
use crate::hints::NAMES;
use crate::secrets::Secret;
use crate::settings::{Environment, Source, repeated};

const SECRET: Secret = Secret {
    what: "the room's secret",
    value: ("--room-secret", "ROOM_SECRET"),
    file: ("--room-secret-file", "ROOM_SECRET_FILE"),
};

/// Whoever calls, beside `--accept` and in `ACCEPT`.
const ANYBODY: &str = "any";
/// How the name of a room begins that is of a worker alone that waits for calls.
const ROOM_OF_CALLS: &str = "calls-";
/// Bytes of randomness in its name: nobody meets there by chance.
const ROOM_BYTES: usize = 8;

/// With whom to link, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct PeeringArgs {
    /// The room to meet in, the same on both sides
    ///
    /// [env: ROOM]
    #[arg(long, value_name = "NAME", help_heading = MEETING)]
    room: Option<RoomArg>,
    /// A worker to call by its id, and no other
    ///
    /// It runs with --accept, waits in the room that is named here, too, or calls this one [env: PEER]
    #[arg(long, value_name = "ID", help_heading = MEETING)]
    peer: Option<String>,
    /// Wait for a call by this worker's id
    ///
    /// `holepunch receive --accept --identity default`, and `holepunch send FILE --peer ID` on the other side: the id is printed,
    /// and the key that stays keeps it. Whoever knows it may call, or with =ID these workers alone; that may
    /// stand several times. In the variable stand ids with commas, or `any` [env: ACCEPT]
    #[arg(
        long,
        value_name = "ID",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "any",
        help_heading = MEETING
    )]
    accept: Vec<String>,
    /// File of the own key [default: a fresh key]
    ///
    /// The worker's id is made from it. The file is made where there is none; `default` is one that stays beside the settings file [env: IDENTITY]
    #[arg(long, value_name = "FILE", help_heading = MEETING)]
    identity: Option<PathBuf>,
    /// Words that the peer has to know, too
    ///
    /// The peers of all links have to know them; the rendezvous does not learn them [env: ROOM_SECRET]
    #[arg(long, value_name = "WORDS", help_heading = MEETING)]
    room_secret: Option<String>,
    /// A file with these words in its first line
    ///
    /// So no list of processes shows them [env: ROOM_SECRET_FILE]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "room_secret",
        help_heading = MEETING,
        hide_short_help = true
    )]
    room_secret_file: Option<PathBuf>,
    #[command(flatten)]
    token: TokenArgs,
    /// Use no relay: a link is direct or none
    ///
    /// [env: NO_RELAY]
    #[arg(long, help_heading = NETWORK)]
    no_relay: bool,
    /// Which searches for ports to take part in: usual, never or exhaustive [env: SEARCH]
    /// [default: usual]
    #[arg(long, value_name = "WHICH", help_heading = NETWORK, hide_short_help = true)]
    search: Option<SearchArg>,
    /// Do not tell peers the addresses of this machine's interfaces [env: NO_HOST_CANDIDATES]
    #[arg(long, help_heading = NETWORK, hide_short_help = true)]
    no_host_candidates: bool,
    /// Do not ask the router for a port by UPnP, NAT-PMP or PCP [env: NO_PORT_MAPPING]
    #[arg(long, help_heading = NETWORK, hide_short_help = true)]
    no_port_mapping: bool,
    /// Whether a code stands for room, peer and secret.
    #[arg(skip)]
    is_by_code: bool,
    /// Whether it names the rendezvous as well.
    #[arg(skip)]
    is_rendezvous_by_code: bool,
}

/// The name of a room.
#[derive(Debug, Clone)]
struct RoomArg(RoomName);

impl FromStr for RoomArg {
    type Err = RoomNameError;

    fn from_str(text: &str) -> Result<Self, RoomNameError> {
        RoomName::new(text).map(Self)
    }
}

/// The mode of a room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModeArg(pub(crate) RoomMode);

impl FromStr for ModeArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "pair" => Ok(Self(RoomMode::Pair)),
            "mesh" => Ok(Self(RoomMode::Mesh)),
            "call" => Ok(Self(RoomMode::Call)),
            _ => Err("expected pair, mesh or call"),
        }
    }
}

/// Who may call: these, or anybody where nobody is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Callers(Vec<WorkerId>);

impl FromStr for Callers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let named = parts.filter(|part| *part != ANYBODY);
        let parsed = named.map(|id| WorkerId::new(id).map_err(|why| format!("{id:?}: {why}")));
        parsed.collect::<Result<_, _>>().map(Self)
    }
}

/// Which searches to take part in.
#[derive(Debug, Clone, Copy)]
struct SearchArg(SearchWish);

impl FromStr for SearchArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "usual" => Ok(Self(SearchWish::Usual)),
            "never" => Ok(Self(SearchWish::Never)),
            "exhaustive" => Ok(Self(SearchWish::Exhaustive)),
            _ => Err("expected usual, never or exhaustive"),
        }
    }
}

/// The file of a worker's key, if it has one. Not read, or even made, before all settings are known to be
/// right.
#[derive(Debug, Default)]
pub(crate) struct IdentityFile {
    path: Option<PathBuf>,
    /// Whether it is the one beside the settings file, whose folder may not be there yet.
    is_default: bool,
}

impl IdentityFile {
    /// Reads the key, and makes one where there is no file.
    pub(crate) fn load(self) -> Result<Option<Identity>, Failure> {
        let Some(path) = self.path else { return Ok(None) };
        if let (true, Some(folder)) = (self.is_default, path.parent()) {
            make_folder(folder).map_err(|error| {
                Failure::failed(format!("cannot make the folder of {}: {error}", path.display()))
            })?;
        }
        load_or_create(&path).map(Some).map_err(Failure::failed)
    }
}

impl PeeringArgs {
    /// Whether a room or a peer is named, or calls are waited for.
    pub(crate) fn is_named(&self, environment: &Environment) -> bool {
        let by_flag = self.room.is_some() || self.peer.is_some() || !self.accept.is_empty();
        by_flag || environment.found(&["ROOM", "PEER", "ACCEPT"]).is_some()
    }

    /// Who may call, where calls are waited for.
    fn callers(&self, environment: &Environment) -> Result<Option<Callers>, Failure> {
        let flag = repeated("--accept", &self.accept)?;
        environment.setting("--accept", flag, &["ACCEPT"])
    }

    /// Whether anybody who has read this worker's id somewhere may become the peer by a call.
    pub(crate) fn lets_anybody_call(&self, environment: &Environment) -> Result<bool, Failure> {
        let has_secret = self.room_secret.is_some()
            || self.room_secret_file.is_some()
            || environment.found(&["ROOM_SECRET", "ROOM_SECRET_FILE"]).is_some();
        Ok(!has_secret && self.callers(environment)?.is_some_and(|Callers(named)| named.is_empty()))
    }

    /// The same where a code says whom to meet.
    pub(crate) fn by_code(self, is_rendezvous_by_code: bool) -> Result<Self, Failure> {
        let flags = [
            ("--room", self.room.is_some()),
            ("--peer", self.peer.is_some()),
            ("--accept", !self.accept.is_empty()),
            ("--room-secret", self.room_secret.is_some()),
            ("--room-secret-file", self.room_secret_file.is_some()),
        ];
        match flags.iter().find(|(_, is_set)| *is_set) {
            Some((flag, _)) => Err(Failure::usage(format!(
                "{flag} beside a code: the code says whom to meet, so give one of the two"
            ))),
            None => Ok(Self { is_by_code: true, is_rendezvous_by_code, ..self }),
        }
    }

    /// `config` with these settings but for the key.
    pub(crate) fn apply(
        self,
        config: Config,
        environment: &Environment,
    ) -> Result<(Config, IdentityFile), Failure> {
        let callers = self.callers(environment)?;
        let (empty, is_by_code) = (Environment::default(), self.is_by_code);
        // Whoever gives a code means it, whatever the environment says of other meetings.
        let of_meeting = if is_by_code { &empty } else { environment };
        let room = of_meeting.setting("--room", self.room, &["ROOM"])?;
        let peer: Option<String> = of_meeting.setting("--peer", self.peer, &["PEER"])?;
        let peer = peer.map(|id| WorkerId::new(&id)).transpose();
        let callers = if is_by_code { None } else { callers };
        if callers.is_some() && !matches!(peer, Ok(None)) {
            environment.kept(Err::<(), _>(Failure::usage(
                "ACCEPT (--accept) beside PEER (--peer): a worker waits for a call, or calls; give one of the two",
            )))?;
        }
        let peer = peer.map_err(|why| Failure::usage(format!("PEER (--peer): {why}")));
        let peer = environment.kept(peer)?;
        let search = environment.setting("--search", self.search, &["SEARCH"])?;
        let identity: Option<PathBuf> =
            environment.setting("--identity", self.identity, &["IDENTITY"])?;
        let identity = environment.kept(identity_file(identity, environment))?;
        let secret = SECRET.read(self.room_secret, self.room_secret_file, of_meeting);
        let secret = environment.kept(secret)?;
        let secret = secret.map(|words| RoomSecret::new(&words));
        if secret.as_ref().is_some_and(RoomSecret::is_empty) {
            environment.kept(Err::<(), _>(Failure::usage(
                "ROOM_SECRET or ROOM_SECRET_FILE (--room-secret, --room-secret-file): expected words; `holepunch invite` makes some up",
            )))?;
        }
        let by = if self.is_rendezvous_by_code { NamedBy::Code } else { NamedBy::Own };
        let token = self.token.read(&config.rendezvous, by, environment)?;
        let switch = |flag, on, variable| environment.switch(flag, on, variable);
        let proxy = Proxy::for_rendezvous(&config.rendezvous, |name| environment.get(name));
        let room = room.map(|RoomArg(room)| room).unwrap_or_default();
        let (room, room_mode) = match &callers {
            // It waits for no stranger who has named no room either; an older rendezvous, too, offers it to nobody here.
            Some(_) if room.is_default() => (room_of_calls()?, Some(RoomMode::Call)),
            Some(_) | None => (room, config.room_mode),
        };
        let config = Config {
            names: NAMES,
            token,
            proxy: environment.kept(proxy.map_err(Failure::usage))?,
            room,
            room_mode,
            callable: callers.is_some(),
            callers: callers.map(|Callers(named)| named).unwrap_or_default(),
            peer,
            search: search.map_or(SearchWish::Usual, |SearchArg(search)| search),
            room_secret: secret,
            relay: !switch("--no-relay", self.no_relay, "NO_RELAY")?,
            port_mapping: !switch("--no-port-mapping", self.no_port_mapping, "NO_PORT_MAPPING")?,
            host_candidates: !switch(
                "--no-host-candidates",
                self.no_host_candidates,
                "NO_HOST_CANDIDATES",
            )?,
            ..config
        };
        Ok((config, identity))
    }
}

/// A room of this worker alone.
fn room_of_calls() -> Result<RoomName, Failure> {
    let name = random_hex(ROOM_BYTES)?;
    RoomName::new(&format!("{ROOM_OF_CALLS}{name}")).map_err(Failure::failed)
}

/// Whether a room is one of calls to a worker alone.
pub(crate) fn is_room_of_calls(config: &Config) -> bool {
    config.callable && config.room_mode == Some(RoomMode::Call)
}

/// `default` is the key beside the settings file; a file of that name is written `./default`.
fn identity_file(
    path: Option<PathBuf>,
    environment: &Environment,
) -> Result<IdentityFile, Failure> {
    let is_default = path.as_deref() == Some(Path::new("default"));
    let path = if is_default { environment.file().default_identity() } else { path };
    if is_default && path.is_none() {
        return Err(Failure::usage(
            "IDENTITY (--identity): `default` needs a folder for settings, and the system names none (HOME); give \
             a file",
        ));
    }
    Ok(IdentityFile { path, is_default })
}

/// The rendezvous, which has to be named.
pub(crate) fn rendezvous_url(
    flag: Option<String>,
    environment: &Environment,
) -> Result<RendezvousUrl, Failure> {
    rendezvous_if_named(flag, environment)?.ok_or_else(no_rendezvous)
}

/// The rendezvous, where one is named.
pub(crate) fn rendezvous_if_named(
    flag: Option<String>,
    environment: &Environment,
) -> Result<Option<RendezvousUrl>, Failure> {
    named("--rendezvous-url", flag, environment)
}

/// No rendezvous is named.
pub(crate) fn no_rendezvous() -> Failure {
    Failure::usage(
        "the URL of the rendezvous is missing: `holepunch login https://rendezvous.example` remembers one, and \
         RENDEZVOUS_SERVICE_URL or --rendezvous-url name one",
    )
}

/// The rendezvous, by another flag and with a default.
pub(crate) fn rendezvous_url_or(
    flag: &str,
    value: Option<String>,
    default: &str,
    environment: &Environment,
) -> Result<RendezvousUrl, Failure> {
    let named = named(flag, value, environment)?;
    named.map_or_else(|| default.parse().map_err(Failure::usage), Ok)
}

/// What is wrong with a setting is told together with its text, and a password may stand in this one. So it is taken as
/// text first, and what reads it leaves the password out.
fn named(
    flag: &str,
    value: Option<String>,
    environment: &Environment,
) -> Result<Option<RendezvousUrl>, Failure> {
    let variables = ["RENDEZVOUS_SERVICE_URL"];
    let place = match environment.found(&variables) {
        Some((Source::File(name), _)) if value.is_none() => environment.file().place(name),
        Some(_) | None => format!("RENDEZVOUS_SERVICE_URL ({flag})"),
    };
    let text: Option<String> = environment.setting(flag, value, &variables)?;
    let url = text.map(|text| text.parse()).transpose();
    url.map_err(|why| Failure::usage(format!("{place}: {why}")))
}
