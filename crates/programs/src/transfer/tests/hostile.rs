//! Peers that do not keep to the protocol: each is told so, and nothing outside the folder changes.

use super::super::wire::{
    Answer, BATCH_MAX, Entry, EntryKind, FILES_MAX, FileEntry, FromReceiver, FromSender, Hash,
    Modified, Unoffered, encode, read_json,
};
use super::super::{Answer as Said, Ask, Incoming, Met, PROGRAM, Part, meet, receive_asking, wire};
use super::*;
use crate::agree::{Agreed, Greeting, agree};
use crate::messages::MESSAGE_BYTES_MAX;
use holepunch_link::{Link, RecvStream, SendStream};
use std::pin::Pin;
use tokio::io::BufReader;

/// A sender, or receiver, that says whatever the test wants.
pub(super) struct Raw {
    pub(super) send: SendStream,
    recv: BufReader<RecvStream>,
}

impl Raw {
    pub(super) async fn sender(link: &Link) -> Self {
        let Met { send, recv, .. } = meet(link, Part::Send).await.unwrap();
        Self { send, recv }
    }

    pub(super) async fn say(&mut self, message: &FromSender) {
        let mut bytes = Vec::new();
        encode(message, &mut bytes);
        // Whether the other side still reads is for the test to find out.
        let _when_gone = self.send.write_all(&bytes).await;
    }

    /// The next message but those of how much has come.
    pub(super) async fn hear(&mut self) -> Option<FromReceiver> {
        let mut json = Vec::new();
        while read_json(&mut self.recv, &mut json).await.unwrap_or(false) {
            let message = FromReceiver::parse(&json).unwrap();
            if !matches!(message, FromReceiver::Received { .. }) {
                return Some(message);
            }
        }
        None
    }

    /// Hears until so many answers have come.
    async fn answered(&mut self, answers: usize) {
        let mut came = 0;
        while came < answers {
            match self.hear().await {
                Some(FromReceiver::Answers(answers)) => came += answers.len(),
                Some(FromReceiver::Results(_)) => {}
                Some(
                    FromReceiver::Asking {}
                    | FromReceiver::Received { .. }
                    | FromReceiver::Finished {},
                )
                | None => {
                    panic!("{came} answers of {answers}")
                }
            }
        }
    }

    pub(super) async fn list(&mut self, entries: Vec<Entry>) {
        let bytes = entries.iter().map(size).fold(0, u64::saturating_add);
        let length = u32::try_from(entries.len()).unwrap();
        self.say(&FromSender::Entries(entries)).await;
        self.say(&listed(length, bytes)).await;
    }

    /// Says that everything was sent, and at the end that it knows of the receiver's.
    pub(super) async fn end(&mut self) {
        self.say(&FromSender::Finished {}).await;
        while self.hear().await.is_some() {}
        self.say(&FromSender::Known {}).await;
    }

    pub(super) async fn content(&mut self, content: &[u8]) {
        let bytes = u32::try_from(content.len()).unwrap();
        self.say(&FromSender::Data { bytes }).await;
        let _when_gone = self.send.write_all(content).await;
    }
}

pub(super) fn file(path: &str, size: u64) -> Entry {
    let file = FileEntry { size, executable: false, rights: None, modified: Modified(0, 0) };
    Entry { path: path.to_owned(), kind: EntryKind::File(file) }
}

fn size(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File(file) => file.size,
        EntryKind::Folder {} => 0,
    }
}

fn hash(content: &[u8]) -> Hash {
    blake3::hash(content).into()
}

/// Plays a sender against a receiver.
async fn against<F: Future>(into: &Path, play: impl FnOnce(Raw) -> F) -> Result<Summary, String> {
    let (a, b, _sockets) = testing::pair().await;
    let progress = silent();
    let playing = async { play(Raw::sender(&a).await).await };
    let options = ReceiveOptions::default();
    let (_, received) = tokio::join!(playing, receive(&b, into, options, &progress));
    received.map_err(|error| error.to_string())
}

