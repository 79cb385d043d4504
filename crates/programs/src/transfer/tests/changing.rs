//! Files that are written to between their listing and their end, and files whose size nobody names.

use super::super::Notice;
use super::*;
use std::io::Write;
use std::sync::Mutex;

#[tokio::test]
async fn a_file_that_changes_after_it_was_listed_fails_and_the_others_go_on() {
    let folders = Folders::new();
    folders.write("changed", b"before");
    folders.write("gone", b"x");
    folders.write("stays", b"y");
    let sources = ["changed", "gone", "stays"].map(|name| folders.source(name));
    let listing = Arc::new(Listing::of(&sources).unwrap());
    folders.write("changed", b"after");
    fs::remove_file(folders.source("gone")).unwrap();
    let (sent, received) = sent_as_listed(&folders, &listing, &silent()).await;
    assert_eq!((sent.failed, sent.files_completed), (2, 1));
    assert_eq!((received.failed, received.files_completed), (2, 1));
    assert!(sent.failures[0].reason.contains("has changed"), "{sent:?}");
    assert!(received.failures[1].reason.contains("at the sender"), "{received:?}");
    assert_eq!(tree(folders.into.path()).len(), 1);
}

async fn sent_as_listed(
    folders: &Folders,
    listing: &Arc<Listing>,
    sending: &Arc<Progress>,
) -> (Summary, Summary) {
    let (a, b, _sockets) = testing::pair().await;
    let (into, receiving) = (folders.into.path(), silent());
    let receiving = receive(&b, into, ReceiveOptions::default(), &receiving);
    let (sent, received) = tokio::join!(send(&a, listing, sending), receiving);
    (sent.unwrap(), received.unwrap())
}

fn append(path: &Path, more: &[u8]) {
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(more).unwrap();
}

#[tokio::test]
async fn a_file_that_grows_arrives_as_it_was_when_it_was_listed_and_that_is_told() {
    let folders = Folders::new();
    let before = bytes(1, 3_000_000);
    folders.write("log", &before);
    folders.write("empty", b"");
    let listing = Arc::new(Listing::of(&["log", "empty"].map(|it| folders.source(it))).unwrap());
    append(&folders.source("log"), b"another line");
    append(&folders.source("empty"), b"the first line");
    let (sent, received) = sent_as_listed(&folders, &listing, &silent()).await;
    assert_eq!((sent.failed, sent.files_completed, sent.warned), (0, 2, 2), "{sent:?}");
    assert_eq!((received.failed, received.files_completed, received.warned), (0, 2, 0));
    assert!(fs::read(folders.target("log")).unwrap() == before);
    assert_eq!(fs::metadata(folders.target("empty")).unwrap().len(), 0);
    let told = sent.warnings[0].to_string();
    assert!(told.starts_with("log: has grown") && told.contains("3000012 now"), "{told}");
    // What is there is what was listed, so it is not sent again.
    let (sent, _) = sent_as_listed(&folders, &listing, &silent()).await;
    assert_eq!((sent.files_already_there, sent.warned, sent.failed), (2, 2, 0), "{sent:?}");
}

#[tokio::test]
async fn a_longer_file_that_has_taken_the_place_of_a_listed_one_is_not_its_growth() {
    let folders = Folders::new();
    folders.write("file", b"before");
    let listing = Arc::new(Listing::of(&[folders.source("file")]).unwrap());
    folders.write("another", b"afterwards");
    fs::rename(folders.source("another"), folders.source("file")).unwrap();
    let (sent, _) = sent_as_listed(&folders, &listing, &silent()).await;
    assert!(failure(&sent).contains("has changed"), "{sent:?}");
    assert_eq!(sent.warned, 0);
}

#[tokio::test]
async fn a_file_whose_system_names_no_size_arrives_whole() {
    let source = Path::new("/proc/version");
    if fs::metadata(source).is_ok_and(|it| it.len() == 0) {
        let folders = Folders::new();
        let content = fs::read(source).unwrap();
        for (completed, already_there) in [(1, 0), (0, 1)] {
            let (sent, received) =
                transfer(&[source.to_owned()], folders.into.path(), ReceiveOptions::default())
                    .await;
            let (sent, received) = (sent.unwrap(), received.unwrap());
            assert_eq!(sent.totals.bytes, content.len() as u64);
            assert_eq!((sent.failed, sent.warned, received.failed), (0, 0, 0));
            assert_eq!(
                (sent.files_completed, sent.files_already_there),
                (completed, already_there)
            );
            assert_eq!(fs::read(folders.target("version")).unwrap(), content);
        }
    }
}

#[tokio::test]
async fn what_the_receiver_has_of_a_file_is_read_once_by_the_sender() {
    let folders = Folders::new();
    folders.write("file", &bytes(1, 3_000_000));
    let partial = super::super::RelativePath::new("file").unwrap().partial_name();
    fs::write(folders.target(&partial), &bytes(1, 3_000_000)[..2_000_000]).unwrap();
    let checked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&checked);
    let sending = Arc::new(Progress::new(move |notice| {
        if let Notice::Checking { bytes, .. } = notice {
            kept.lock().unwrap().push(bytes);
        }
    }));
    let listing = Arc::new(Listing::of(&[folders.source("file")]).unwrap());
    let (sent, _) = sent_as_listed(&folders, &listing, &sending).await;
    assert_eq!((sent.bytes_transferred, sent.bytes_already_there), (1_000_000, 2_000_000));
    assert_eq!(*checked.lock().unwrap(), [2_000_000]);
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}
