//! The command line: `holepunch rendezvous | worker | bench | chat | pipe | forward | send | receive | demo | doctor | …`.
//!
//! A library so that test laboratories can run the same commands in processes of their own.
//! Each command is a module: it turns flags and environment variables into the configuration of a
//! library crate, runs it, and prints. Results go to standard output, logs to standard error.

mod bench;
mod chat;
mod code;
mod config_file;
mod demo;
mod doctor;
mod documents;
mod entry;
mod exit;
mod forward;
mod headings;
mod hints;
mod inspecting;
mod invite;
mod joining;
mod lab;
mod line_editor;
mod load;
mod logging;
mod nat;
mod open_files;
mod output;
mod path_history;
mod peering;
mod pipe;
mod relay;
mod reloading;
mod rendezvous;
mod screen;
mod secrets;
mod service_manager;
mod settings;
mod signals;
mod suspending;
mod table;
mod token;
mod transfer;
mod version;
mod why;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use holepunch_programs::outlive_the_size_limit;

use code::Code;
use config_file::ConfigFile;
use exit::Failure;
use headings::LOGGING;
use inspecting::Inspection;
use logging::LogFormat;
use settings::Environment;

pub use config_file::{
    KEYS as SETTINGS_FILE_KEYS, Key as SettingsFileKey, SERVICE_KEYS, ServiceKey,
};

/// After a command has ended, time for what still runs in the background (a name look-up that
/// hangs, say) before the process ends all the same.
const LINGER: Duration = Duration::from_millis(50);

/// A page of the help is no wider than this, however wide the terminal is.
const HELP_COLUMNS_MAX: usize = 100;

macro_rules! examples {
    () => {
        "Examples:\n  \
           holepunch demo             all of it, on this machine\n  \
           holepunch send FILE        prints a code, such as 7-guitar-fox\n  \
           holepunch 7-guitar-fox     on the other side: receives it\n\
         Both sides set RENDEZVOUS_SERVICE_URL to a rendezvous that both reach."
    };
}

/// Connects two workers directly by UDP through their NATs.
///
/// What goes over a link is encrypted from worker to worker. Two that no direct path links use a relay, where the rendezvous has one.
#[derive(Debug, Parser)]
#[command(
    name = "holepunch",
    version = version::SHORT,
    long_version = version::long(),
    propagate_version = true,
    max_term_width = HELP_COLUMNS_MAX,
    after_help = examples!(),
    after_long_help = concat!("Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.\n", examples!())
)]
struct Cli {
    /// How logs are written to standard error [env: LOG_FORMAT] [default: text on a terminal, else
    /// json]
    #[arg(long, global = true, value_name = "text|json", help_heading = LOGGING, hide_short_help = true)]
    log_format: Option<LogFormat>,
    /// Which logs, as `info` or `warn,holepunch_worker=debug`
    ///
    /// [env: RUST_LOG] [default: info; less for all but rendezvous and worker]
    #[arg(long, global = true, value_name = "FILTER", help_heading = LOGGING)]
    log: Option<String>,
    /// The settings file [env: HOLEPUNCH_CONFIG] [default: ~/.config/holepunch/config.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Settings",
        hide_short_help = true
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Send(transfer::SendArgs),
    Receive(transfer::ReceiveArgs),
    Chat(chat::Args),
    Pipe(pipe::Args),
    Forward(forward::Args),
    Bench(bench::Args),
    Login(config_file::LoginArgs),
    Config(config_file::ConfigArgs),
    Invite(invite::Args),
    Doctor(doctor::Args),
    Nat(nat::Args),
    Why(why::Args),
    Demo(demo::Args),
    Worker(worker::Args),
    Rendezvous(Box<rendezvous::Args>),
    Relay(relay::Args),
    Token(token::Args),
    Lab(Box<lab::Args>),
    Load(load::Args),
    Completions(documents::CompletionsArgs),
    Man(documents::ManArgs),
}

impl Command {
    /// What of a service's settings is to be looked at, if that is asked for.
    fn inspection(&self) -> Option<Inspection> {
        let asked = if let Self::Rendezvous(args) = self {
            args.inspecting
        } else if let Self::Relay(args) = self {
            args.inspecting
        } else if let Self::Worker(args) = self {
            args.inspecting
        } else {
            return None;
        };
        asked.asked()
    }

    /// Commands that print results are not to be drowned in logs.
    fn default_filter(&self) -> &'static str {
        match self {
            Self::Rendezvous(_) | Self::Relay(_) | Self::Worker(_) => "info",
            Self::Lab(_) | Self::Load(_) | Self::Invite(_) | Self::Why(_) => "warn",
            // What it says is its result, or its error.
            Self::Config(_)
            | Self::Login(_)
            | Self::Doctor(_)
            | Self::Nat(_)
            | Self::Token(_)
            | Self::Completions(_)
            | Self::Man(_) => "error",
            // They show each step themselves.
            Self::Bench(_)
            | Self::Chat(_)
            | Self::Pipe(_)
            | Self::Forward(_)
            | Self::Demo(_)
            | Self::Send(_)
            | Self::Receive(_) => "error",
        }
    }
}

