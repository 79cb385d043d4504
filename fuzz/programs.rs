//! The decoders of the programs over a link (`crates/programs`), with what must hold of whatever they
//! make of any input. The fuzz targets and the replay of their corpus (`crates/programs/tests/corpus.rs`)
//! run the same code.

use std::path::{Component, Path};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use holepunch_programs::bench::{Heard, heard};
use holepunch_programs::chat::{Chat, Form, TimeZone, line};
use holepunch_programs::forward::frames::{DATA_BYTES_MAX, Frame, Malformed, Piece, Reader};
use holepunch_programs::forward::socks::{BYTES_MAX, Parsed, Step, greeting, request};
use holepunch_programs::forward::udp::pieces::{Assembly, HEAD_BYTES, NoPiece, PIECES_MAX};
use holepunch_programs::forward::{Answer, Request, Rule, Target};
use holepunch_programs::transfer::wire::{
    BATCH_MAX, FromReceiver, FromSender, PIECE_BYTES_MAX, encode,
};
use holepunch_programs::transfer::{COMPONENT_BYTES_MAX, RelativePath};
use holepunch_programs::{Greeting, MESSAGE_BYTES_MAX, MessageError, read_frame, read_message};
use holepunch_wire::text::{harmless, harmless_json};

/// One decoder with its properties; it panics where one does not hold.
pub(crate) type Decoder = fn(&[u8]);

/// All of them, by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 11] = [
    ("transfer_from_sender", transfer_from_sender),
    ("transfer_from_receiver", transfer_from_receiver),
    ("transfer_path", transfer_path),
    ("program_socks", socks),
    ("program_forward_request", forward_request),
    ("program_forward_frames", forward_frames),
    ("program_forward_pieces", forward_pieces),
    ("program_text", text),
    ("program_messages", messages),
    ("program_chat", chat_message),
    ("program_bench", bench_message),
];

/// Runs the decoder of one target.
pub(crate) fn decode(target: &str, input: &[u8]) {
    let decoder = DECODERS.iter().find(|(name, _)| *name == target);
    let (_, decoder) = decoder.expect("a target that is in the table");
    decoder(input);
}

