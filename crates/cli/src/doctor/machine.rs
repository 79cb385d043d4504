//! What this machine alone shows: the settings, and how many files may be open.

use holepunch_link::ServerName;
use holepunch_rendezvous::open_files_limit;
use holepunch_worker::{Proxy, RendezvousUrl, Token};
use serde_json::json;

use super::check::{Check, Name};
use crate::config_file::Settings;
use crate::exit::Failure;
use crate::settings::Environment;

/// A search opens up to 256 sockets, for each of a few peers at once.
const OPEN_FILES_MIN: usize = 1024;

/// The settings that matter for reaching a rendezvous.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) url: RendezvousUrl,
    pub(super) proxy: Option<Proxy>,
    pub(super) token: Option<Token>,
}

/// What is set, and where it stands; `by_argument` says whether the rendezvous is named on the command line.
pub(super) fn settings(
    given: &Result<Given, Failure>,
    stun: &Result<Vec<ServerName>, Failure>,
    by_argument: bool,
    environment: &Environment,
) -> Check {
    let all = Settings::of(environment);
    let place = match (&all.file, all.is_there) {
        (Some(path), true) => format!("settings file {path}"),
        (Some(path), false) => format!("settings file {path} (not there)"),
        (None, _) => "no folder for settings".to_owned(),
    };
    let others: Vec<String> = (all.settings.iter())
        .filter(|it| it.value.is_some() && !(by_argument && it.name == "rendezvous"))
        .map(|it| {
            let value = it.value.as_deref().unwrap_or_default();
            format!("{} {value} ({})", it.name, it.variable.as_deref().unwrap_or(it.from))
        })
        .collect();
    let mut parts = Vec::new();
    if let (true, Ok(Given { url, .. })) = (by_argument, given) {
        parts.push(format!("rendezvous {} (command line)", url.public()));
    }
    parts.extend(others);
    let proxy = given.as_ref().ok().and_then(|given| given.proxy.as_ref());
    parts.push(proxy.map_or("no proxy".to_owned(), ToString::to_string));
    parts.push(place);
    let details = json!({
        "by_argument": by_argument, "settings": all.settings, "file": all.file,
        "is_there": all.is_there, "proxy": proxy.map(ToString::to_string),
    });
    let check = match (given, stun) {
        (Err(failure), _) => Check::fault(
            Name::Settings,
            "wrong",
            failure.why(),
            "correct it; a rendezvous is named as in holepunch doctor https://rendezvous.example",
        ),
        (Ok(_), Err(failure)) => Check::fault(
            Name::Settings,
            "wrong",
            failure.why(),
            "correct the STUN servers: HOST:PORT, with commas between them (--stun-servers, STUN_SERVERS)",
        ),
        (Ok(_), Ok(_)) => Check::ok(Name::Settings, parts.join("; ")),
    };
    check.details(details)
}

/// How many files, sockets included, this process may have open. The limit has been raised as far as it goes.
pub(super) fn open_files() -> Check {
    let Some(limit) = open_files_limit() else {
        return Check::ok(Name::OpenFiles, "the system names no limit");
    };
    let details = json!({ "limit": limit });
    let check = if limit < OPEN_FILES_MIN {
        Check::warning(
            Name::OpenFiles,
            "open_files_low",
            format!("{limit} may be open"),
            "raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of Docker)",
        )
        .means("a search for a peer's port opens up to 256 sockets, and a rendezvous one for each worker")
    } else {
        Check::ok(Name::OpenFiles, format!("{limit} may be open"))
    };
    check.details(details)
}
