use super::*;
use crate::agree::Greeting;
use futures_util::FutureExt as _;
use holepunch_link::testing;
use ring::digest::{Context, SHA256};
use std::io::{PipeReader, PipeWriter, Read, Write, empty, repeat, sink};
use tokio::io::AsyncReadExt as _;
use tokio::task::spawn_blocking;

/// More than every window of the link together.
const LARGE: u64 = 64 * 1024 * 1024;
const KIB: usize = 1024;

/// A pipe whose input and output are for one link.
async fn once(
    link: &Link,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    progress: &Progress,
) -> Result<Summary, PipeError> {
    pipe(link, &mut Input::new(input), &mut Output::new(output).unwrap(), progress).await
}

fn none() -> Progress {
    Progress::default()
}

/// Between the program and whoever runs it.
fn between() -> (PipeReader, PipeWriter) {
    io::pipe().unwrap()
}

fn hash_of(mut input: impl Read) -> (u64, Vec<u8>) {
    let (mut hash, mut length) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; 64 * KIB];
    loop {
        let read = input.read(&mut buffer).unwrap();
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
    let ((heard_a, out_a), (heard_b, out_b)) = (between(), between());
    let at_a = spawn_blocking(|| hash_of(heard_a));
    let at_b = spawn_blocking(|| hash_of(heard_b));
    let side_a = async {
        let summary = once(&a, repeat(0xA5).take(LARGE), out_a, &progress.0).await;
        a.close(CloseCode::Done);
        summary
    };
    let side_b = async {
        let summary = once(&b, repeat(0x5A).take(LARGE), out_b, &progress.1).await;
        b.close(CloseCode::Done);
        summary
    };
    let (first, second) = tokio::join!(side_a, side_b);
    let expected = Summary { sent_bytes: LARGE, received_bytes: LARGE, output_closed: false };
    assert_eq!((first.unwrap(), second.unwrap()), (expected, expected));
    assert_eq!(at_b.await.unwrap(), hash_of(repeat(0xA5).take(LARGE)));
    assert_eq!(at_a.await.unwrap(), hash_of(repeat(0x5A).take(LARGE)));
}

#[tokio::test]
async fn an_answer_follows_the_end_of_the_question() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let ((mut question_at_b, out_b), (mut answer_at_a, out_a)) = (between(), between());
    let (answer, mut answering) = between();
    let asking = once(&a, &b"question"[..], out_a, &progress.0);
    let answered = once(&b, answer, out_b, &progress.1);
    let program = spawn_blocking(move || {
        let mut question = String::new();
        question_at_b.read_to_string(&mut question).unwrap();
        answering.write_all(question.to_uppercase().as_bytes()).unwrap();
        drop(answering);
        let mut answer = String::new();
        answer_at_a.read_to_string(&mut answer).unwrap();
        answer
    });
    let (first, second, answer) = tokio::join!(asking, answered, program);
    assert_eq!((first.unwrap().received_bytes, second.unwrap().sent_bytes), (8, 8));
    assert_eq!(answer.unwrap(), "QUESTION");
}

#[tokio::test]
async fn a_terminal_at_which_nothing_is_typed_ends_with_the_peers_output_and_says_so() {
    let (a, b, _sockets) = testing::pair().await;
    let (told, tells) = std::sync::mpsc::channel();
    let progress = (none(), Progress::telling(move |text| told.send(text.to_owned()).unwrap()));
    let (terminal, _open) = between();
    let mut output = Output::new(sink()).unwrap();
    let mut input = Input::new(terminal).typed(true);
    let watched = pipe(&b, &mut input, &mut output, &progress.1);
    let (sent, watched) = tokio::join!(once(&a, &b"all"[..], sink(), &progress.0), watched);
    assert_eq!((sent.unwrap().sent_bytes, watched.unwrap().received_bytes), (3, 3));
    assert_eq!(tells.recv().unwrap(), NOTHING_TYPED);
}

