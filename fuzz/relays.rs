//! The decoder of the rendezvous' relay (`crates/rendezvous`), with what must hold of whatever it makes of
//! any input. The fuzz target and the replay of its corpus (`crates/rendezvous/tests/corpus.rs`) run the
//! same code.

use holepunch_rendezvous::testing::{Message, head, read};
use holepunch_wire::relay::RELAY_FRAME_BYTES_MAX;

/// One decoder with its properties; it panics where one does not hold.
pub(crate) type Decoder = fn(&[u8]);

/// All of them, by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 1] = [("relay_websocket", relay_websocket)];

/// First byte of a whole frame (RFC 6455 §5.2).
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
/// Longest payload of a ping (RFC 6455 §5.5).
const PING_BYTES_MAX: usize = 125;
/// Close codes: a protocol error, and a message that is too long (RFC 6455 §7.4.1).
const CODES: [u16; 2] = [1002, 1009];

/// Runs the decoder of one target.
pub(crate) fn decode(target: &str, input: &[u8]) {
    let decoder = DECODERS.iter().find(|(name, _)| *name == target);
    let (_, decoder) = decoder.expect("a target that is in the table");
    decoder(input);
}

fn relay_websocket(input: &[u8]) {
    let whole = read([input]);
    assert_eq!(read(input.chunks(1)), whole, "byte by byte");
    let cut = input.first().map_or(0, |byte| usize::from(*byte)).min(input.len());
    let (first, rest) = input.split_at(cut);
    assert_eq!(read([first, rest]), whole, "cut after {cut} bytes");
    let (messages, code) = whole;
    assert!(code.is_none_or(|code| CODES.contains(&code)), "{code:?}");
    for message in messages {
        let (kind, payload) = match &message {
            Message::Data(payload) => {
                assert!(payload.len() <= RELAY_FRAME_BYTES_MAX);
                (BINARY, payload)
            }
            Message::Ping(payload) => {
                assert!(payload.len() <= PING_BYTES_MAX);
                (PING, payload)
            }
            Message::Nothing | Message::Close => continue,
        };
        // What the relay would write, with a mask that changes nothing.
        let mut frame = head(kind, payload.len());
        frame[1] |= 0x80;
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        assert_eq!(read([frame.as_slice()]), (vec![message], None));
    }
}
