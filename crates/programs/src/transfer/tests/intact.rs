//! What arrives is what was sent.

use super::super::wire::{Answer, FromReceiver, FromSender, encode, read_json};
use super::super::{PROGRAM, Part, wire};
use super::*;
use crate::agree::{Agreed, Greeting, agree};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, BufReader};

#[tokio::test]
async fn files_and_folders_arrive_with_content_executable_bit_and_time() {
    let folders = Folders::new();
    folders.write("tree/small", b"hello");
    folders.write("tree/empty", b"");
    folders.write("tree/a/b/c/large", &bytes(1, 5_000_001));
    folders.write("tree/ä 日本/👩\u{200d}🚀 ….txt", b"unicode");
    folders.write("tree/.hidden", &bytes(2, 65_536));
    folders.write("tree/run", b"#!/bin/sh");
    folders.write("tree/back\\slash", b"a name like any other");
    folders.write("alone", &bytes(3, 1_048_576));
    fs::create_dir_all(folders.source("tree/nothing/in/here")).unwrap();
    make_executable(&folders.source("tree/run"));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(folders.source("tree/small")).unwrap().set_modified(long_ago).unwrap();
    let (sent, received) = folders.sent(&["tree", "alone"]).await;
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
    assert_eq!((sent.failed, sent.files_completed, sent.totals.folders), (0, 8, 8));
    assert_eq!(sent.bytes_transferred, sent.totals.bytes);
    assert_eq!(sent, received);
}

/// The receiver writes whole pieces: one that is large takes many round trips on a link that has just begun.
#[tokio::test]
async fn the_first_piece_of_all_is_short() {
    let folders = Folders::new();
    ["a", "b"].iter().for_each(|name| folders.write(name, &bytes(1, 1_500_000)));
    let (a, b, _sockets) = testing::pair().await;
    let listing = Arc::new(Listing::of(&["a", "b"].map(|name| folders.source(name))).unwrap());
    let playing = async {
        let own = Greeting::new(PROGRAM, Part::Receive.word(), wire::VERSION);
        let Agreed { mut send, recv, .. } = agree(&b, &own).await.unwrap();
        let mut said = Vec::new();
        let whole = |index| (index, Answer::Whole {});
        encode(&FromReceiver::Answers(vec![whole(0), whole(1)]), &mut said);
        send.write_all(&said).await.unwrap();
        let (mut recv, mut json, mut pieces) = (BufReader::new(recv), Vec::new(), Vec::new());
        while read_json(&mut recv, &mut json).await.unwrap() {
            let message = FromSender::parse(&json).unwrap();
            if let FromSender::Data { bytes } = message {
                recv.read_exact(&mut vec![0; bytes as usize]).await.unwrap();
                pieces.push(bytes);
            } else if message == (FromSender::Finished {}) {
                break;
            }
        }
        b.close("enough");
        pieces
    };
    let progress = silent();
    let (_, pieces) = tokio::join!(send(&a, &listing, &progress), playing);
    let whole = wire::PIECE_BYTES_MAX as u32;
    let rest = 1_500_000 - whole;
    assert_eq!(pieces, [8192, whole, rest - 8192, whole, rest]);
}

#[tokio::test]
async fn a_second_time_nothing_is_sent() {
    let folders = Folders::new();
    folders.write("tree/a", &bytes(1, 3_000_000));
    folders.write("tree/b", b"");
    folders.sent(&["tree"]).await;
    let (sent, received) = folders.sent(&["tree"]).await;
    assert_eq!((sent.files_already_there, sent.bytes_transferred, sent.failed), (2, 0, 0));
    assert_eq!((sent.bytes_already_there, sent.files_completed), (3_000_000, 0));
    assert_eq!(sent, received);
}

fn rights(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn nobody_may_do_more_with_a_file_than_at_the_sender() {
    let folders = Folders::new();
    fs::create_dir(folders.target("by-the-umask")).unwrap();
    let umask_grants = rights(&folders.target("by-the-umask"));
    let modes = [0o600, 0o640, 0o644, 0o666, 0o700, 0o755, 0o777, 0o400, 0o4755];
    let names = modes.map(|mode| format!("{mode:o}"));
    for (name, mode) in names.iter().zip(modes) {
        folders.write(name, b"content");
        fs::set_permissions(folders.source(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    folders.sent(&names.each_ref().map(String::as_str)).await;
    for (name, mode) in names.iter().zip(modes) {
        let came = rights(&folders.target(name));
        assert_eq!(came, mode & 0o777 & umask_grants, "{name}: {came:o}");
    }
}

#[tokio::test]
async fn many_small_files_arrive() {
    let folders = Folders::new();
    for number in 0..3000_u32 {
        folders.write(&format!("tree/{}/{number}", number % 7), &number.to_be_bytes());
    }
    let (sent, _) = folders.sent(&["tree"]).await;
    assert_eq!((sent.files_completed, sent.failed), (3000, 0));
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}

#[tokio::test]
async fn symbolic_links_and_pipes_are_left_out() {
    let folders = Folders::new();
    folders.write("tree/file", b"x");
    std::os::unix::fs::symlink("file", folders.source("tree/link")).unwrap();
    let (fifo, mode) = (folders.source("tree/pipe"), rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (sent, _) = folders.sent(&["tree"]).await;
    assert_eq!((sent.files_completed, sent.skipped, sent.failed), (1, 2, 0));
    let (sent, _) = folders.sent(&["tree/link", "tree/file"]).await;
    assert!(failure(&sent).contains("symbolic link"));
}

#[tokio::test]
async fn arguments_that_cannot_be_sent_fail_alone() {
    let folders = Folders::new();
    folders.write("a/same", b"x");
    folders.write("b/same", b"y");
    folders.write("back\u{202e}slash", b"z");
    let names = ["a/same", "b/same", "none", "back\u{202e}slash"];
    let (sent, received) = folders.sent(&names).await;
    assert_eq!((sent.failed, sent.files_completed, received.failed), (3, 1, 3));
    let reasons = sent.failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for reason in ["another argument", "No such file", "turns text around"] {
        assert!(reasons.contains(reason), "{reasons}");
    }
}

#[tokio::test]
async fn two_of_one_part_are_told_what_to_do() {
    let folders = Folders::new();
    let (a, b, _sockets) = testing::pair().await;
    let listing = Arc::new(Listing::of(&[]).unwrap());
    let (one, other) = (silent(), silent());
    let (first, second) = tokio::join!(send(&a, &listing, &one), send(&b, &listing, &other));
    let errors = [first.unwrap_err().to_string(), second.unwrap_err().to_string()];
    assert!(errors.iter().any(|error| error.contains("needs `holepunch receive`")), "{errors:?}");
    let (a, b, _sockets) = testing::pair().await;
    let (into, options) = (folders.into.path(), ReceiveOptions::default());
    let (first, second) =
        tokio::join!(receive(&a, into, options, &one), receive(&b, into, options, &other));
    assert!(first.is_err() && second.is_err());
}