fn transfer_from_sender(input: &[u8]) {
    match FromSender::parse(input) {
        Ok(message) => {
            match &message {
                FromSender::Entries(entries) => {
                    assert!(entries.len() <= BATCH_MAX);
                    entries.iter().for_each(|entry| transfer_path(entry.path.as_bytes()));
                }
                FromSender::Data { bytes } => {
                    assert!((1..=PIECE_BYTES_MAX).contains(&(*bytes as usize)));
                }
                FromSender::Listed { .. }
                | FromSender::File { .. }
                | FromSender::End { .. }
                | FromSender::Have { .. }
                | FromSender::Same { .. }
                | FromSender::Differs { .. }
                | FromSender::Failed { .. }
                | FromSender::Finished {}
                | FromSender::Known {} => {}
            }
            let mut again = Vec::new();
            encode(&message, &mut again);
            assert_eq!(FromSender::parse(&again[4..]), Ok(message));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn transfer_from_receiver(input: &[u8]) {
    match FromReceiver::parse(input) {
        Ok(message) => {
            let mut again = Vec::new();
            encode(&message, &mut again);
            assert_eq!(FromReceiver::parse(&again[4..]), Ok(message));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn transfer_path(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(path) = RelativePath::new(text) else { return };
    let normal = |it: Component<'_>| matches!(it, Component::Normal(_));
    assert!(Path::new(path.as_str()).components().all(normal));
    assert!(path.components().all(|part| !part.contains('\0')));
    let partial = path.partial_name();
    assert!(partial.len() <= COMPONENT_BYTES_MAX && RelativePath::new(&partial).is_err());
}

fn socks(input: &[u8]) {
    assert_whole(input, greeting);
    assert_whole(input, request);
}

/// What is whole has no whole beginning, and does not depend on what follows.
fn assert_whole<T: PartialEq + std::fmt::Debug>(input: &[u8], parse: fn(&[u8]) -> Step<T>) {
    let Ok(Some(Parsed { value, used })) = parse(input) else { return };
    assert!(used <= input.len().min(BYTES_MAX));
    (0..used).for_each(|end| assert_eq!(parse(&input[..end]), Ok(None)));
    assert_eq!(parse(&input[..used]), Ok(Some(Parsed { value, used })));
}

fn forward_request(input: &[u8]) {
    if let Ok(request) = Request::parse(input) {
        let json = serde_json::to_vec(&request).expect("a request has a form in JSON");
        assert_eq!(Request::parse(&json).expect("a request of ours is well-formed"), request);
    }
    if let Ok(answer) = Answer::parse(input) {
        let json = serde_json::to_vec(&answer).expect("an answer has a form in JSON");
        assert_eq!(Answer::parse(&json).expect("an answer of ours is well-formed"), answer);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(target) = text.parse::<Target>() {
        assert_eq!(target.to_string().parse(), Ok(target));
        assert!(text.parse::<Rule>().is_ok());
    }
}

fn forward_frames(input: &[u8]) {
    let whole = read_frames([input]);
    assert_eq!(read_frames(input.chunks(1)), whole, "byte by byte");
    let cut = input.first().map_or(0, |byte| usize::from(*byte)).min(input.len());
    assert_eq!(read_frames([&input[..cut], &input[cut..]]), whole, "cut after {cut} bytes");
    let Ok((bytes, heads, may_end)) = whole else { return };
    assert!(bytes.len() + heads.len() * Frame::End.head().len() <= input.len());
    let ended = heads.iter().position(|head| *head == Frame::End);
    let behind = ended.map_or(&[][..], |at| &heads[at + 1..]);
    assert!(behind.iter().all(|head| matches!(head, Frame::Credit(1..))));
    assert!(!may_end || ended.is_some());
}

/// Pieces of UDP datagrams, each behind a byte that says how long it is.
fn forward_pieces(mut input: &[u8]) {
    let (mut assembly, now) = (Assembly::default(), Instant::now());
    while let Some((length, rest)) = input.split_first() {
        let (piece, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        match assembly.take(piece.to_vec().into(), now) {
            Ok(Some((_, datagram))) => assert!(datagram.len() <= PIECES_MAX * usize::from(u8::MAX)),
            Ok(None) => assert!(piece[7] > 1 && piece[6] < piece[7]),
            Err(NoPiece) => {
                assert!(piece.len() < HEAD_BYTES || piece[6] >= piece[7] || piece[7] > 64)
            }
        }
    }
}

/// The connection's bytes, the frames that carry none, and whether the stream may end there.
type Frames = (Vec<u8>, Vec<Frame>, bool);

fn read_frames<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Frames, Malformed> {
    let (mut reader, mut bytes, mut heads) = (Reader::default(), Vec::new(), Vec::new());
    for mut part in parts {
        while let Some(piece) = reader.next(&mut part)? {
            match piece {
                Piece::Bytes(some) => {
                    assert!((1..=DATA_BYTES_MAX as usize).contains(&some.len()));
                    bytes.extend_from_slice(some);
                }
                Piece::End => heads.push(Frame::End),
                Piece::Credit(more) => heads.push(Frame::Credit(more)),
                Piece::Return(less) => heads.push(Frame::Return(less)),
            }
        }
        assert!(part.is_empty(), "what is not read is lost");
    }
    Ok((bytes, heads, reader.may_end()))
}

fn text(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    assert!(!harmless(&text, usize::MAX).contains(|it: char| it.is_control() || it == '\u{202e}'));
    let json = harmless_json(&serde_json::to_string(&text).expect("a text has a form in JSON"));
    assert!(!json.contains(char::is_control));
    assert_eq!(serde_json::from_str::<String>(&json).expect("JSON stays JSON"), text);
}

/// What `chat`, `bench` and `pipe` say on a stream: messages behind their lengths, the first one a greeting.
fn messages(input: &[u8]) {
    let mut rest = input;
    while !rest.is_empty() {
        let before = rest;
        let frame = at_once(read_frame(&mut rest, MESSAGE_BYTES_MAX));
        assert!(rest.len() < before.len(), "it takes no turn for ever");
        let greeting = at_once(read_message::<Greeting>(&mut &before[..]));
        match frame {
            Ok(Some(frame)) => assert_eq!(frame, before[4..4 + frame.len()]),
            Ok(None) => unreachable!("there is something to read"),
            Err(error) => {
                let is_long = matches!(error, MessageError::TooLong(length, MESSAGE_BYTES_MAX)
                    if length > MESSAGE_BYTES_MAX);
                assert!(is_long || matches!(error, MessageError::Stream(_)), "{error}");
                return assert!(greeting.is_err());
            }
        }
        if let Ok(Some(greeting)) = greeting {
            let json = serde_json::to_vec(&greeting).expect("a greeting has a form in JSON");
            let again: Greeting =
                serde_json::from_slice(&json).expect("one of ours is well-formed");
            assert_eq!(again, greeting);
        }
    }
}

/// Whatever a peer says in a chat is one line that acts on no terminal.
fn chat_message(input: &[u8]) {
    for form in [Form::Text(TimeZone::UTC), Form::Json] {
        let is_json = matches!(form, Form::Json);
        let Ok(line) = line("0123456789abc", &Chat { name: None, form }, input) else { return };
        assert!(!line.contains(char::is_control), "{line:?}");
        if is_json {
            let json = serde_json::from_str::<serde_json::Value>(&line);
            assert_eq!(json.expect("a line of JSON")["from"], "0123456789abc");
        }
    }
}

/// What a peer says that it has measured acts on no terminal, and more has not come than was sent.
fn bench_message(input: &[u8]) {
    match heard(input) {
        Ok(Heard::Step(text)) => assert!(!text.contains(char::is_control), "{text:?}"),
        Ok(Heard::Report(report)) => {
            assert!(!report.path.contains(char::is_control), "{report:?}");
            assert!(report.datagrams.received <= report.datagrams.sent);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What comes of reading bytes that are all there.
fn at_once<T>(reading: impl Future<Output = T>) -> T {
    match pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("bytes that are there need no waiting"),
    }
}