#[tokio::test]
async fn whoever_has_typed_something_ends_it_by_hand() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let ((terminal, mut types), (mut heard, out_b)) = (between(), between());
    let ((answer, mut answers), (mut asked, out_a)) = (between(), between());
    let mut output = Output::new(out_b).unwrap();
    let mut input = Input::new(terminal).typed(true);
    let talked = pipe(&b, &mut input, &mut output, &progress.1);
    let by_hand = spawn_blocking(move || {
        types.write_all(b"typed").unwrap();
        asked.read_exact(&mut [0; 5]).unwrap();
        answers.write_all(b"all").unwrap();
        drop(answers);
        let mut all = String::new();
        heard.read_to_string(&mut all).unwrap();
        types.write_all(b" more").unwrap();
        drop(types);
        asked.read_to_string(&mut all).unwrap();
        all
    });
    let answering = once(&a, answer, out_a, &progress.0);
    let (answering, talked, heard) = tokio::join!(answering, talked, by_hand);
    assert_eq!((answering.unwrap().received_bytes, talked.unwrap().sent_bytes), (10, 10));
    assert_eq!(heard.unwrap(), "all more");
}

#[tokio::test]
async fn a_closed_output_ends_both_sides() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let (closed, out_b) = between();
    drop(closed);
    let (quiet, _open) = between();
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
    let ((from_input, mut input), (mut heard, out_b)) = (between(), between());
    input.write_all(b"half").unwrap();
    let cut =
        tokio::spawn(async move { once(&a, from_input, sink(), &progress.0).await.map(|_| a) });
    let reading = once(&b, empty(), out_b, &progress.1);
    let interrupting = async {
        let came = spawn_blocking(move || {
            heard.read_exact(&mut [0; 4]).unwrap();
            // What is read from further on is the end.
            heard
        });
        let _open = came.await.unwrap();
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
        let chat = Greeting::new("chat", "", VERSION);
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
    let (input, _silent) = between();
    let piped = once(&first, Read::chain(&b"first"[..], input), sink(), &progress);
    let silent = async {
        let (_send, mut recv) = second.accept_bi().await.unwrap();
        let _greeting: Option<Greeting> = crate::read_message(&mut recv).await.unwrap();
        recv.read_chunk(64 * KIB).await.unwrap().unwrap()
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
        let ((from_input, mut input), (mut heard, out_b)) = (between(), between());
        let (mut taken, sending) = between();
        input.write_all(own).unwrap();
        let reading = once(&b, from_input, out_b, &progress.1);
        let leaving = {
            let a = a.clone();
            tokio::spawn(async move { once(&a, &b"all"[..], sending, &progress.0).await })
        };
        let interrupting = async move {
            let came = spawn_blocking(move || {
                let mut all = String::new();
                heard.read_to_string(&mut all).unwrap();
                taken.read_exact(&mut vec![0; own.len()]).unwrap();
                (all, taken)
            });
            let (all, _taken) = came.await.unwrap();
            assert_eq!(all, "all");
            leaving.abort();
            a.close(CloseCode::Interrupted);
        };
        let (outcome, ()) = tokio::join!(reading, interrupting);
        assert_eq!(outcome.is_ok(), is_whole, "{own:?}: {outcome:?}");
        drop(input);
    }
}

/// A peer that refuses the link has taken the first bytes with it; the next one gets them all the same.
#[tokio::test]
async fn nothing_is_lost_on_a_peer_that_refuses() {
    for length in [0, 5, 3 * 64 * KIB] {
        let all = vec![7; length];
        let mut input = Input::new(io::Cursor::new(all.clone()));
        for _ in 0..2 {
            let (a, b, _sockets) = testing::pair().await;
            let progress = none();
            let refusing = async {
                let first = if b.is_initiator() { b.open_bi().await } else { b.accept_bi().await };
                let (mut send, mut recv) = first.unwrap();
                // Too little for a greeting.
                send.write_all(&[0]).await.unwrap();
                let _greeting: Option<Greeting> = crate::read_message(&mut recv).await.unwrap();
                let mut early = vec![0; length.min(64 * KIB)];
                recv.read_exact(&mut early).await.unwrap();
                b.close("no");
            };
            let mut output = Output::new(sink()).unwrap();
            let piped = pipe(&a, &mut input, &mut output, &progress);
            let (outcome, ()) = tokio::join!(piped, refusing);
            assert!(matches!(outcome, Err(PipeError::Agree(_))), "{outcome:?}");
            assert_eq!(progress.bytes(), (0, 0));
        }
        let (a, b, _sockets) = testing::pair().await;
        let progress = (none(), none());
        let (mut heard, out_b) = between();
        let came = spawn_blocking(move || {
            let mut came = Vec::new();
            heard.read_to_end(&mut came).map(|_| came)
        });
        let sending = async {
            let summary =
                pipe(&a, &mut input, &mut Output::new(sink()).unwrap(), &progress.0).await;
            a.close(CloseCode::Done);
            summary
        };
        let (sent, received) = tokio::join!(sending, once(&b, empty(), out_b, &progress.1));
        let bytes = length as u64;
        assert_eq!((sent.unwrap().sent_bytes, received.unwrap().received_bytes), (bytes, bytes));
        assert!(came.await.unwrap().unwrap() == all);
    }
}

