//! Plays outages of the two routes of a link, and prints for how long no data moved although a route worked.
//!
//!     cargo run --release -p holepunch-line --example outages
//!     cargo run --release -p holepunch-line --example outages -- --seeds 100 --kind both
//!     cargo run --release -p holepunch-line --example outages -- --seed 7
//!     cargo run --release -p holepunch-line --example outages -- --early --without nudges
//!     cargo run --release -p holepunch-line --example outages -- --last-flight --seeds 50
//!     cargo run --release -p holepunch-line --example outages -- --dead-relay --seeds 50 --without detour
#![expect(clippy::print_stdout, reason = "a command")]

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use holepunch_line::pair::{Kind, Outcome, Scenario, Without, play};

/// What may be left out.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The relay's path is opened when QUIC can, and no sooner
    Detour,
    /// A detour is not pinged
    Nudges,
    /// A handshake that goes on by the relay is not recognized
    FollowHandshakes,
}

#[derive(Parser)]
struct Args {
    /// How many histories
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// One history, told in full
    #[arg(long)]
    seed: Option<u64>,
    /// Only those of this kind, as it is printed
    #[arg(long)]
    kind: Option<String>,
    /// Cuts just behind the handshake
    #[arg(long)]
    early: bool,
    /// Cuts that swallow the last flight of the handshake
    #[arg(long, conflicts_with = "early")]
    last_flight: bool,
    /// The relay, by which the link was made, is gone just behind the handshake
    #[arg(long, conflicts_with_all = ["early", "last_flight"])]
    dead_relay: bool,
    /// The same, and its connections are silent, not closed
    #[arg(long, conflicts_with_all = ["early", "last_flight", "dead_relay"])]
    silent_relay: bool,
    /// What is left out
    #[arg(long, value_delimiter = ',')]
    without: Vec<Part>,
    /// Stalls that are longer are told with their seed, in milliseconds
    #[arg(long, default_value_t = 1500)]
    tell_ms: u128,
}

fn tell(scenario: &Scenario, outcome: &Outcome) {
    println!("{scenario:#?}");
    for (at, side, reason) in &outcome.history {
        println!("{:>9.3} s, side {side}: {reason}", at.as_secs_f64());
    }
    let Outcome { resumed_after, stall, stall_until, empty_answers, bytes, lost, .. } = outcome;
    println!("went on {resumed_after:?} after the return of a route; {bytes} bytes");
    println!(
        "nothing moved otherwise for {stall:?}; the longer of the two was over at {stall_until:?}"
    );
    println!("answers without data: {empty_answers}; lost: {lost:?}");
}

/// The stalls of one kind of outage: after the return of a route, and otherwise.
type Stalls = [Vec<Duration>; 2];

fn row(name: &str, stalls: &mut Stalls) {
    let of = |stalls: &mut Vec<Duration>| {
        stalls.sort_unstable();
        let at = |share: usize| {
            let index = (stalls.len() * share).div_ceil(100).saturating_sub(1);
            stalls.get(index).map_or("–".to_owned(), |stall| stall.as_millis().to_string())
        };
        [50, 90, 99, 100].map(at)
    };
    let histories = stalls[1].len();
    let [returned, other] = stalls.each_mut().map(of);
    let cells = returned.iter().chain(&other).map(|ms| format!(" {ms} |"));
    println!("| {name} | {histories} |{}", cells.collect::<String>());
}

fn main() {
    let args = Args::parse();
    let scenario = |seed| {
        if args.early {
            Scenario::early(seed)
        } else if args.last_flight {
            Scenario::last_flight(seed)
        } else if args.dead_relay || args.silent_relay {
            Scenario::dead_relay(seed, args.dead_relay)
        } else {
            Scenario::new(seed)
        }
    };
    let without = Without {
        detour: args.without.contains(&Part::Detour),
        nudges: args.without.contains(&Part::Nudges),
        follow_handshakes: args.without.contains(&Part::FollowHandshakes),
    };
    if let Some(seed) = args.seed {
        let scenario = scenario(seed);
        return tell(&scenario, &play(&scenario, without));
    }
    let mut false_doubts = 0;
    let mut stalls: BTreeMap<Kind, Stalls> = BTreeMap::new();
    for seed in args.first..args.first + args.seeds {
        let scenario = scenario(seed);
        let name = format!("{:?}", scenario.kind);
        if args.kind.as_ref().is_some_and(|kind| !kind.eq_ignore_ascii_case(&name)) {
            continue;
        }
        let outcome = play(&scenario, without);
        false_doubts += outcome.false_doubts;
        let of_kind = stalls.entry(scenario.kind).or_default();
        let both = [outcome.resumed_after, outcome.stall];
        // Not every outage leaves no route.
        of_kind[0].extend(Some(outcome.resumed_after).filter(|after| !after.is_zero()));
        of_kind[1].push(outcome.stall);
        let is_odd =
            both.iter().any(|it| it.as_millis() > args.tell_ms) || outcome.empty_answers > 0;
        let has_moved = !outcome.ends_direct && scenario.kind != Kind::Narrow;
        if is_odd || outcome.lost.is_some() || has_moved {
            let Outcome { stall_until, empty_answers, lost, ends_direct, .. } = outcome;
            println!(
                "seed {seed} ({name}): {both:?} until {stall_until:?}, {empty_answers} answers without data, \
                 direct at the end: {ends_direct}, lost: {lost:?}"
            );
        }
    }
    println!(
        "| outage | histories | after the return: 50 % | 90 % | 99 % | longest | otherwise: 50 % | 90 % | 99 % | longest |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut all = Stalls::default();
    for (kind, stalls) in &mut stalls {
        all.iter_mut().zip(&*stalls).for_each(|(all, stalls)| all.extend(stalls));
        row(&format!("{kind:?}"), stalls);
    }
    row("all", &mut all);
    println!("doubts about a path on which nothing was wrong: {false_doubts}");
}
