use super::*;
use crate::INTERRUPTED;
use holepunch_link::testing;
use ring::digest::{Context, SHA256};
use tokio::io::{AsyncReadExt, duplex, empty, repeat, sink};

/// More than every window of the link together.
const LARGE: u64 = 64 * 1024 * 1024;

/// A pipe whose input is for one link.
async fn once(
    link: &Link,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    progress: &Progress,
) -> Result<Summary, PipeError> {
    pipe(link, &mut Input::new(input), output, progress).await
}

fn none() -> Progress {
    Progress::default()
}

async fn hash_of(mut input: impl AsyncRead + Unpin) -> (u64, Vec<u8>) {
    let (mut hash, mut length) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = input.read(&mut buffer).await.unwrap();
        if read == 0 {
            return (length, hash.finish().as_ref().to_vec());
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

#[tokio::test]
async fn much_arrives_unchanged_both_ways() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let (out_a, heard_a) = duplex(COPY_BYTES);
    let (out_b, heard_b) = duplex(COPY_BYTES);
    let side_a = async {
        let summary = once(&a, repeat(0xA5).take(LARGE), out_a, &progress.0).await;
        a.close(DONE);
        summary
    };
    let side_b = async {
        let summary = once(&b, repeat(0x5A).take(LARGE), out_b, &progress.1).await;
        b.close(DONE);
        summary
    };
    let (first, second, at_a, at_b) =
        tokio::join!(side_a, side_b, hash_of(heard_a), hash_of(heard_b));
    let expected = Summary { sent_bytes: LARGE, received_bytes: LARGE, output_closed: false };
    assert_eq!((first.unwrap(), second.unwrap()), (expected, expected));
    assert_eq!(at_b, hash_of(repeat(0xA5).take(LARGE)).await);
    assert_eq!(at_a, hash_of(repeat(0x5A).take(LARGE)).await);
}

#[tokio::test]
async fn an_answer_follows_the_end_of_the_question() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let (mut question_at_b, out_b) = duplex(64);
    let (answer, mut answering) = duplex(64);
    let mut answer_at_a = Vec::new();
    let asking = once(&a, &b"question"[..], &mut answer_at_a, &progress.0);
    let answered = once(&b, answer, out_b, &progress.1);
    let program = async move {
        let mut question = String::new();
        question_at_b.read_to_string(&mut question).await.unwrap();
        answering.write_all(question.to_uppercase().as_bytes()).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(asking, answered, program);
    assert_eq!((first.unwrap().received_bytes, second.unwrap().sent_bytes), (8, 8));
    assert_eq!(answer_at_a, b"QUESTION");
}

#[tokio::test]
async fn a_closed_output_ends_both_sides() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let (closed, out_b) = duplex(64);
    drop(closed);
    let (quiet, _open) = duplex(64);
    let endless = once(&a, repeat(1), sink(), &progress.0);
    let head = once(&b, quiet, out_b, &progress.1);
    let (first, second) = tokio::join!(endless, head);
    assert!(matches!(first, Err(PipeError::NotTaken(_))), "{first:?}");
    assert!(second.unwrap().output_closed);
}

#[tokio::test]
async fn a_side_that_is_interrupted_has_not_sent_everything() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let (mut input, from_input) = duplex(64);
    input.write_all(b"half").await.unwrap();
    let (mut heard, out_b) = duplex(64);
    let cut =
        tokio::spawn(async move { once(&a, from_input, sink(), &progress.0).await.map(|_| a) });
    let reading = once(&b, empty(), out_b, &progress.1);
    let interrupting = async {
        let mut half = [0; 4];
        heard.read_exact(&mut half).await.unwrap();
        cut.abort();
    };
    let (outcome, ()) = tokio::join!(reading, interrupting);
    assert!(outcome.is_err(), "{outcome:?}");
}

/// What is typed is on its way before the peer has said anything, and lost on a peer that runs something
/// else: that is what the error says, whatever comes first.
#[tokio::test]
async fn another_program_is_told_though_it_takes_nothing() {
    for input in [LARGE, 0] {
        let (a, b, _sockets) = testing::pair().await;
        let chat = Greeting { program: "chat".to_owned(), part: String::new(), version: VERSION };
        let progress = none();
        let piped = once(&a, repeat(0).take(input), sink(), &progress);
        let (error, refused) = tokio::join!(piped, crate::agree(&b, &chat));
        assert!(matches!(error.unwrap_err(), PipeError::Agree(AgreeError::OtherProgram(..))));
        assert!(matches!(refused.unwrap_err(), AgreeError::OtherProgram(..)));
    }
}

