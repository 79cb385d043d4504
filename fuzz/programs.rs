//! The decoders of `crates/programs`, as `decoders.rs` has those of `crates/wire`. The fuzz targets and
//! the replay of their corpus (`crates/programs/tests/corpus.rs`) run the same code.

use std::path::{Component, Path};

use holepunch_programs::transfer::wire::{
    BATCH_MAX, FromReceiver, FromSender, PIECE_BYTES_MAX, encode,
};
use holepunch_programs::transfer::{COMPONENT_BYTES_MAX, RelativePath};

/// One decoder with its properties; it panics where one does not hold.
pub(crate) type Decoder = fn(&[u8]);

/// All of them, by the name of their fuzz target.
pub(crate) const DECODERS: [(&str, Decoder); 3] = [
    ("transfer_from_sender", transfer_from_sender),
    ("transfer_from_receiver", transfer_from_receiver),
    ("transfer_path", transfer_path),
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
                | FromSender::Same { .. }
                | FromSender::Differs { .. }
                | FromSender::Failed { .. }
                | FromSender::Finished {} => {}
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
    assert!(path.components().all(|part| !part.contains(['\\', '\0'])));
    let partial = path.partial_name();
    assert!(partial.len() <= COMPONENT_BYTES_MAX && RelativePath::new(&partial).is_err());
}
