//! The event stream: server-sent events.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;

use common::http::{api, get_with, metrics};
use common::{Rendezvous, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A reader of the stream.
struct Reader {
    stream: TcpStream,
    text: String,
}

/// One event: its type, its id, and what it says.
type Event = (String, Option<String>, Value);

impl Reader {
    async fn open(address: SocketAddr, query: &str, further: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n{further}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reader = Self { stream, text: String::new() };
        let head = reader.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        reader.until("retry: 2000\n\n").await;
        reader
    }

    /// What comes up to this mark.
    async fn until(&mut self, mark: &str) -> String {
        within(mark, async {
            loop {
                if let Some((before, rest)) = self.text.split_once(mark) {
                    let before = before.to_owned();
                    self.text = rest.to_owned();
                    return before;
                }
                let mut bytes = [0; 4096];
                let read = self.stream.read(&mut bytes).await.unwrap();
                assert!(read > 0, "the stream has ended: {:?}", self.text);
                self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
        })
        .await
    }

    async fn next(&mut self) -> Event {
        let text = self.until("\n\n").await;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            value.map(str::to_owned)
        };
        let kind = field("event").unwrap_or("message".to_owned());
        (kind, field("id"), serde_json::from_str(&field("data").unwrap()).unwrap())
    }

    /// Reads to the end of the stream.
    async fn end(mut self) -> String {
        let mut rest = Vec::new();
        within("the end", self.stream.read_to_end(&mut rest)).await.unwrap();
        String::from_utf8(rest).unwrap()
    }
}

#[tokio::test]
async fn a_reader_is_told_what_happens_from_now_on_and_goes_on_where_it_was() {
    let rendezvous = Rendezvous::start();
    let address = rendezvous.address();
    let _before = rendezvous.worker("before").await;
    let mut reader = Reader::open(address, "", "").await;
    let mut worker = rendezvous.worker("a").await;
    let (kind, id, event) = reader.next().await;
    assert_eq!((kind.as_str(), &event["event"]), ("message", &json!("registered")));
    assert_eq!((&event["workers"], event["id"].as_str()), (&json!(["a"]), id.as_deref()));
    drop(reader);
    worker.report("203.0.113.5:4001").await;
    let last = format!("Last-Event-ID: {}\r\n", id.unwrap());
    let mut again = Reader::open(address, "", &last).await;
    let (_, _, queued) = again.next().await;
    assert_eq!((&queued["event"], &queued["waiting"]), (&json!("queued"), &json!(1)));
    let page = api(address, "events?limit=2").await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["items"][1]), (2, &event));
    let rest = api(address, &format!("events?cursor={}", page["next"].as_str().unwrap())).await;
    assert_eq!((&rest["items"], &rest["next"]), (&json!([queued]), &Value::Null));
}

#[tokio::test]
async fn a_filter_leaves_the_others_out() {
    let rendezvous = Rendezvous::start();
    let mut reader = Reader::open(rendezvous.address(), "?prefix=b&event=registered", "").await;
    let _a = rendezvous.worker("a").await;
    let mut b = rendezvous.worker("b1").await;
    b.report("203.0.113.5:4001").await;
    let _b = rendezvous.worker("b2").await;
    assert_eq!(reader.next().await.2["workers"], json!(["b1"]));
    assert_eq!(reader.next().await.2["workers"], json!(["b2"]));
}

#[tokio::test]
async fn what_is_gone_is_told_as_a_gap() {
    let rendezvous = Rendezvous::start();
    let address = rendezvous.address();
    let first = rendezvous.worker("a").await;
    let page = api(address, "events?limit=1").await;
    let id = page["items"][0]["id"].as_str().unwrap().to_owned();
    // More than are kept: each registration and each end is one.
    let mut worker = rendezvous.worker("b").await;
    for _ in 0..4200 {
        worker.reset();
        worker = rendezvous.worker("b").await;
    }
    let mut reader = Reader::open(address, "", &format!("Last-Event-ID: {id}\r\n")).await;
    let (kind, _, gap) = reader.next().await;
    assert_eq!((kind.as_str(), &gap["instance"]), ("gap", &page["instance"]));
    let missed = gap["missed"].as_u64().unwrap();
    let (_, next, _) = reader.next().await;
    let number = |id: &str| id.split_once('-').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(number(&next.unwrap()), number(&id) + missed + 1, "nothing between is left out");
    let counted = format!("holepunch_events_missed_total {missed}\n");
    assert!(metrics(address).await.contains(&counted));
    let page = api(address, &format!("events?cursor={id}&limit=1")).await;
    assert!(page["missed"].as_u64().unwrap() >= missed);
    drop((first, worker));
}

#[tokio::test]
async fn the_last_event_of_another_instance_is_a_gap_as_well() {
    let rendezvous = Rendezvous::start();
    let _a = rendezvous.worker("a").await;
    let mut reader = Reader::open(rendezvous.address(), "", "Last-Event-ID: 00000000-7\r\n").await;
    let (kind, id, gap) = reader.next().await;
    assert_eq!((kind.as_str(), id, &gap["missed"]), ("gap", None, &json!(0)));
    assert_eq!(reader.next().await.2["event"], "registered", "from the oldest that is kept");
    let wrong = "Accept: text/event-stream\r\nLast-Event-ID: x\r\n";
    assert_eq!(get_with(rendezvous.address(), "/api/v1/events", wrong).await.status, 400);
}

#[tokio::test]
async fn there_are_only_so_many_readers_and_each_ends_with_the_server() {
    let rendezvous = Rendezvous::start();
    let address = rendezvous.address();
    let mut readers = Vec::new();
    for _ in 0..32 {
        readers.push(Reader::open(address, "", "").await);
    }
    let one_more = get_with(address, "/api/v1/events", "Accept: text/event-stream\r\n").await;
    assert_eq!(one_more.status, 503);
    assert!(metrics(address).await.contains("\nholepunch_event_readers 32\n"));
    let ended = tokio::spawn(rendezvous.server.shutdown());
    for reader in readers {
        assert!(reader.end().await.ends_with("0\r\n\r\n"), "the answer is whole");
    }
    within("the end of the server", ended).await.unwrap();
}
