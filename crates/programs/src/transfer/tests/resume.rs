//! Transfers that break off and go on.

use super::*;
use holepunch_link::Link;

/// Small sequences of random numbers, from a seed that a failure names.
fn random(seed: u64, below: u64) -> u64 {
    let hash = blake3::hash(&seed.to_be_bytes());
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(bytes) % below
}

/// Closes the link once the receiver has so many bytes.
async fn close_after(link: &Link, receiving: &Progress, bytes: u64) {
    while receiving.summary().bytes_transferred < bytes && link.ended().is_none() {
        tokio::task::yield_now().await;
    }
    link.close("broken off by the test");
}

/// Sends until so many bytes have come, then breaks the link.
async fn broken_off(folders: &Folders, names: &[&str], after: u64) -> Outcomes {
    let sources: Vec<PathBuf> = names.iter().map(|name| folders.source(name)).collect();
    let listing = Arc::new(Listing::of(&sources).unwrap());
    let (a, b, _sockets) = testing::pair().await;
    let (sending, receiving) = (silent(), silent());
    let options = ReceiveOptions::default();
    let transfer = async {
        tokio::join!(
            send(&a, &listing, &sending),
            receive(&b, folders.into.path(), options, &receiving)
        )
    };
    tokio::pin!(transfer);
    tokio::select! {
        outcomes = &mut transfer => outcomes,
        () = close_after(&b, &receiving, after) => transfer.await,
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn a_large_file_goes_on_wherever_it_broke_off() {
    let size = 9_000_000_u64;
    for seed in 0..12 {
        let folders = Folders::new();
        folders.write("large", &bytes(7, size as usize));
        for round in 0..3 {
            let after = random(seed * 3 + round, size / 4);
            let there = partials(folders.into.path()).first().map_or(0, |path| length(path));
            let (_, received) = broken_off(&folders, &["large"], after).await;
            if received.is_ok() {
                break;
            }
            let partials = partials(folders.into.path());
            let now = partials.first().map_or(0, |path| length(path));
            assert!(now >= there, "seed {seed}: {now} of {there} bytes are left");
            assert_eq!(tree(folders.into.path()).len(), partials.len(), "seed {seed}");
        }
        let there = partials(folders.into.path()).first().map(|path| length(path));
        let (sent, received) = folders.sent(&["large"]).await;
        if let Some(there) = there {
            assert_eq!(sent.bytes_transferred, size - there, "seed {seed}");
            assert_eq!(received.bytes_transferred, size - there, "seed {seed}");
            assert_eq!(received.bytes_already_there, there, "seed {seed}");
        }
        assert_eq!(tree(folders.from.path()), tree(folders.into.path()), "seed {seed}");
    }
}

#[tokio::test]
async fn a_tree_goes_on_wherever_it_broke_off() {
    for seed in 0..8 {
        let folders = Folders::new();
        for number in 0..60_u8 {
            let size = random(number.into(), 60_000) as usize;
            folders.write(&format!("tree/{}/{number}", number % 5), &bytes(number, size));
        }
        let total = Listing::of(&[folders.source("tree")]).unwrap().totals().bytes;
        for round in 0..4 {
            let after = random(seed * 4 + round, total / 3);
            let _broken = broken_off(&folders, &["tree"], after).await;
            for (path, entry) in tree(folders.into.path()) {
                let is_partial = path.to_string_lossy().ends_with(".part");
                let source = tree(folders.from.path()).remove(&path);
                assert!(is_partial || source == Some(entry), "seed {seed}: {path:?} is torn");
            }
        }
        let (sent, received) = folders.sent(&["tree"]).await;
        assert_eq!((sent.failed, received.failed), (0, 0));
        assert_eq!(sent.bytes_transferred + sent.bytes_already_there, total, "seed {seed}");
        assert_eq!(tree(folders.from.path()), tree(folders.into.path()), "seed {seed}");
    }
}

#[tokio::test]
async fn a_partial_file_of_another_content_is_not_used() {
    let folders = Folders::new();
    folders.write("file", &bytes(1, 3_000_000));
    let (_, received) = broken_off(&folders, &["file"], 1_500_000).await;
    assert!(received.is_err());
    folders.write("file", &bytes(2, 2_999_999));
    let (sent, _) = folders.sent(&["file"]).await;
    assert_eq!((sent.bytes_transferred, sent.bytes_already_there), (2_999_999, 0));
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}

#[tokio::test]
async fn a_partial_file_that_is_longer_than_the_source_is_not_used() {
    let folders = Folders::new();
    folders.write("file", &bytes(1, 3_000_000));
    let (_, received) = broken_off(&folders, &["file"], 2_000_000).await;
    assert!(received.is_err());
    folders.write("file", b"short");
    folders.sent(&["file"]).await;
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}

#[tokio::test]
async fn a_complete_file_without_its_name_is_not_sent_again() {
    let folders = Folders::new();
    folders.write("file", &bytes(1, 1_000_000));
    let partial = super::super::RelativePath::new("file").unwrap().partial_name();
    fs::write(folders.target(&partial), bytes(1, 1_000_000)).unwrap();
    let (sent, _) = folders.sent(&["file"]).await;
    assert_eq!((sent.bytes_transferred, sent.files_completed), (0, 1));
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}

#[tokio::test]
async fn of_two_transfers_of_one_file_into_one_folder_the_second_is_told() {
    let folders = Folders::new();
    folders.write("file", b"content");
    let partial = folders.target(&super::super::RelativePath::new("file").unwrap().partial_name());
    fs::write(&partial, b"con").unwrap();
    let held = fs::File::open(&partial).unwrap();
    held.lock().unwrap();
    let (sent, received) = folders.sent(&["file"]).await;
    assert!(failure(&received).contains("another transfer"));
    assert!(failure(&sent).contains("another transfer"));
    drop(held);
    folders.sent(&["file"]).await;
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}
