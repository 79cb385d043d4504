//! `holepunch lab`: both real machines on simulated NATs, pair by pair and seed by seed.

mod arguments;
mod play;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use holepunch_sim::lab::{Incident, Pair, Scenario, Verdict, catalogue};
use holepunch_sim::presets::NatKind;
use holepunch_sim::report::{self, Job, Made, Request, Style, usual_kinds};

use crate::exit::Failure;
use crate::output;
use crate::settings::Environment;
use arguments::{Kinds, Ms, PairOfKinds, Percent, PlainSeconds, TwoMs, Unusual};
use play::play;

/// Seeds of each pair, unless said otherwise: enough to see that something is broken, in a few
/// seconds for all pairs.
const SEEDS: u64 = 50;
/// Most seeds of a pair: a share needs no more, and all outcomes of a pair are kept until its end.
const SEEDS_MAX: u64 = 1_000_000;
/// Most threads.
const THREADS_MAX: u64 = 256;

/// Link workers behind simulated NATs, pair by pair
///
/// It tells how often that goes well, and how fast. Exit codes: 0 all as required, 1 something is not, 2 usage, 130 interrupted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch lab                               what is required of each pair\n  \
    holepunch lab --only birthday --seeds 1000  some of it, with more seeds\n  \
    holepunch lab --matrix                      every kind of NAT with every other\n  \
    holepunch lab --html lab.html --full        both as a page, with many seeds\n  \
    holepunch lab --pair eim-apdf,hard-apdf-random --seed 7 --trace")]
pub(crate) struct Args {
    /// Show every kind of NAT with every other
    ///
    /// In place of the table of requirements.
    #[arg(long, conflicts_with_all = ["pair", "list"])]
    matrix: bool,
    /// Kinds of the matrix, or `all`; else 17 usual ones
    ///
    /// [default: 17 usual ones; --list shows all]
    #[arg(long, value_name = "KIND,KIND,…", conflicts_with_all = ["pair", "list"])]
    kinds: Option<Kinds>,
    /// Play one pair: what each of the two stands behind
    #[arg(long, value_name = "KIND,KIND", conflicts_with = "list")]
    pair: Option<PairOfKinds>,
    /// List the kinds of NAT, with a sentence for each
    #[arg(long)]
    list: bool,
    /// Only rows whose group or pair contains this text
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["pair", "list"])]
    only: Option<String>,
    /// Seeds of each pair [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    seeds: Option<u64>,
    /// As many seeds as each share needs
    ///
    /// 1,000, or 3,700 where it is to be 99.9 %.
    #[arg(long, conflicts_with_all = ["seeds", "pair"])]
    full: bool,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    first_seed: u64,
    /// The one history of a pair to play
    #[arg(long, value_name = "S", requires = "pair", conflicts_with_all = ["seeds", "first_seed"])]
    seed: Option<u64>,
    /// Tell that history line by line
    #[arg(long, requires = "pair", conflicts_with_all = ["json", "seeds"])]
    trace: bool,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=THREADS_MAX))]
    threads: Option<u64>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// Write a page with both to this file
    ///
    /// The matrix and the table.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pair", "list"])]
    html: Option<PathBuf>,
    #[command(flatten)]
    unusual: PairArgs,
}

/// What is unusual about the one pair.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "One pair (with --pair)")]
struct PairArgs {
    /// Packets lost, one way, in percent
    #[arg(long, hide_short_help = true, value_name = "PERCENT", requires = "pair")]
    loss: Option<Percent>,
    /// Losses come in bursts
    #[arg(long, hide_short_help = true, requires = "loss")]
    bursts: bool,
    /// How much later than usual a packet may come; some overtake others then
    #[arg(long, hide_short_help = true, value_name = "MS", requires = "pair")]
    jitter: Option<Ms>,
    /// One way from each worker to the core [default: 40,40]
    #[arg(long, hide_short_help = true, value_name = "MS,MS", requires = "pair")]
    ways: Option<TwoMs>,
    /// What signalling of each takes beyond that [default: 0,0]
    #[arg(long, hide_short_help = true, value_name = "MS,MS", requires = "pair")]
    lag: Option<TwoMs>,
    /// How much later the second worker comes, at least; at most twice that [default: 3]
    #[arg(long, hide_short_help = true, value_name = "SECONDS", requires = "pair")]
    later: Option<PlainSeconds>,
    /// Both have IPv6, too
    #[arg(long, hide_short_help = true, requires = "pair")]
    ipv6: bool,
    /// Both want searches that use up a block of ports
    #[arg(long, hide_short_help = true, requires = "pair", conflicts_with = "no_search")]
    exhaustive: bool,
    /// Both want no searches
    #[arg(long, hide_short_help = true, requires = "pair")]
    no_search: bool,
    /// Both tell wrong NAT profiles
    #[arg(long, hide_short_help = true, requires = "pair")]
    wrong_profiles: bool,
    /// The timers of both are 50 to 500 ms late, as on busy machines
    #[arg(long, hide_short_help = true, requires = "pair")]
    busy: bool,
    /// What happens to the link: the first worker's NAT forgets its mappings, or it comes into
    /// another network
    #[arg(long, hide_short_help = true, value_name = "rebind|move", requires = "pair")]
    incident: Option<Unusual>,
}

pub(crate) async fn run(args: Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let no_colour: Option<String> = environment.setting("", None, &["NO_COLOR"])?;
    let style = Style { colour: no_colour.is_none() && std::io::stdout().is_terminal() };
    if args.list {
        list(args.json);
        return Ok(ExitCode::SUCCESS);
    }
    match &args.pair {
        Some(pair) => one_pair(&args, args.unusual.scenario(pair), style).await,
        None => all_pairs(&args, style).await,
    }
}

