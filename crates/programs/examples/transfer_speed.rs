//! How fast files go over a link on loopback, beside a plain copy over the same link.
//!
//! ```text
//! cargo run --release -p holepunch-programs --example transfer_speed -- /dev/shm 1024 10000
//! ```
//! The folder to work in (a tmpfs shows the transfer and not the disk), MiB of the large file, and how
//! many small ones. Both sides run in this one process.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a service")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holepunch_link::testing;
use holepunch_programs::transfer::{Listing, Progress, ReceiveOptions, receive, send};

const MEBIBYTE: usize = 1024 * 1024;
/// Each small file.
const SMALL_BYTES: usize = 1000;
/// Each figure is that of one of so many runs.
const RUNS: usize = 3;

/// The same number of bytes over a stream, from memory and into nothing.
async fn plain(mebibytes: usize) -> Duration {
    let (a, b, _sockets) = testing::pair().await;
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        let (mut send, _recv) = a.open_bi().await.unwrap();
        let piece = Bytes::from(vec![7; MEBIBYTE]);
        for _ in 0..mebibytes {
            send.write_chunk(piece.clone()).await.unwrap();
        }
        send.finish().unwrap();
        send.stopped().await.unwrap();
    });
    let receiving = tokio::spawn(async move {
        let (_send, mut recv) = b.accept_bi().await.unwrap();
        while recv.read_chunk(MEBIBYTE).await.unwrap().is_some() {}
    });
    let (sent, received) = tokio::join!(sending, receiving);
    sent.and(received).unwrap();
    began.elapsed()
}

async fn transfer(source: &Path, into: &Path) -> Duration {
    let (a, b, _sockets) = testing::pair().await;
    let began = Instant::now();
    let listing = Arc::new(Listing::of(&[PathBuf::from(source)]).unwrap());
    let (one, other) = (Arc::<Progress>::default(), Arc::<Progress>::default());
    // On tasks of their own, as they would be in two processes.
    let sending = tokio::spawn(async move { send(&a, &listing, &one).await.unwrap() });
    let into = into.to_owned();
    let options = ReceiveOptions::default();
    let receiving = tokio::spawn(async move { receive(&b, &into, options, &other).await.unwrap() });
    let (sent, received) = tokio::join!(sending, receiving);
    assert_eq!((sent.unwrap().failed, received.unwrap().failed), (0, 0));
    began.elapsed()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "/dev/shm".to_owned()));
    let mut number = |or: usize| arguments.next().and_then(|it| it.parse().ok()).unwrap_or(or);
    let (mebibytes, files) = (number(1024), number(10_000));
    let work = tempfile::tempdir_in(folder).unwrap();
    let large = work.path().join("large");
    std::fs::write(&large, vec![7; mebibytes * MEBIBYTE]).unwrap();
    let small = work.path().join("small");
    std::fs::create_dir(&small).unwrap();
    for file in 0..files {
        std::fs::write(small.join(file.to_string()), vec![7; SMALL_BYTES]).unwrap();
    }
    for run in 1..=RUNS {
        let into = work.path().join(format!("into-{run}"));
        let rate = |time: Duration| mebibytes as f64 / time.as_secs_f64();
        println!(
            "run {run}: plain stream, {mebibytes} MiB: {:.0} MiB/s",
            rate(plain(mebibytes).await)
        );
        println!(
            "run {run}: one file, {mebibytes} MiB: {:.0} MiB/s",
            rate(transfer(&large, &into).await)
        );
        let again = transfer(&large, &into).await;
        println!("run {run}: the same, already there: {:.0} MiB/s", rate(again));
        let time = transfer(&small, &into).await.as_secs_f64();
        println!(
            "run {run}: {files} files of {SMALL_BYTES} bytes: {:.0} files/s",
            files as f64 / time
        );
        std::fs::remove_dir_all(into).unwrap();
    }
}
