//! `holepunch config`: which settings there are, and where each comes from.

use std::process::ExitCode;

use holepunch_worker::RendezvousUrl;
use serde::Serialize;

use super::{KEYS, Key};
use crate::exit::Failure;
use crate::output;
use crate::settings::{Environment, Source};
use crate::table::table;

/// Show the settings that are remembered, and where each comes from
///
/// A flag is over an environment variable, and that is over the settings file, config.toml in
/// $XDG_CONFIG_HOME/holepunch or ~/.config/holepunch. The file holds any of: rendezvous, token, stun_servers, identity,
/// room_secret_file, name; and settings of the services, which `--print-config` of each shows. `holepunch login URL` writes the
/// rendezvous and its token into it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch config\n  \
    holepunch config --json")]
pub(crate) struct Args {
    /// Print a JSON object, in one line
    #[arg(long)]
    json: bool,
}

/// What is known of one setting.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// `null` where it is not set. No password is in it.
    pub(crate) value: Option<String>,
    /// `environment`, `file` or `none`.
    pub(crate) from: &'static str,
    /// The variable, where it comes from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variable: Option<String>,
    flag: &'static str,
    meaning: &'static str,
}

/// All settings.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) file: Option<String>,
    /// Whether the file is there.
    pub(crate) is_there: bool,
    pub(crate) settings: Vec<Setting>,
}

impl Settings {
    pub(crate) fn of(environment: &Environment) -> Self {
        let file = environment.file();
        Self {
            is_there: file.path.as_ref().is_some_and(|path| path.exists()),
            file: file.path.as_ref().map(|path| path.display().to_string()),
            settings: KEYS.iter().map(|key| Setting::of(key, environment)).collect(),
        }
    }
}

impl Setting {
    fn of(key: &Key, environment: &Environment) -> Self {
        let Key { name, variable, flag, meaning } = *key;
        let found = environment.found(&[variable]);
        let (from, variable) = match &found {
            None => ("none", None),
            Some((Source::Variable(variable), _)) => ("environment", Some(variable.to_string())),
            Some((Source::File(_), _)) => ("file", None),
        };
        let value = found.map(|(_, text)| without_password(name, text));
        Self { name, value, from, variable, flag, meaning }
    }
}

/// A value as it may be shown: the rendezvous is a URL, with a password perhaps.
pub(crate) fn without_password(name: &str, text: &str) -> String {
    match text.parse::<RendezvousUrl>() {
        _ if name == "token" => "(hidden)".to_owned(),
        _ if !matches!(name, "rendezvous" | "rendezvous-url") => text.to_owned(),
        Ok(url) => url.public(),
        Err(why) => why.to_string(),
    }
}

pub(crate) fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let settings = Settings::of(environment);
    if args.json {
        output::json_line(&settings);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = settings
        .settings
        .iter()
        .map(|it| {
            let value = it.value.clone().unwrap_or_else(|| "–".to_owned());
            let from = it.variable.clone().unwrap_or_else(|| it.from.to_owned());
            vec![it.name.to_owned(), value, from]
        })
        .collect();
    output::table(&table(&["setting", "value", "from"], &rows));
    output::line(match (&settings.file, settings.is_there) {
        (Some(path), true) => format!("file: {path}"),
        (Some(path), false) => {
            format!("file: {path} (not there yet; `holepunch login URL` makes it)")
        }
        (None, _) => "file: none, since the system names no folder for settings (HOME)".to_owned(),
    });
    Ok(ExitCode::SUCCESS)
}