fn list(json: bool) {
    let kinds = NatKind::all();
    if json {
        let kind = |kind: &NatKind| serde_json::json!({ "name": kind.to_string(), "description": kind.describe() });
        return output::json(&kinds.iter().map(kind).collect::<Vec<_>>());
    }
    let rows: Vec<Vec<String>> =
        kinds.iter().map(|kind| vec![kind.to_string(), kind.describe()]).collect();
    output::line(crate::table::table(&["kind", "what it does"], &rows).trim_end());
}

async fn one_pair(args: &Args, scenario: Scenario, style: Style) -> Result<ExitCode, Failure> {
    let seed = args.seed.unwrap_or(args.first_seed);
    if args.trace {
        let (outcome, text) = report::trace(&scenario, seed, style);
        output::own(text.trim_end());
        return Ok(ExitCode::from(u8::from(outcome.verdict == Verdict::Failed)));
    }
    let seeds = if args.seed.is_some() { 1 } else { args.seeds.unwrap_or(SEEDS) };
    let job = Job { scenario: scenario.clone(), first_seed: seed, seeds };
    let summaries = play(vec![job], args.threads).await?;
    let summary = summaries.first().ok_or_else(|| Failure::failed("nothing was played"))?;
    if args.json {
        output::own(report::json_of_one(&scenario, seed, summary));
    } else {
        output::own(report::one(&scenario, summary, style).trim_end());
    }
    Ok(ExitCode::from(u8::from(summary.unsettled() > 0)))
}

async fn all_pairs(args: &Args, style: Style) -> Result<ExitCode, Failure> {
    let request = args.request()?;
    if let Some(path) = &args.html {
        // Before the work, not after it.
        OpenOptions::new().create(true).append(true).open(path).map_err(cannot_write(path))?;
    }
    let summaries = play(request.jobs(), args.threads).await?;
    let report = request.report(summaries);
    if let Some(path) = &args.html {
        std::fs::write(path, report::html(&report, &made())).map_err(cannot_write(path))?;
        output::progress(format!("written: {}", path.display()));
    }
    if args.json {
        output::own(report::json(&report));
    } else {
        output::own(report::text(&report, style).trim_end());
    }
    Ok(ExitCode::from(u8::from(report.violated() > 0)))
}

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::failed(format!("cannot write {}: {error}", path.display()))
}

impl Args {
    /// What is to be played: the table, or the matrix, or for a page both.
    fn request(&self) -> Result<Request, Failure> {
        let matrix = self.matrix || self.kinds.is_some();
        let wants_table = !matrix || self.html.is_some();
        if !wants_table && self.only.is_some() {
            return Err(Failure::usage(
                "--only chooses rows of the table of requirements, and --matrix shows none",
            ));
        }
        let kinds = match &self.kinds {
            Some(kinds) => kinds.0.clone(),
            None if matrix || self.html.is_some() => usual_kinds(),
            None => Vec::new(),
        };
        let pairs = if wants_table { self.pairs()? } else { Vec::new() };
        let seeds = if self.full { None } else { Some(self.seeds.unwrap_or(SEEDS)) };
        Ok(Request { first_seed: self.first_seed, seeds, pairs, kinds })
    }

    fn pairs(&self) -> Result<Vec<Pair>, Failure> {
        let mut pairs = catalogue();
        if let Some(text) = &self.only {
            // The sign between two kinds is on few keyboards.
            let plain = |text: &str| text.to_lowercase().replace('×', "x");
            let wanted = plain(text);
            pairs.retain(|pair| {
                [pair.group.name(), &pair.name].iter().any(|it| plain(it).contains(&wanted))
            });
            if pairs.is_empty() {
                let groups: Vec<&str> =
                    holepunch_sim::lab::Group::ALL.iter().map(|group| group.name()).collect();
                return Err(Failure::usage(format!(
                    "no group and no pair contains {text:?}; the groups are {}",
                    groups.join(", ")
                )));
            }
        }
        Ok(pairs)
    }
}

impl PairArgs {
    fn scenario(&self, pair: &PairOfKinds) -> Scenario {
        let mut scenario = Scenario::new(pair.first, pair.second);
        scenario.loss = self.loss.map_or(0.0, |percent| percent.0);
        scenario.bursts = self.bursts;
        scenario.jitter = self.jitter.map_or(scenario.jitter, |ms| ms.0);
        scenario.ways = self.ways.map_or(scenario.ways, |times| times.0);
        scenario.lag = self.lag.map_or(scenario.lag, |times| times.0);
        scenario.later = self.later.map_or(scenario.later, |seconds| seconds.0);
        scenario.ipv6 = self.ipv6;
        scenario.busy = self.busy;
        scenario.wish = arguments::wish(self.exhaustive, self.no_search);
        if self.wrong_profiles {
            scenario.lie = Some(holepunch_sim::lab::wrong_profile);
        }
        scenario.incident = self.incident.map_or(Incident::None, |incident| incident.0);
        scenario
    }
}

/// How the page was made.
fn made() -> Made {
    let arguments = std::env::args_os().skip(1).map(|argument| {
        let text = argument.to_string_lossy().into_owned();
        let is_plain = |it: char| it.is_alphanumeric() || "-_./,=:".contains(it);
        if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
    });
    let command: Vec<String> = std::iter::once("holepunch".to_owned()).chain(arguments).collect();
    Made { command: command.join(" "), version: env!("CARGO_PKG_VERSION").to_owned() }
}