/// An output that takes nothing until it is let, and then fails.
struct Full(std::sync::mpsc::Receiver<()>);

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        let _until_it_is_let = self.0.recv();
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_output_that_stalls_takes_no_more_than_its_bound_and_its_failure_is_told() {
    for piece in [1, 100, KIB, 1024 * KIB] {
        let (goes_on, stalls) = std::sync::mpsc::channel();
        let mut output = Output::new(Full(stalls)).unwrap();
        let (mut bytes, mut pieces) = (0, 0);
        while output.put(&mut [Bytes::from(vec![0; piece])]).now_or_never().is_some() {
            (bytes, pieces) = (bytes + piece, pieces + 1);
        }
        assert!(bytes <= 3 * 1024 * KIB && pieces <= 8192, "{bytes} bytes in {pieces} pieces");
        drop(goes_on);
        let failed = output.put(&mut [Bytes::from_static(b"more")]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert_eq!(output.finish().await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_peer_has_not_sent_everything() {
    let (a, b, _sockets) = testing::pair().await;
    let progress = (none(), none());
    let (quiet, _open) = between();
    let endless = once(&a, repeat(1), sink(), &progress.0);
    let full = async {
        let (_, full) = std::sync::mpsc::channel();
        let outcome = once(&b, quiet, Full(full), &progress.1).await;
        b.close("the pipe is broken");
        outcome
    };
    let (first, second) = tokio::join!(endless, full);
    // Whether it hears of the full disk or of the link's end first is open.
    assert!(first.is_err(), "{first:?}");
    let error = second.unwrap_err();
    assert!(
        matches!(&error, PipeError::Output(error) if error.kind() == io::ErrorKind::StorageFull)
    );
}

/// The first version had no last word: its peer has everything once that was acknowledged.
#[tokio::test]
async fn of_a_peer_that_does_not_confirm_no_last_word_is_awaited() {
    for is_first in [true, false] {
        let (a, b, _sockets) = testing::pair().await;
        let (own, other) = if a.is_initiator() == is_first { (a, b) } else { (b, a) };
        let progress = none();
        let piped = once(&own, &b"own"[..], sink(), &progress);
        let old = async {
            let greeting = Greeting::new("pipe", "", VERSION);
            let crate::Agreed { mut send, mut recv, .. } =
                crate::agree(&other, &greeting).await.unwrap();
            send.finish().unwrap();
            let mut came = Vec::new();
            recv.read_to_end(&mut came).await.unwrap();
            came
        };
        let (summary, came) = tokio::join!(piped, old);
        assert_eq!((summary.unwrap().sent_bytes, &came[..]), (3, &b"own"[..]));
    }
}

#[tokio::test]
async fn an_input_that_cannot_be_read_is_told() {
    let (a, b, _sockets) = testing::pair().await;
    let folder = std::fs::File::open("/").unwrap();
    let progress = (none(), none());
    let (quiet, _open) = between();
    let reading = async {
        let outcome = once(&a, folder, sink(), &progress.0).await;
        a.close("the pipe is broken");
        outcome
    };
    let (first, second) = tokio::join!(reading, once(&b, quiet, sink(), &progress.1));
    assert!(matches!(first, Err(PipeError::Input(_))), "{first:?}");
    assert!(second.is_err(), "{second:?}");
}
