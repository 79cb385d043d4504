//! `--print-config` and `--check-config`: what a service would run with, and whether it could.

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config_file::{KEYS, SERVICE_KEYS, without_password};
use crate::exit::{self, Failure};
use crate::output;
use crate::settings::{Environment, Source};
use crate::table::table;

/// The options of every service.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(id = "inspecting")]
pub(crate) struct Args {
    /// Print all settings, and where each comes from
    ///
    /// A flag, a variable, the settings file, or the default. Of secrets it is told only that they are set
    #[arg(
        long,
        help_heading = "Settings",
        conflicts_with = "check_config",
        hide_short_help = true
    )]
    print_config: bool,
    /// Read all settings and their files, and tell all that is wrong
    ///
    /// Nothing is opened or begun. The exit code is 0, or 2 where something is wrong
    #[arg(long, help_heading = "Settings", hide_short_help = true)]
    check_config: bool,
}

/// What is asked for in place of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inspection {
    Print,
    Check,
}

impl Args {
    pub(crate) fn asked(self) -> Option<Inspection> {
        match self {
            Self { print_config: true, .. } => Some(Inspection::Print),
            Self { check_config: true, .. } => Some(Inspection::Check),
            _ => None,
        }
    }
}

/// Tells what was found wrong.
pub(crate) fn report(faults: &[Failure]) -> ExitCode {
    for fault in faults {
        // Each in a line of its own.
        let _code = fault.print();
    }
    if faults.is_empty() {
        output::line("the settings are good");
        return ExitCode::SUCCESS;
    }
    exit::usage()
}

/// Prints what a command would run with.
pub(crate) fn print(command: &Command, matches: &ArgMatches, environment: &Environment) {
    let settings = command.get_arguments().filter(|arg| arg.get_long().is_some());
    let rows = settings.filter_map(|arg| row(arg, matches, environment)).collect::<Vec<_>>();
    output::table(&table(&["setting", "value", "from"], &rows));
}

/// A setting, its value, and where that comes from; none of what is no setting, as `--help`.
fn row(arg: &Arg, matches: &ArgMatches, environment: &Environment) -> Option<Vec<String>> {
    let flag = arg.get_long()?;
    let (variables, is_secret) = variables(flag)?;
    let shown = |text: &str| {
        if is_secret { "(set)".to_owned() } else { without_password(flag, text) }
    };
    let (value, from) = if let Some(value) = given(arg, matches) {
        (shown(&value), format!("--{flag}"))
    } else {
        match environment.found(&variables) {
            Some((Source::Variable(name), text)) => (shown(text), name.to_owned()),
            Some((Source::File(_), text)) => (shown(text), "file".to_owned()),
            None => (of_help(arg), "default".to_owned()),
        }
    };
    Some(vec![flag.to_owned(), value, from])
}

/// The variables that mean the same as a flag, and whether its value is a secret.
fn variables(flag: &str) -> Option<(Vec<&'static str>, bool)> {
    let name = flag.replace('-', "_");
    // A variable of the baseline has a second name, and a port alone is an address, too.
    let second = match flag {
        "listen" => Some("PORT"),
        "stun-host" => Some("STUN_HOST"),
        "stun-port" => Some("STUN_PORT"),
        _ => None,
    };
    let of_people = KEYS.iter().find(|key| key.flag.strip_prefix("--") == Some(flag));
    let of_service = SERVICE_KEYS.iter().find(|key| key.name == name);
    let (first, is_secret) = match (of_people, of_service) {
        (Some(key), _) => (key.variable, false),
        (None, Some(key)) => (key.variable, key.is_secret),
        (None, None) => return None,
    };
    Some(([first].into_iter().chain(second).collect(), is_secret))
}

/// What the command line says of it.
fn given(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return None;
    }
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return Some("true".to_owned());
    }
    let values = matches.get_raw(id)?.map(|value| value.to_string_lossy());
    Some(values.collect::<Vec<_>>().join(","))
}

/// The default, as the help has it.
fn of_help(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let default = help.split_once("[default: ").and_then(|(_, rest)| rest.split(']').next());
    let of_switch = if arg.get_action().takes_values() { "–" } else { "false" };
    default.unwrap_or(of_switch).to_owned()
}