/// Sends one file `a` of 4 bytes, whose answer has come, and then `messages`.
async fn after_the_answer(messages: Vec<FromSender>) -> String {
    let folders = Folders::new();
    let play = async |mut raw: Raw| {
        raw.list(vec![file("a", 4)]).await;
        raw.hear().await.unwrap();
        for message in &messages {
            raw.say(message).await;
            if let FromSender::Data { bytes } = message {
                let _when_gone = raw.send.write_all(&vec![b'x'; *bytes as usize]).await;
            }
        }
        while raw.hear().await.is_some() {}
    };
    let outcome = against(folders.into.path(), play).await;
    assert!(!folders.target("a").exists());
    outcome.unwrap_err()
}

#[tokio::test]
async fn names_that_lead_out_are_refused_one_by_one() {
    let folders = Folders::new();
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().join("x").to_str().unwrap().to_owned();
    let names =
        ["../x", "a/../../x", &absolute, "C:\\x", "C:x", "a\u{202e}b", "a\0b", "", ".", "a//b"];
    let play = async |mut raw: Raw| {
        let mut entries: Vec<Entry> = names.iter().map(|name| file(name, 4)).collect();
        entries.push(file("good", 4));
        raw.list(entries).await;
        let mut refused = 0;
        while refused < names.len() + 1 {
            let Some(FromReceiver::Answers(answers)) = raw.hear().await else { panic!("answers") };
            for (index, answer) in answers {
                let is_bad = (index as usize) < names.len();
                assert_eq!(matches!(answer, Answer::Refused { .. }), is_bad, "{index}");
                refused += 1;
            }
        }
        let index = u32::try_from(names.len()).unwrap();
        raw.say(&FromSender::File { index, from: 0 }).await;
        raw.content(b"good").await;
        raw.say(&FromSender::End { hash: hash(b"good") }).await;
        raw.end().await;
    };
    let summary = against(folders.into.path(), play).await.unwrap();
    assert_eq!((summary.failed, summary.files_completed), (names.len() as u64, 1));
    assert_eq!(tree(folders.into.path()).len(), 1);
    assert!(tree(outside.path()).is_empty());
}

#[tokio::test]
async fn a_file_sent_against_a_refused_name_ends_the_transfer() {
    let folders = Folders::new();
    let play = async |mut raw: Raw| {
        raw.list(vec![file("../x", 4)]).await;
        raw.say(&FromSender::File { index: 0, from: 0 }).await;
        while raw.hear().await.is_some() {}
    };
    let error = against(folders.into.path(), play).await.unwrap_err();
    assert!(error.contains("not asked for"), "{error}");
}

#[tokio::test]
async fn what_breaks_the_order_ends_the_transfer_and_leaves_no_file() {
    let begin = || FromSender::File { index: 0, from: 0 };
    let end = || FromSender::End { hash: hash(b"xxxx") };
    let data = |bytes| FromSender::Data { bytes };
    let cases = [
        (vec![begin(), data(5)], "longer than its list says"),
        (vec![begin(), data(4), data(1)], "longer than its list says"),
        (vec![begin(), data(0)], "a piece of 0 bytes"),
        (vec![begin(), FromSender::Finished {}], "within a file"),
        (vec![begin(), begin()], "not asked for"),
        (vec![FromSender::File { index: 0, from: 2 }], "0 bytes of it are there"),
        (vec![FromSender::File { index: u32::MAX, from: 0 }], "not asked for"),
        (vec![data(4)], "content of no file"),
        (vec![end()], "the end of no file"),
        (vec![FromSender::Same { index: 0 }], "not here to compare"),
        (vec![FromSender::Differs { index: 0 }], "not here to compare"),
        (vec![FromSender::Finished {}], "1 files have not come"),
        (vec![FromSender::Entries(vec![])], "a list after the list"),
        (vec![FromSender::Failed { index: 7, reason: String::new() }], "not asked for"),
        (vec![FromSender::Known {}], "an end that has not come"),
        (vec![begin(), data(2)], "has ended"),
    ];
    for (messages, expected) in cases {
        let is_cut = expected == "has ended";
        let error = if is_cut { cut_off().await } else { after_the_answer(messages).await };
        assert!(error.contains(expected), "{error}: expected {expected}");
    }
}

