//! The last moments: whenever the network is out for a while, both sides come to the same end.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/outage.rs"]
mod outage;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holepunch_link::{CloseCode, Link};
use holepunch_programs::chat::{Chat, Form, chat};
use holepunch_programs::pipe::{Input, Output, Progress, pipe};
use holepunch_programs::transfer::{self, Listing, ReceiveOptions};
use outage::{Outage, State, pair, passing};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::sleep;

/// A process is gone so long after it has closed its link.
const GONE_AFTER: Duration = Duration::from_millis(100);
/// A link is lost when nothing was heard for so long.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Moments before the last datagram of a program without an outage, and behind it.
const BEFORE: u64 = 30;
const BEHIND: u64 = 6;
/// How long the network is out: each moment has one of these.
const LASTS_S: [u64; 7] = [1, 25, 4, 25, 6, 25, 12];
/// More than a program's datagrams: there is no outage.
const NEVER: Outage = Outage { after: u64::MAX, lasts: Duration::ZERO };

/// What a side does, from its link to whether it has succeeded; and with what it closes the link then.
trait Program {
    const CLOSES: CloseCode;

    async fn first(&self, link: &Link) -> Result<(), String>;

    async fn second(&self, link: &Link) -> Result<(), String>;
}

/// How both have ended, and how many datagrams that took.
async fn run<P: Program>(program: &P, outage: Outage) -> ([Result<(), String>; 2], u64) {
    let (a, b, state, _line) = pair(outage).await;
    let left = Notify::new();
    let leave = |link: &Link, outcome: &Result<(), String>| {
        link.close(if outcome.is_ok() { P::CLOSES } else { CloseCode::Other });
        left.notify_one();
    };
    let first = async {
        let outcome = program.first(&a).await;
        leave(&a, &outcome);
        outcome
    };
    let second = async {
        let outcome = program.second(&b).await;
        leave(&b, &outcome);
        outcome
    };
    let both = async { <[_; 2]>::from(tokio::join!(first, second)) };
    let outcomes = passing(async {
        tokio::select! {
            outcomes = both => outcomes,
            () = lost(&left, &state, [&a, &b]) => unreachable!("it never ends"),
        }
    });
    (outcomes.await, state.seen.load(Ordering::Relaxed))
}

/// What one that has left does to the other.
async fn lost(left: &Notify, state: &State, links: [&Link; 2]) {
    left.notified().await;
    sleep(GONE_AFTER).await;
    state.is_over.store(true, Ordering::Relaxed);
    sleep(SILENCE_MAX).await;
    links.iter().for_each(|link| link.close("silence"));
    std::future::pending().await
}

/// Runs a program with an outage at each moment around its end.
async fn same_end<P: Program>(program: &P) {
    let (outcomes, datagrams) = run(program, NEVER).await;
    assert_eq!(outcomes, [Ok(()), Ok(())]);
    let lasts = LASTS_S.into_iter().cycle();
    for (after, lasts) in (datagrams.saturating_sub(BEFORE)..datagrams + BEHIND).zip(lasts) {
        for lasts in [lasts, LASTS_S[LASTS_S.len() - 1]] {
            let outage = Outage { after, lasts: Duration::from_secs(lasts) };
            let ([first, second], _) = run(program, outage).await;
            assert_eq!(first.is_ok(), second.is_ok(), "{outage:?}: {first:?}, {second:?}");
            // Whoever has not been greeted has not begun.
            let is_silent = first.as_ref().is_err_and(|why| why.contains("which program it runs"));
            assert!(
                first.is_ok() || is_silent,
                "the link lives: {outage:?}: {first:?}, {second:?}"
            );
        }
    }
}

/// `send` and `receive`.
struct Transfer(Arc<Listing>);

impl Program for Transfer {
    const CLOSES: CloseCode = CloseCode::Complete;

    async fn first(&self, link: &Link) -> Result<(), String> {
        let sent = transfer::send(link, &self.0, &Arc::default()).await;
        sent.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn second(&self, link: &Link) -> Result<(), String> {
        let into = TempDir::new().unwrap();
        let options = ReceiveOptions::default();
        let received = transfer::receive(link, into.path(), options, &Arc::default()).await;
        received.map(|_| ()).map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_of_a_transfer_come_to_the_same_end() {
    let from = TempDir::new().unwrap();
    for number in 0..5 {
        std::fs::write(from.path().join(number.to_string()), vec![number; 4000]).unwrap();
    }
    let listing = Listing::of(&[from.path().to_owned()]).unwrap();
    same_end(&Transfer(Arc::new(listing))).await;
}

/// `pipe`, one way and both ways.
struct Piped([&'static [u8]; 2]);

async fn piped(link: &Link, input: &'static [u8]) -> Result<(), String> {
    let mut output = Output::new(std::io::sink()).unwrap();
    let piped = pipe(link, &mut Input::new(input), &mut output, &Progress::default()).await;
    piped.map(|_| ()).map_err(|error| error.to_string())
}

impl Program for Piped {
    const CLOSES: CloseCode = CloseCode::Done;

    async fn first(&self, link: &Link) -> Result<(), String> {
        piped(link, self.0[0]).await
    }

    async fn second(&self, link: &Link) -> Result<(), String> {
        piped(link, self.0[1]).await
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_of_a_pipe_come_to_the_same_end() {
    static ALL: [u8; 20_000] = [7; 20_000];
    for both in [[&ALL[..], &[]], [&[], &ALL[..]], [&ALL[..], &ALL[..100]]] {
        same_end(&Piped(both)).await;
    }
}

/// `chat`, of which the first side ends the input.
struct Chatted;

impl Program for Chatted {
    const CLOSES: CloseCode = CloseCode::Done;

    async fn first(&self, link: &Link) -> Result<(), String> {
        chatted(link, &b"one\ntwo\nthree\n"[..]).await
    }

    async fn second(&self, link: &Link) -> Result<(), String> {
        let (_open, quiet) = tokio::io::duplex(16);
        chatted(link, tokio::io::BufReader::new(quiet)).await
    }
}

async fn chatted(link: &Link, input: impl tokio::io::AsyncBufRead + Unpin) -> Result<(), String> {
    let settings = Chat { name: None, form: Form::Json };
    let chatted = chat(link, &settings, input, tokio::io::sink(), &|_| ()).await;
    chatted.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test(start_paused = true)]
async fn both_sides_of_a_chat_come_to_the_same_end() {
    same_end(&Chatted).await;
}

/// A sender that is interrupted leaves a receiver that does not take it for one that knows.
#[tokio::test(start_paused = true)]
async fn who_is_interrupted_has_not_confirmed_anything() {
    let (a, b, _state, _line) = pair(NEVER).await;
    let silent = async {
        let _stream = a.open_bi().await.unwrap();
        a.close(CloseCode::Interrupted);
    };
    let (received, ()) = passing(async { tokio::join!(piped(&b, &[]), silent) }).await;
    assert!(received.is_err(), "{received:?}");
}