#[tokio::test]
async fn the_first_bytes_do_not_wait_for_the_peer() {
    let (a, b, _sockets) = testing::pair().await;
    let (first, second) = if a.is_initiator() { (a, b) } else { (b, a) };
    let progress = none();
    let (_silent, input) = duplex(64);
    let piped = once(&first, (&b"first"[..]).chain(input), sink(), &progress);
    let silent = async {
        let (_send, mut recv) = second.accept_bi().await.unwrap();
        let _greeting: Option<Greeting> = crate::read_message(&mut recv).await.unwrap();
        recv.read_chunk(COPY_BYTES).await.unwrap().unwrap()
    };
    tokio::select! {
        _too_soon = piped => unreachable!("nothing was said to it"),
        came = silent => assert_eq!(came, b"first"[..]),
    }
}

/// Whoever has the peer's bytes to their end has them all, even if nobody has ended the input here.
#[tokio::test]
async fn a_peer_that_leaves_after_its_end_leaves_nothing_out() {
    for (own, is_whole) in [(&b""[..], true), (&b"own"[..], false)] {
        let (a, b, _sockets) = testing::pair().await;
        let progress = (none(), none());
        let (mut input, from_input) = duplex(64);
        input.write_all(own).await.unwrap();
        let (mut heard, out_b) = duplex(64);
        let reading = once(&b, from_input, out_b, &progress.1);
        let (sending, taken) = duplex(64);
        let leaving = {
            let a = a.clone();
            tokio::spawn(async move { once(&a, &b"all"[..], sending, &progress.0).await })
        };
        let interrupting = async move {
            let mut all = String::new();
            heard.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, "all");
            let mut taken = taken;
            let mut bytes = vec![0; own.len()];
            taken.read_exact(&mut bytes).await.unwrap();
            leaving.abort();
            a.close(INTERRUPTED);
        };
        let (outcome, ()) = tokio::join!(reading, interrupting);
        assert_eq!(outcome.is_ok(), is_whole, "{own:?}: {outcome:?}");
        drop(input);
    }
}

/// A peer that refuses the link has taken the first bytes with it; the next one gets them all the same.
#[tokio::test]
async fn nothing_is_lost_on_a_peer_that_refuses() {
    for length in [0, 5, 3 * COPY_BYTES] {
        let all = vec![7; length];
        let mut input = Input::new(&all[..]);
        for _ in 0..2 {
            let (a, b, _sockets) = testing::pair().await;
            let progress = none();
            let refusing = async {
                let first = if b.is_initiator() { b.open_bi().await } else { b.accept_bi().await };
                let (mut send, mut recv) = first.unwrap();
                // Too little for a greeting.
                send.write_all(&[0]).await.unwrap();
                let _greeting: Option<Greeting> = crate::read_message(&mut recv).await.unwrap();
                let mut early = vec![0; length.min(COPY_BYTES)];
                recv.read_exact(&mut early).await.unwrap();
                b.close("no");
            };
            let (outcome, ()) = tokio::join!(pipe(&a, &mut input, sink(), &progress), refusing);
            assert!(matches!(outcome, Err(PipeError::Agree(_))), "{outcome:?}");
            assert_eq!(progress.bytes(), (0, 0));
        }
        let (a, b, _sockets) = testing::pair().await;
        let (progress, mut heard) = ((none(), none()), Vec::new());
        let mut nothing = Input::new(empty());
        let sending = async {
            let summary = pipe(&a, &mut input, sink(), &progress.0).await;
            a.close(DONE);
            summary
        };
        let (sent, received) =
            tokio::join!(sending, pipe(&b, &mut nothing, &mut heard, &progress.1));
        let bytes = length as u64;
        assert_eq!((sent.unwrap().sent_bytes, received.unwrap().received_bytes), (bytes, bytes));
        assert!(heard == all);
    }
}