/// All is here, and the sender knows: it has not said so before it has.
#[tokio::test]
async fn a_sender_that_does_not_say_that_it_knows_leaves_the_receiver_in_doubt() {
    let cases = [(None, "before its end"), (Some(FromSender::Finished {}), "behind its end")];
    for (last, expected) in cases {
        let folders = Folders::new();
        let play = async |mut raw: Raw| {
            raw.list(vec![file("empty", 0)]).await;
            raw.hear().await.unwrap();
            raw.say(&FromSender::File { index: 0, from: 0 }).await;
            raw.say(&FromSender::End { hash: hash(b"") }).await;
            raw.say(&FromSender::Finished {}).await;
            while raw.hear().await.is_some() {}
            if let Some(last) = &last {
                raw.say(last).await;
            }
        };
        let error = against(folders.into.path(), play).await.unwrap_err();
        assert!(error.contains(expected), "{error}: expected {expected}");
        assert!(folders.target("empty").exists());
    }
}

/// The sender is gone within a file.
async fn cut_off() -> String {
    let folders = Folders::new();
    let play = async |mut raw: Raw| {
        raw.list(vec![file("a", 4)]).await;
        raw.hear().await;
        raw.say(&FromSender::File { index: 0, from: 0 }).await;
        raw.content(b"xx").await;
    };
    let error = against(folders.into.path(), play).await.unwrap_err();
    let partials = partials(folders.into.path());
    assert_eq!(partials.len(), 1);
    let mode = fs::metadata(&partials[0]).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read it");
    error
}

#[tokio::test]
async fn a_shorter_file_and_a_wrong_hash_fail_alone() {
    let folders = Folders::new();
    let play = async |mut raw: Raw| {
        raw.list(["short", "wrong", "good"].map(|name| file(name, 4)).into()).await;
        raw.answered(3).await;
        for (index, content) in [(0, b"xx".as_slice()), (1, b"evil"), (2, b"good")] {
            raw.say(&FromSender::File { index, from: 0 }).await;
            raw.content(content).await;
            raw.say(&FromSender::End { hash: hash(b"good") }).await;
        }
        raw.end().await;
    };
    let summary = against(folders.into.path(), play).await.unwrap();
    assert_eq!((summary.failed, summary.files_completed), (2, 1));
    assert!(summary.failures[0].reason.contains("expected 4 bytes, came 2"), "{summary:?}");
    assert!(summary.failures[1].reason.contains("hash"), "{summary:?}");
    assert_eq!(fs::read(folders.target("good")).unwrap(), b"good");
    // What was short may go on; what was wrong may not.
    assert_eq!(tree(folders.into.path()).len(), 2);
}

