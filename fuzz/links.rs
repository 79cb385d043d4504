//! What arrives on a link's sockets, relays and first stream (`crates/link`), with what must hold of any
//! input. The fuzz targets and the replay of their corpus (`crates/link/tests/corpus.rs`) run the same code.

use holepunch_link::testing::{
    DATAGRAM_BYTES_MAX, datagrams_of_batch, datagrams_of_frame, greeting, is_quic, proof,
};
use holepunch_wire::probe::Probe;
use holepunch_wire::relay::datagrams;

/// One decoder with its properties; it panics where one does not hold.
pub(crate) type Decoder = fn(&[u8]);

/// All of them, by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 3] =
    [("link_batch", batch), ("link_frame", frame), ("link_hello", hello)];

/// Words that no input knows.
const WORDS: &str = "correct horse battery staple";
/// Bytes of a message of SPAKE2.
const MESSAGE_BYTES: usize = 33;

/// Runs the decoder of one target.
pub(crate) fn decode(target: &str, input: &[u8]) {
    let decoder = DECODERS.iter().find(|(name, _)| *name == target);
    let (_, decoder) = decoder.expect("a target that is in the table");
    decoder(input);
}

/// The first byte is the length of a datagram. Each goes to one of the two, whole and in order; STUN and the
/// baseline's probes never go to QUIC.
fn batch(input: &[u8]) {
    let Some((stride, batch)) = input.split_first() else { return };
    let stride = usize::from(*stride);
    let (quic, others) = datagrams_of_batch(batch, stride);
    let all: Vec<&[u8]> = batch.chunks(stride.max(1)).collect();
    let of_quic = all.iter().filter(|it| is_quic(it));
    assert_eq!(quic, of_quic.copied().collect::<Vec<_>>().concat());
    assert!(others.iter().map(Vec::as_slice).eq(all.iter().copied().filter(|it| !is_quic(it))));
    for datagram in all {
        // The first two bits of STUN are zero (RFC 8489 §5).
        let is_stun = datagram.first().is_some_and(|first| first >> 6 == 0);
        assert!(!(is_stun || Probe::parse(datagram).is_ok()) || !is_quic(datagram));
    }
}

/// The first two bytes say how much QUIC takes at once: it gets all datagrams that fit there, in order.
fn frame(input: &[u8]) {
    let Some(([buffers, bytes], frame)) = input.split_first_chunk() else { return };
    let (buffers, bytes) = (1 + usize::from(buffers % 8), 1 + 8 * usize::from(*bytes));
    let got = datagrams_of_frame(frame, buffers, bytes);
    let bytes_max = bytes.min(DATAGRAM_BYTES_MAX);
    let fit = datagrams(frame).filter(|datagram| datagram.len() <= bytes_max);
    assert!(got.iter().map(Vec::as_slice).eq(fit));
}

/// Nobody who does not know the words is taken for somebody who does.
fn hello(input: &[u8]) {
    let Some((first, rest)) = input.split_first_chunk::<2>() else { return };
    let asks = |has_secret| greeting(*first, has_secret);
    assert!(!matches!(asks(false), Ok(true)) && !matches!(asks(true), Ok(false)));
    assert!(!(asks(false).is_ok() && asks(true).is_ok()), "one of the two has to be refused");
    let (message, code) = rest.split_at(rest.len().min(MESSAGE_BYTES));
    for connects in [true, false] {
        let outcome = proof(WORDS, connects, message, code);
        assert_ne!(outcome, Some(true));
        assert!(outcome.is_none() || message.len() == MESSAGE_BYTES);
    }
}
