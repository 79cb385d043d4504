//! A peer that is there, and never says its last word, keeps no program for ever.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/outage.rs"]
mod outage;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use holepunch_link::{Link, RecvStream, SendStream};
use holepunch_programs::bench::{Settings, bench};
use holepunch_programs::chat::{Chat, Form, chat};
use holepunch_programs::pipe::{Input, Output, Progress, pipe};
use holepunch_programs::transfer::wire::{self, Answer, FromReceiver, FromSender, Unoffered};
use holepunch_programs::transfer::{self, Listing, ReceiveOptions};
use holepunch_programs::{Agreed, Greeting, agree};
use outage::{Outage, pair, passing};
use tempfile::TempDir;
use tokio::time::Instant;

const NEVER: Outage = Outage { after: u64::MAX, lasts: Duration::ZERO };
/// A peer may be silent for so long.
const SILENT_MAX: Duration = Duration::from_secs(30 * 60);

/// Why a program fails against a peer that does something and is silent from then on. The program runs on the side that
/// has begun where `is_first`. It fails `within` this time, where there is one: the clock passes by, too, while a program
/// waits for the real disk to have what was received.
async fn fails<T, E: ToString>(
    is_first: bool,
    program: impl AsyncFnOnce(&Link) -> Result<T, E>,
    peer: impl AsyncFnOnce(&Link) -> (SendStream, RecvStream),
    within: Option<Duration>,
) -> String {
    let (a, b, _state, _line) = pair(NEVER).await;
    let (own, other) = if is_first { (&a, &b) } else { (&b, &a) };
    let silent = async {
        let _open = peer(other).await;
        pending::<()>().await;
    };
    let began = Instant::now();
    let outcome = passing(async {
        tokio::select! {
            outcome = program(own) => outcome,
            () = silent => unreachable!("it stays"),
        }
    });
    let why = outcome.await.map(|_| ()).map_err(|error| error.to_string()).unwrap_err();
    let took = began.elapsed();
    let is_late = within.is_some_and(|within| took > within + Duration::from_secs(60));
    assert!(took >= SILENT_MAX && !is_late, "{took:?}: {why}");
    assert!(why.contains("the peer is there"), "{why}");
    why
}

/// Greets as a program does.
async fn greets(link: &Link, program: &str, part: &str) -> (SendStream, RecvStream) {
    let own = Greeting::new(program, part, 1).with("received").with("confirms");
    let Agreed { send, recv, .. } = agree(link, &own).await.unwrap();
    (send, recv)
}

async fn receives(messages: &[FromSender]) -> String {
    let into = TempDir::new().unwrap();
    let program = async |link: &Link| {
        transfer::receive(link, into.path(), ReceiveOptions::default(), &Arc::default()).await
    };
    let peer = async |link: &Link| {
        let (mut send, recv) = greets(link, "transfer", "send").await;
        let mut said = Vec::new();
        messages.iter().for_each(|message| wire::encode(message, &mut said));
        send.write_all(&said).await.unwrap();
        (send, recv)
    };
    fails(false, program, peer, None).await
}

fn nothing_listed() -> FromSender {
    FromSender::Listed { entries: 0, bytes: 0, unoffered: Unoffered::default() }
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_does_not_say_that_it_knows() {
    let why = receives(&[nothing_listed(), FromSender::Finished {}]).await;
    assert!(why.contains("waiting for the sender to know"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_does_not_say_that_this_is_all() {
    let why = receives(&[nothing_listed()]).await;
    assert!(why.contains("waiting for the sender to say that this is all"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_does_not_say_what_is_on_its_disk_and_still_tells_how_much_has_come() {
    let from = TempDir::new().unwrap();
    let file = from.path().join("file");
    std::fs::write(&file, [7; 4000]).unwrap();
    let listing = Arc::new(Listing::of(&[file]).unwrap());
    let program = async |link: &Link| transfer::send(link, &listing, &Arc::default()).await;
    let peer = async |link: &Link| {
        let (mut send, recv) = greets(link, "transfer", "receive").await;
        let mut said = Vec::new();
        wire::encode(&FromReceiver::Answers(vec![(0, Answer::Whole {})]), &mut said);
        send.write_all(&said).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(SILENT_MAX / 200).await;
            said.clear();
            wire::encode(&FromReceiver::Received { bytes: 4000 }, &mut said);
            send.write_all(&said).await.unwrap();
        }
        (send, recv)
    };
    let why = fails(true, program, peer, Some(SILENT_MAX * 7 / 5)).await;
    assert!(why.contains("waiting for the receiver to have it on its disk"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_pipe_that_is_not_confirmed() {
    let program = async |link: &Link| {
        let mut output = Output::new(std::io::sink()).unwrap();
        pipe(link, &mut Input::new(&b"all"[..]), &mut output, &Progress::default()).await
    };
    let peer = async |link: &Link| {
        let (mut send, recv) = greets(link, "pipe", "").await;
        send.finish().unwrap();
        (send, recv)
    };
    for is_first in [true, false] {
        let why = fails(is_first, program, peer, Some(SILENT_MAX)).await;
        assert!(why.contains("waiting for the peer to know that, too"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_chat_that_is_not_answered() {
    let program = async |link: &Link| {
        let settings = Chat { name: None, form: Form::Json };
        chat(link, &settings, &b"one\n"[..], tokio::io::sink(), &|_| ()).await
    };
    let peer = async |link: &Link| greets(link, "chat", "").await;
    let why = fails(true, program, peer, Some(SILENT_MAX)).await;
    assert!(why.contains("the chat is over"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_side_of_bench_that_does_nothing() {
    let program = async |link: &Link| {
        bench(link, Settings::of_at_most(Duration::ZERO), std::future::ready(()), |_| ()).await
    };
    let peer = async |link: &Link| greets(link, "bench", "").await;
    let why = fails(true, program, peer, Some(SILENT_MAX)).await;
    assert!(why.contains("waiting for its part of the measurement"), "{why}");
    let why = fails(false, program, peer, Some(SILENT_MAX * 3)).await;
    assert!(why.contains("has told no result"), "{why}");
}