#[tokio::test]
async fn lists_beyond_every_bound_are_refused() {
    let folders = Folders::new();
    let endless = async |mut raw: Raw| {
        let batch: Vec<Entry> = (0..256).map(|number| file(&number.to_string(), 0)).collect();
        let mut bytes = Vec::new();
        encode(&FromSender::Entries(batch), &mut bytes);
        // Ten times as many entries as a list may have, or until nobody reads.
        for _ in 0..10 * FILES_MAX / 256 {
            if raw.send.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let error = against(folders.into.path(), endless).await.unwrap_err();
    assert!(error.contains("lists more than"), "{error}");
    let deep = async |mut raw: Raw| {
        let path = |number: usize| format!("{number}{}/x", "/a".repeat(120));
        let entries: Vec<Entry> = (0..9000).map(|number| file(&path(number), 0)).collect();
        for batch in entries.chunks(BATCH_MAX) {
            raw.say(&FromSender::Entries(batch.to_vec())).await;
        }
        raw.say(&listed(9000, 0)).await;
        while raw.hear().await.is_some() {}
    };
    let error = against(folders.into.path(), deep).await.unwrap_err();
    assert!(error.contains("lead through more than 1000000 folders"), "{error}");
    let long = async |mut raw: Raw| {
        let length = u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap();
        let _ = raw.send.write_all(&length.to_be_bytes()).await;
        while raw.hear().await.is_some() {}
    };
    let error = against(folders.into.path(), long).await.unwrap_err();
    assert!(error.contains("expected at most"), "{error}");
    let wrong_count = async |mut raw: Raw| {
        raw.say(&listed(1, 0)).await;
        while raw.hear().await.is_some() {}
    };
    let error = against(folders.into.path(), wrong_count).await.unwrap_err();
    assert!(error.contains("a list of 1 entries"), "{error}");
    assert!(tree(folders.into.path()).is_empty());
}

#[tokio::test]
async fn sizes_without_end_are_refused_and_double_names_too() {
    let folders = Folders::new();
    let play = async |mut raw: Raw| {
        raw.list(vec![
            file("a", u64::MAX),
            file("b", u64::MAX - 1),
            file("c", i64::MAX as u64),
            file("d", 0),
            file("d", 0),
        ])
        .await;
        raw.answered(5).await;
        raw.say(&FromSender::File { index: 3, from: 0 }).await;
        raw.say(&FromSender::End { hash: hash(b"") }).await;
        raw.end().await;
    };
    let summary = against(folders.into.path(), play).await.unwrap();
    assert_eq!((summary.failed, summary.files_completed), (4, 1), "{summary:?}");
    assert!(summary.failures[2].reason.contains("no space"), "{summary:?}");
    assert!(summary.failures[3].reason.contains("twice"), "{summary:?}");
}

/// Plays a receiver against a sender of one file of 3 MB; the receiver says this after the list.
async fn sender_hears(messages: Vec<FromReceiver>) -> Result<Summary, String> {
    let folders = Folders::new();
    folders.write("file", &bytes(1, 3_000_000));
    let (a, b, _sockets) = testing::pair().await;
    let listing = Arc::new(Listing::of(&[folders.source("file")]).unwrap());
    let playing = async {
        let Met { mut send, mut recv, .. } = meet(&b, Part::Receive).await.unwrap();
        let mut said = Vec::new();
        messages.iter().for_each(|message| encode(message, &mut said));
        send.write_all(&said).await.unwrap();
        send.finish().unwrap();
        while matches!(recv.get_mut().read_chunk(usize::MAX).await, Ok(Some(_))) {}
    };
    let progress = silent();
    let (sent, ()) = tokio::join!(send(&a, &listing, &progress), playing);
    sent.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_receiver_that_breaks_the_order_ends_the_transfer() {
    let whole = |index| FromReceiver::Answers(vec![(index, Answer::Whole {})]);
    let cases = [
        (vec![whole(1)], "does not suit"),
        (vec![whole(0), whole(0)], "does not suit"),
        (vec![FromReceiver::Answers(vec![(0, Answer::There {})])], "does not suit"),
        (
            vec![FromReceiver::Answers(vec![(
                0,
                Answer::From { length: u64::MAX, hash: Hash([0; 32]) },
            )])],
            "does not suit",
        ),
        (vec![FromReceiver::Results(vec![(0, None)])], "not asked for"),
        (vec![FromReceiver::Results(vec![(9, None)])], "not asked for"),
        (vec![FromReceiver::Finished {}], "have no result"),
        (vec![FromReceiver::Asking {}, FromReceiver::Asking {}], "asks somebody twice"),
        (vec![whole(0), FromReceiver::Finished {}], "have no result"),
        (vec![whole(0)], "ended"),
        (vec![], "ended"),
    ];
    for (messages, expected) in cases {
        let error = sender_hears(messages).await.unwrap_err();
        assert!(error.contains(expected), "{error}: expected {expected}");
    }
}

#[tokio::test]
async fn a_receiver_that_gives_a_file_up_is_sent_no_more_of_it() {
    let gives_up = vec![
        FromReceiver::Answers(vec![(0, Answer::Whole {})]),
        FromReceiver::Results(vec![(0, Some("no\u{1b}[2J space".to_owned()))]),
        FromReceiver::Finished {},
    ];
    let summary = sender_hears(gives_up).await.unwrap();
    assert_eq!(failure(&summary), failure(&summary).replace('\u{1b}', ""));
    assert!(failure(&summary).contains("at the receiver"), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_holds_nobody_who_closes_the_link() {
    let folders = Folders::new();
    folders.write("file", &bytes(1, 40_000_000));
    let (a, b, _sockets) = testing::pair().await;
    let listing = Arc::new(Listing::of(&[folders.source("file")]).unwrap());
    let progress = silent();
    let playing = async {
        // One that does not tell what has come.
        let own = Greeting::new(PROGRAM, Part::Receive.word(), wire::VERSION);
        let Agreed { mut send, recv, .. } = agree(&b, &own).await.unwrap();
        let mut said = Vec::new();
        encode(&FromReceiver::Answers(vec![(0, Answer::Whole {})]), &mut said);
        send.write_all(&said).await.unwrap();
        // Nearly the stream's window: from here on nothing is taken but into queues.
        while progress.summary().bytes_transferred < 2_000_000 && b.ended().is_none() {
            tokio::task::yield_now().await;
        }
        b.close("enough");
        drop((send, recv));
    };
    let (sent, ()) = tokio::join!(send(&a, &listing, &progress), playing);
    assert!(matches!(sent, Err(TransferError::Link(_))), "{sent:?}");
    assert!(progress.summary().bytes_transferred < 40_000_000);
}

/// The first senders do not know how much has come, and would take it for a breach.
#[tokio::test]
async fn an_older_sender_is_not_told_how_much_has_come_and_may_leave_without_a_word() {
    let folders = Folders::new();
    let content = bytes(1, 3_000_000);
    let (a, b, _sockets) = testing::pair().await;
    let playing = async {
        let own = Greeting::new(PROGRAM, Part::Send.word(), wire::VERSION);
        let Agreed { send, recv, .. } = agree(&a, &own).await.unwrap();
        let mut raw = Raw { send, recv: BufReader::new(recv) };
        raw.list(vec![file("file", 3_000_000)]).await;
        raw.answered(1).await;
        raw.say(&FromSender::File { index: 0, from: 0 }).await;
        for piece in content.chunks(1_000_000) {
            raw.content(piece).await;
        }
        raw.say(&FromSender::End { hash: blake3::hash(&content).into() }).await;
        raw.say(&FromSender::Finished {}).await;
        let (mut json, mut came) = (Vec::new(), Vec::new());
        while read_json(&mut raw.recv, &mut json).await.unwrap() {
            came.push(FromReceiver::parse(&json).unwrap());
        }
        came
    };
    let progress = silent();
    let receiving = receive(&b, folders.into.path(), ReceiveOptions::default(), &progress);
    let (received, came) = tokio::join!(receiving, playing);
    assert_eq!(received.unwrap().files_completed, 1);
    assert_eq!(came, [FromReceiver::Results(vec![(0, None)]), FromReceiver::Finished {}]);
}

fn listed(entries: u32, bytes: u64) -> FromSender {
    FromSender::Listed { entries, bytes, unoffered: Unoffered::default() }
}

#[test]
fn what_could_not_be_offered_is_bounded_and_no_more_than_is_counted() {
    let listed = |count: u32, told: usize| {
        let first = vec![("name".to_owned(), "why".to_owned()); told];
        let unoffered = Unoffered { count, first };
        let listed = FromSender::Listed { entries: 0, bytes: 0, unoffered };
        FromSender::parse(&serde_json::to_vec(&listed).unwrap()).is_ok()
    };
    assert!(listed(0, 0) && listed(1, 1) && listed(u32::MAX, 100));
    assert!(!listed(1, 2) && !listed(u32::MAX, 101));
    // The first senders do not tell it.
    let old = FromSender::parse(br#"{"listed":{"entries":1,"bytes":2}}"#).unwrap();
    assert_eq!(old, self::listed(1, 2));
}

/// Somebody who takes a moment to say that it is to come into this folder.
struct Slow(PathBuf);

impl Ask for Slow {
    fn ask<'a>(&'a self, _: &'a Incoming) -> Pin<Box<dyn Future<Output = Said> + Send + 'a>> {
        Box::pin(async {
            tokio::task::yield_now().await;
            Said::Into(self.0.clone())
        })
    }
}

/// What a receiver that asks somebody says to one file `pin` of 4 bytes, where it has one: to a guess, or to an older sender.
async fn said_of_a_pin(extras: &[&str], guess: Option<&[u8]>) -> Vec<FromReceiver> {
    let folders = Folders::new();
    fs::write(folders.target("pin"), b"1234").unwrap();
    let (a, b, _sockets) = testing::pair().await;
    let playing = async {
        let greeting = Greeting::new(PROGRAM, Part::Send.word(), wire::VERSION);
        let greeting = extras.iter().fold(greeting, |it, extra| it.with(extra));
        let Agreed { send, recv, .. } = agree(&a, &greeting).await.unwrap();
        let mut raw = Raw { send, recv: BufReader::new(recv) };
        raw.list(vec![file("pin", 4)]).await;
        let mut said = vec![raw.hear().await.unwrap()];
        if let Some(guess) = guess {
            raw.say(&FromSender::Have { index: 0, hash: hash(guess) }).await;
            said.push(raw.hear().await.unwrap());
            if hash(guess) == hash(b"1234") {
                raw.say(&FromSender::Same { index: 0 }).await;
            }
        }
        raw.say(&FromSender::Finished {}).await;
        while raw.hear().await.is_some() {}
        said
    };
    let (progress, options) = (silent(), ReceiveOptions::default());
    let asked = Slow(folders.into.path().to_owned());
    tokio::join!(playing, receive_asking(&b, &asked, options, &progress)).0
}

#[tokio::test]
async fn a_sender_that_knows_the_message_is_told_that_somebody_is_asked_and_an_older_one_is_not() {
    let said = said_of_a_pin(&[wire::ASKS], None).await;
    assert_eq!(said[0], FromReceiver::Asking {});
    let old = said_of_a_pin(&[wire::PROVES], Some(b"0000")).await;
    assert!(!old.contains(&FromReceiver::Asking {}), "{old:?}");
}

#[tokio::test]
async fn what_is_there_is_told_to_nobody_who_does_not_have_the_same() {
    let compare = FromReceiver::Answers(vec![(0, Answer::Compare { length: 4 })]);
    let is_refused = |said: &FromReceiver| matches!(said, FromReceiver::Answers(all) if matches!(all[..], [(0, Answer::Refused { .. })]));
    let wrong = said_of_a_pin(&[wire::PROVES], Some(b"0000")).await;
    assert!(wrong[0] == compare && is_refused(&wrong[1]), "{wrong:?}");
    let right = said_of_a_pin(&[wire::PROVES], Some(b"1234")).await;
    let unless = Answer::Unless { hash: hash(b"1234"), replace: false };
    assert_eq!(right, [compare, FromReceiver::Answers(vec![(0, unless)])]);
    let old = said_of_a_pin(&[], None).await;
    assert!(is_refused(&old[0]), "{old:?}");
}

#[tokio::test]
async fn a_hash_that_nobody_asked_for_ends_the_transfer() {
    let have = FromSender::Have { index: 0, hash: hash(b"xxxx") };
    let error = after_the_answer(vec![have]).await;
    assert!(error.contains("nobody asked for"), "{error}");
}
