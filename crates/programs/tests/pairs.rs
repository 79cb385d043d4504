//! Every program meets every other one: where the two do not match, both say so, with the names of both, within 5 s.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/outage.rs"]
mod outage;

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use holepunch_link::Link;
use holepunch_programs::bench::{Settings, bench};
use holepunch_programs::chat::{Chat, Form, chat};
use holepunch_programs::forward::{Forward, forward};
use holepunch_programs::pipe::{Input, Output, Progress, pipe};
use holepunch_programs::transfer::{self, Listing, ReceiveOptions};
use outage::{Outage, pair, passing};
use tempfile::TempDir;
use tokio::time::Instant;

const NEVER: Outage = Outage { after: u64::MAX, lasts: Duration::ZERO };
/// So soon both sides know that they do not match.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// What a side runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Send,
    Receive,
    Chat,
    Pipe,
    Forward,
    Bench,
    /// A bare worker, or a program of somebody else's that waits for its own kind.
    Nothing,
}

use Program::{Bench, Chat as Talk, Forward as Carry, Nothing, Pipe, Receive, Send};

const ALL: [Program; 7] = [Send, Receive, Talk, Pipe, Carry, Bench, Nothing];

impl Program {
    /// The command that a person runs.
    fn command(self) -> &'static str {
        match self {
            Send => "send",
            Receive => "receive",
            Talk => "chat",
            Pipe => "pipe",
            Carry => "forward",
            Bench => "bench",
            Nothing => "worker",
        }
    }

    fn matches(self, other: Self) -> bool {
        match self {
            Send => other == Receive,
            Receive => other == Send,
            Talk | Pipe | Carry | Bench => other == self,
            Nothing => true,
        }
    }

    /// Why it has failed, and after how long; it leaves then, as the commands do.
    async fn fails(self, link: &Link, folder: &TempDir) -> Option<(String, Duration)> {
        let began = Instant::now();
        let why = match self {
            Send => {
                let listing = Arc::new(Listing::of(&[folder.path().join("file")]).unwrap());
                transfer::send(link, &listing, &Arc::default())
                    .await
                    .err()
                    .map(|why| why.to_string())
            }
            Receive => {
                let (into, options) = (folder.path(), ReceiveOptions::default());
                let received = transfer::receive(link, into, options, &Arc::default()).await;
                received.err().map(|why| why.to_string())
            }
            Talk => {
                let settings = Chat { name: None, form: Form::Json };
                let (mut input, quiet) = (tokio::io::empty(), |_: &str| ());
                let talk = chat(link, &settings, &mut input, tokio::io::sink(), &quiet).await;
                talk.err().map(|why| why.to_string())
            }
            Pipe => {
                let (mut input, mut output) =
                    (Input::new(std::io::empty()), Output::new(std::io::sink()).unwrap());
                let piped = pipe(link, &mut input, &mut output, &Progress::default()).await;
                piped.err().map(|why| why.to_string())
            }
            Carry => forward(link, &mut Forward::default()).await.err().map(|why| why.to_string()),
            Bench => {
                let ended = bench(link, Settings::default(), ready(()), |_| ()).await;
                ended.err().map(|why| why.to_string())
            }
            Nothing => pending().await,
        };
        let took = began.elapsed();
        link.close("this side has failed");
        why.map(|why| (why, took))
    }
}

/// What the two come to.
async fn meet(first: Program, second: Program) -> [Option<(String, Duration)>; 2] {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    folders.iter().for_each(|folder| std::fs::write(folder.path().join("file"), "x").unwrap());
    let (a, b, _state, _line) = pair(NEVER).await;
    let both = async {
        let [first, second] = [(first, &a, &folders[0]), (second, &b, &folders[1])].map(
            |(program, link, folder)| async move {
                // Whoever runs nothing stays until the other one leaves.
                tokio::select! {
                    biased;
                    failed = program.fails(link, folder) => failed,
                    _left = link.closed(), if program == Nothing => None,
                }
            },
        );
        tokio::join!(first, second).into()
    };
    passing(both).await
}

#[tokio::test(start_paused = true)]
async fn two_that_do_not_match_say_so_on_both_sides_whichever_has_begun() {
    for first in ALL {
        for second in ALL.into_iter().filter(|second| !first.matches(*second)) {
            let told = meet(first, second).await;
            for (own, other, told) in [(first, second, &told[0]), (second, first, &told[1])] {
                if own == Nothing {
                    continue;
                }
                // `bench` waits for older ones, that wait for a direct path before they say anything.
                let is_patient = own == Bench && other == Nothing;
                let (why, took) =
                    told.as_ref().unwrap_or_else(|| panic!("{own:?} with {other:?} succeeds"));
                assert!(
                    *took < KNOWN_WITHIN || is_patient,
                    "{own:?} with {other:?}: {took:?}, {why}"
                );
                for command in [own.command(), other.command()] {
                    let named = format!("`holepunch {command}`");
                    assert!(why.contains(&named), "{own:?} with {other:?}: {why}");
                }
            }
        }
    }
}
