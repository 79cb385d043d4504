use super::*;
use holepunch_link::{CloseCode, testing};
use proptest::prelude::*;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, BufReader, duplex};

fn text() -> Chat {
    Chat { name: Some("Ada".to_owned()), form: Form::Text(TimeZone::UTC) }
}

/// Nobody is told anything.
fn quiet(_: &str) {}

fn said(text: &str) -> Said {
    Said::Message {
        time: "2026-03-04T12:34:56Z".parse().unwrap(),
        name: Some("Ada".to_owned()),
        text: text.to_owned(),
    }
}

#[test]
fn a_message_is_one_harmless_line() {
    let evil = said("hi\u{1b}]0;owned\u{7}\rroot# \u{202e}");
    assert_eq!(
        shown("w1", &text(), &evil),
        "[12:34:56] Ada: hi\\u{1b}]0;owned\\u{7}\\u{d}root# \\u{202e}"
    );
    let json = Chat { name: None, form: Form::Json };
    let Said::Message { name, text: words, .. } = said("x");
    let time = "2026-03-04T12:34:56.123456789Z".parse().unwrap();
    let exact = shown("w1", &json, &Said::Message { time, name, text: words });
    assert!(exact.contains(r#""time":"2026-03-04T12:34:56.123Z""#), "{exact}");
    assert_eq!(
        shown("w1", &json, &said("a\u{9b}")),
        r#"{"type":"message","from":"w1","name":"Ada","time":"2026-03-04T12:34:56.000Z","text":"a\u009b"}"#
    );
    let Said::Message { time, text, .. } = said("x");
    let unnamed = shown("0123456789abc", &json, &Said::Message { time, name: None, text });
    assert!(unnamed.contains(r#""name":"01234567""#), "{unnamed}");
}

proptest! {
    #[test]
    fn whatever_a_peer_says_is_one_harmless_line(
        (name, words) in any::<(Option<String>, String)>(),
        (at, hours) in (any::<i64>(), -25_i8..=25),
    ) {
        let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let time = Timestamp::from_second(at.clamp(least, most)).unwrap();
        let said = Said::Message { time, name, text: words.clone() };
        let zone = TimeZone::fixed(jiff::tz::offset(hours));
        for form in [Form::Text(zone), Form::Json] {
            let is_json = matches!(form, Form::Json);
            let line = shown("0123456789abc", &Chat { name: None, form }, &said);
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            if is_json {
                let heard: serde_json::Value = serde_json::from_str(&line).unwrap();
                prop_assert_eq!(heard["text"].as_str(), Some(words.as_str()));
            }
        }
    }
}

#[tokio::test]
async fn what_one_says_the_other_reads_and_the_end_is_told() {
    let (a, b, _sockets) = testing::pair().await;
    let (chat_a, chat_b) = (text(), text());
    let (b_input, b_output) = (duplex(64), duplex(4096));
    let mut heard = b_output.0;
    let first = chat(&a, &chat_a, &b"hello\n\n  \r\nbye\n"[..], tokio::io::sink(), &quiet);
    let second = chat(&b, &chat_b, BufReader::new(b_input.1), b_output.1, &quiet);
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap(), Summary { sent: 2, received: 0, peer_left: false });
    assert_eq!(second.unwrap(), Summary { sent: 0, received: 2, peer_left: true });
    let mut lines = String::new();
    heard.read_to_string(&mut lines).await.unwrap();
    let said: Vec<&str> =
        lines.lines().filter_map(|line| line.split_once("] ")).map(|it| it.1).collect();
    assert_eq!(said, ["Ada: hello", "Ada: bye"]);
    a.close(CloseCode::Done);
}

#[tokio::test]
async fn a_peer_that_is_interrupted_has_left() {
    let (a, b, _sockets) = testing::pair().await;
    let (own, _open) = duplex(64);
    let (theirs, _open) = duplex(64);
    let chats = (text(), text());
    let staying = chat(&a, &chats.0, BufReader::new(own), tokio::io::sink(), &quiet);
    let leaving = async {
        let chat = chat(&b, &chats.1, BufReader::new(theirs), tokio::io::sink(), &quiet);
        let closed = async {
            // The greeting is over once the first stream's answer has come.
            while b.traffic().received_datagrams < 3 {
                tokio::task::yield_now().await;
            }
            b.close("interrupted");
        };
        tokio::join!(chat, closed)
    };
    let (staying, _) = tokio::join!(staying, leaving);
    assert!(matches!(staying, Ok(Summary { peer_left: true, .. }) | Err(ChatError::Agree(_))));
}

#[tokio::test]
async fn what_is_no_message_ends_the_chat() {
    let (a, b, _sockets) = testing::pair().await;
    let (own, _open) = duplex(64);
    let settings = text();
    let hearing = chat(&a, &settings, BufReader::new(own), tokio::io::sink(), &quiet);
    let lying = async {
        let own = Greeting::new("chat", "", VERSION);
        let mut agreed = agree(&b, &own).await.unwrap();
        agreed.send.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        agreed
    };
    let (heard, _agreed) = tokio::join!(hearing, lying);
    assert!(matches!(heard, Err(ChatError::Message(MessageError::TooLong(..)))));
}

#[tokio::test]
async fn a_link_that_is_lost_is_told_as_that_and_not_as_a_message() {
    let (a, b, _sockets) = testing::pair().await;
    let (own, _open) = duplex(64);
    let settings = text();
    let (output, mut heard) = duplex(4096);
    let staying = chat(&a, &settings, BufReader::new(own), output, &quiet);
    let failing = async {
        let own = Greeting::new("chat", "", VERSION);
        let mut agreed = agree(&b, &own).await.unwrap();
        write_message(&mut agreed.send, &said("hello")).await.unwrap();
        heard.read_u8().await.unwrap();
        b.close("no reason that is known");
        agreed
    };
    let (stayed, _agreed) = tokio::join!(staying, failing);
    let told = stayed.unwrap_err().to_string();
    assert_eq!(told, "the link is lost: the peer has closed the link: no reason that is known");
}

/// An output that counts how often it is flushed.
#[derive(Default)]
struct Counting {
    written: Vec<u8>,
    flushed: usize,
}

impl AsyncWrite for &mut Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn messages_that_come_together_are_written_together_and_none_is_lost_before_what_is_none() {
    const MESSAGES: usize = 200;
    let (a, b, _sockets) = testing::pair().await;
    let (own, _open) = duplex(64);
    let (settings, mut output) = (text(), Counting::default());
    let hearing = chat(&a, &settings, BufReader::new(own), &mut output, &quiet);
    let saying = async {
        let mut agreed = agree(&b, &Greeting::new("chat", "", VERSION)).await.unwrap();
        let mut all: Vec<u8> = (0..MESSAGES)
            .flat_map(|number| crate::messages::framed(&said(&number.to_string())).unwrap())
            .collect();
        all.extend(crate::messages::framed(&"no message").unwrap());
        agreed.send.write_all(&all).await.unwrap();
        agreed
    };
    let (heard, _agreed) = tokio::join!(hearing, saying);
    assert!(matches!(heard, Err(ChatError::Message(MessageError::Malformed(_)))), "{heard:?}");
    let lines = String::from_utf8(output.written).unwrap();
    let numbers =
        lines.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
    assert!(numbers.eq(0..MESSAGES));
    assert!(output.flushed < MESSAGES / 2, "{} times", output.flushed);
}
