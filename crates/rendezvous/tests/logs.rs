//! What strangers can make the server log.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::Rendezvous;
use common::http::upgrade_request;
use common::raw::{RawClient, TEXT};
use tracing_subscriber::fmt::MakeWriter;

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A handshake with 14 KB of what is no origin.
fn hostile() -> Vec<u8> {
    let request = upgrade_request("/ws/register/a", "Connection: close\r\nOrigin: @\r\n");
    let (before, after) = request.split_once('@').unwrap();
    [before.as_bytes(), &[0xff; 14_000], after.as_bytes()].concat()
}

#[tokio::test]
async fn refused_handshakes_fill_no_log_and_take_no_line_from_those_who_are_in() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let rendezvous = Rendezvous::start();
    let mut worker = rendezvous.worker("w").await;
    let (start, hostile) = (Instant::now(), hostile());
    for _ in 0..300 {
        let mut client = RawClient::connect(rendezvous.address()).await;
        client.write(&hostile).await;
        assert_eq!(common::http::status(&client.read_head().await), 403);
    }
    worker.send_text("no JSON").await;
    worker.is_up().await;
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    let text = log.text();
    let refused = text.lines().filter(|line| line.contains("WebSocket refused")).count();
    assert!((1..=10 * seconds).contains(&refused), "{refused} in {seconds} s");
    assert!(text.contains("frame ignored"), "{text}");
    let longest = text.lines().map(str::len).max();
    assert!(longest < Some(700), "{longest:?}");
}

#[tokio::test]
async fn a_signature_over_another_host_is_logged_with_what_the_server_saw_and_what_helps() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let rendezvous = Rendezvous::start();
    let further = "Sec-WebSocket-Protocol: holepunch.v1\r\nX-Forwarded-Host: own.example\r\n";
    let mut client = RawClient::connect(rendezvous.address()).await;
    client.write(upgrade_request("/ws/register/a", further).as_bytes()).await;
    client.read_head().await;
    // Not a key of zeros: that one, for which anybody can sign, is refused as such.
    let (key, signature) = ("1".repeat(64), "0".repeat(128));
    let hello = format!(r#"{{"type":"hello","key":"{key}","signature":"{signature}"}}"#);
    client.send_frame(TEXT, hello.as_bytes()).await;
    assert_eq!(client.read_close().await.0, 1008);
    let told = log.text();
    for part in [r#"hosts=["test"]"#, r#"forwarded_host="own.example""#, "--public-host"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