/// The whole command line, with all commands and flags and their help.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line `args`, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (cli, matches) = match parse(with_command(args)) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are no errors; clap knows where each text belongs.
            if error.use_stderr() {
                let _when_nobody_reads = error.print();
                return exit::usage();
            }
            output::checked(error.print());
            return written(ExitCode::SUCCESS);
        }
    };
    let environment = Environment::of_process();
    if let Some(asked) = cli.command.inspection() {
        return written(inspect(asked, cli, &matches, environment));
    }
    let file = ConfigFile::read(cli.config.clone(), |name| environment.get(name));
    let started = file.and_then(|file| start(cli, &environment.with_file(file)));
    match started {
        Ok(code) => written(code),
        Err(failure) => failure.print(),
    }
}

/// Looks at the settings of a service, in place of running it.
fn inspect(
    asked: Inspection,
    cli: Cli,
    matches: &ArgMatches,
    environment: Environment,
) -> ExitCode {
    let (file, mut faults) = ConfigFile::read_all(cli.config.clone(), |name| environment.get(name));
    let environment = environment.with_file(file).for_check();
    if asked == Inspection::Print {
        let mut root = Cli::command();
        // With the flags of all commands.
        root.build();
        if let Some((name, matches)) = matches.subcommand()
            && let Some(command) = root.find_subcommand(name)
        {
            inspecting::print(command, matches, &environment);
        }
        return if faults.is_empty() { ExitCode::SUCCESS } else { inspecting::report(&faults) };
    }
    let checked = check(cli, &environment);
    faults.extend(environment.faults());
    faults.extend(checked.err());
    inspecting::report(&faults)
}

/// Reads all settings of a service, with a log for what is no fault.
fn check(cli: Cli, environment: &Environment) -> Result<(), Failure> {
    let format = environment.setting("--log-format", cli.log_format, &["LOG_FORMAT"])?;
    let filter: Option<String> = environment.setting("--log", cli.log, &["RUST_LOG"])?;
    let log = logging::start(format, filter.as_deref(), "warn");
    let _until_the_end = environment.kept(log.map(Some))?;
    let command = cli.command;
    if let Command::Rendezvous(args) = command {
        rendezvous::check(*args, environment)
    } else if let Command::Relay(args) = command {
        relay::check(args, environment)
    } else if let Command::Worker(args) = command {
        worker::check(args, environment)
    } else {
        Ok(())
    }
}

fn parse(args: Vec<OsString>) -> Result<(Cli, ArgMatches), clap::Error> {
    // What clap decides by itself heeds more variables than NO_COLOR.
    let colours = if screen::colours_are_wanted() { ColorChoice::Auto } else { ColorChoice::Never };
    let matches = Cli::command().color(colours).try_get_matches_from(args)?;
    Ok((Cli::from_arg_matches(&matches)?, matches))
}

/// A code alone, or a part of one, is what `receive` is called with: it says what is missing.
fn with_command(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let is_code = |text: &str| Code::is_like(text) || Code::is_part(text);
    if args.get(1).and_then(|first| first.to_str()).is_some_and(is_code) {
        args.insert(1, "receive".into());
    }
    args
}

/// The exit code of a command that has ended so; whose result is lost has failed.
fn written(code: ExitCode) -> ExitCode {
    output::lost().map_or(code, |why| Failure::failed(why).print())
}

fn start(cli: Cli, environment: &Environment) -> Result<ExitCode, Failure> {
    let format = environment.setting("--log-format", cli.log_format, &["LOG_FORMAT"])?;
    let filter = environment.setting("--log", cli.log, &["RUST_LOG"])?;
    let _until_the_end = logging::start(format, filter.as_deref(), cli.command.default_filter())?;
    open_files::raise_limit();
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
    // On a thread of the runtime: from outside, each time that a stream has something, another thread would
    // have to be woken.
    let (command, environment) = (cli.command, environment.clone());
    let running = runtime.spawn(async move { run_command(command, &environment).await });
    let outcome = runtime.block_on(running).unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(Failure::failed(format!("the command was cancelled: {error}"))),
    });
    runtime.shutdown_timeout(LINGER);
    outcome
}

async fn run_command(command: Command, environment: &Environment) -> Result<ExitCode, Failure> {
    // Any of them may have a file for its standard output.
    outlive_the_size_limit();
    match command {
        Command::Rendezvous(args) => rendezvous::run(*args, environment).await,
        Command::Relay(args) => relay::run(args, environment).await,
        Command::Token(args) => token::run(args),
        Command::Worker(args) => worker::run(args, environment).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Lab(args) => lab::run(*args).await,
        Command::Load(args) => load::run(args, environment).await,
        Command::Nat(args) => nat::run(args, environment).await,
        Command::Doctor(args) => doctor::run(args, environment).await,
        Command::Invite(args) => invite::run(args, environment),
        Command::Config(args) => config_file::run_config(&args, environment),
        Command::Login(args) => config_file::run_login(args, environment).await,
        Command::Why(args) => why::run(args).await,
        Command::Bench(args) => bench::run(args, environment).await,
        Command::Send(args) => transfer::run_send(args, environment).await,
        Command::Receive(args) => transfer::run_receive(args, environment).await,
        Command::Chat(args) => chat::run(args, environment).await,
        Command::Pipe(args) => pipe::run(args, environment).await,
        Command::Forward(args) => forward::run(args, environment).await,
        Command::Completions(args) => documents::run_completions(&args, Cli::command()),
        Command::Man(args) => documents::run_man(&args, Cli::command()),
    }
}
