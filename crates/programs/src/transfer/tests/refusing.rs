//! What is there is neither replaced nor followed.

use std::os::unix::fs::symlink;
use std::pin::Pin;
use std::sync::Mutex;

use tokio::sync::Notify;

use super::super::{Answer, Ask, Incoming, Notice, receive_asking};
use super::*;

#[tokio::test]
async fn another_file_of_the_name_is_kept_and_the_others_go_on() {
    let folders = Folders::new();
    for name in ["same-size", "other-size", "new"] {
        folders.write(name, b"from the sender");
    }
    fs::write(folders.target("same-size"), b"a receiver file").unwrap();
    fs::write(folders.target("other-size"), b"mine").unwrap();
    let names = ["same-size", "other-size", "new"];
    let (sent, received) = folders.sent(&names).await;
    assert_eq!((sent.failed, sent.files_completed), (2, 1));
    assert_eq!((received.failed, received.files_completed), (2, 1));
    assert!(received.failures.iter().all(|it| it.reason.contains("--force")), "{received:?}");
    assert_eq!(fs::read(folders.target("same-size")).unwrap(), b"a receiver file");
    assert_eq!(fs::read(folders.target("other-size")).unwrap(), b"mine");
    let (sent, received) = folders.transfer(&names, FORCE).await;
    let (sent, received) = (sent.unwrap(), received.unwrap());
    assert_eq!((sent.failed, sent.files_completed, sent.files_already_there), (0, 2, 1));
    assert_eq!(sent, received);
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}

/// Somebody who does not want it, once the sender knows that somebody is asked.
struct Declining(Arc<Notify>);

impl Ask for Declining {
    fn ask<'a>(&'a self, _: &'a Incoming) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async {
            self.0.notified().await;
            Answer::Declined
        })
    }
}

#[tokio::test]
async fn a_sender_is_told_that_somebody_is_asked_and_that_it_is_not_wanted() {
    let folders = Folders::new();
    folders.write("file", b"x");
    let (a, b, _sockets) = testing::pair().await;
    let listing = Arc::new(Listing::of(&[folders.source("file")]).unwrap());
    let (is_asked, told) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let (asked, telling) = (Declining(Arc::clone(&is_asked)), Arc::clone(&told));
    let progress = Arc::new(Progress::new(move |notice| {
        if notice == Notice::Asking {
            is_asked.notify_one();
        }
        telling.lock().unwrap().push(notice);
    }));
    let (silent, options) = (silent(), ReceiveOptions::default());
    let receiving = receive_asking(&b, &asked, options, &silent);
    let (sent, received) = tokio::join!(send(&a, &listing, &progress), receiving);
    assert!(matches!(sent, Err(TransferError::Unwanted)), "{sent:?}");
    assert!(matches!(received, Err(TransferError::Declined)), "{received:?}");
    assert!(tree(folders.into.path()).is_empty());
    let told = told.lock().unwrap();
    assert_eq!(told.iter().filter(|notice| **notice == Notice::Asking).count(), 1, "{told:?}");
}

#[test]
fn an_argument_that_cannot_be_sent_is_known_as_one_and_what_is_in_a_folder_is_not() {
    let folders = Folders::new();
    folders.write("tree/a\u{202e}b", b"bad");
    folders.write("file", b"x");
    symlink(folders.source("file"), folders.source("link")).unwrap();
    for (names, all) in [
        (&["tree", "file"][..], true),
        (&["file", "missing"], false),
        (&["file", "link"], false),
        (&["file", "tree/../file"], false),
        (&["tree/a\u{202e}b"], false),
    ] {
        let sources: Vec<PathBuf> = names.iter().map(|name| folders.source(name)).collect();
        let listing = Listing::of(&sources).unwrap();
        assert_eq!(listing.has_all_arguments(), all, "{names:?}: {:?}", listing.failures());
    }
}

#[tokio::test]
async fn the_size_of_a_file_in_the_way_is_not_told_to_the_sender() {
    let folders = Folders::new();
    folders.write("file", b"from the sender");
    fs::write(folders.target("file"), bytes(1, 12_345)).unwrap();
    let (sent, _) = folders.sent(&["file"]).await;
    let told = failure(&sent);
    assert!(told.contains("another file of this name") && !told.contains("12345"), "{told}");
}

#[tokio::test]
async fn what_is_hidden_is_taken_only_where_that_is_asked_for() {
    let folders = Folders::new();
    for name in [".bashrc", ".ssh/authorized_keys", "site/.htaccess"] {
        folders.write(name, b"content");
    }
    let names = [".bashrc", ".ssh", "site"];
    let (sent, received) = folders.sent(&names).await;
    for side in [&sent, &received] {
        assert_eq!((side.failed, side.files_completed), (3, 1), "{side:?}");
        assert!(side.failures.iter().all(|it| it.reason.contains("--hidden")), "{side:?}");
    }
    assert!(!folders.target(".bashrc").exists() && !folders.target(".ssh").exists());
    assert!(folders.target("site/.htaccess").exists());
    let hidden = ReceiveOptions { force: false, hidden: true };
    let (sent, received) = folders.transfer(&names, hidden).await;
    assert_eq!((sent.unwrap().failed, received.unwrap().failed), (0, 0));
    assert_eq!(tree(folders.from.path()), tree(folders.into.path()));
}

#[tokio::test]
async fn symbolic_links_in_the_destination_are_not_followed() {
    let folders = Folders::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("target"), b"theirs").unwrap();
    folders.write("tree/sub/file", b"attack");
    folders.write("tree/link", b"attack");
    folders.write("tree/half", &bytes(1, 100));
    fs::create_dir(folders.target("tree")).unwrap();
    symlink(elsewhere.path(), folders.target("tree/sub")).unwrap();
    symlink(elsewhere.path().join("target"), folders.target("tree/link")).unwrap();
    let partial = super::super::RelativePath::new("tree/half").unwrap().partial_name();
    symlink(elsewhere.path().join("target"), folders.target("tree").join(partial)).unwrap();
    for options in [ReceiveOptions::default(), FORCE] {
        let (_, received) = folders.transfer(&["tree"], options).await;
        let received = received.unwrap();
        assert_eq!((received.failed, received.files_completed), (4, 0), "{received:?}");
        assert!(received.failures.iter().all(|it| it.reason.contains("symbolic link")));
        assert_eq!(fs::read(elsewhere.path().join("target")).unwrap(), b"theirs");
        assert_eq!(tree(elsewhere.path()).len(), 1);
    }
}

#[tokio::test]
async fn a_partial_file_with_a_second_name_is_not_written_to() {
    let folders = Folders::new();
    folders.write("file", &bytes(1, 100));
    fs::write(folders.target("precious"), b"precious").unwrap();
    let partial = super::super::RelativePath::new("file").unwrap().partial_name();
    fs::hard_link(folders.target("precious"), folders.target(&partial)).unwrap();
    let (_, received) = folders.sent(&["file"]).await;
    assert!(failure(&received).contains("no unfinished file"));
    assert_eq!(fs::read(folders.target("precious")).unwrap(), b"precious");
}

#[tokio::test]
async fn files_and_folders_do_not_take_each_others_place() {
    let folders = Folders::new();
    folders.write("tree/folder/file", b"x");
    folders.write("tree/file", b"y");
    fs::create_dir_all(folders.target("tree/file")).unwrap();
    fs::write(folders.target("tree/folder"), b"mine").unwrap();
    let (_, received) = folders.transfer(&["tree"], FORCE).await;
    let received = received.unwrap();
    // The folder, the file in it, and the file.
    assert_eq!(received.failed, 3, "{received:?}");
    assert!(received.failures.iter().any(|it| it.reason.contains("a file stands")));
    assert!(received.failures.iter().any(|it| it.reason.contains("a folder of this name")));
    assert_eq!(fs::read(folders.target("tree/folder")).unwrap(), b"mine");
}

#[test]
fn a_file_in_the_place_of_the_folder_is_found_without_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for bad in [file.clone(), file.join("below/it")] {
        let refused = check_folder(&bad).unwrap_err().to_string();
        assert!(refused.contains("a file stands where a folder is needed"), "{refused}");
    }
    for good in [folder.path().to_owned(), folder.path().join("new/one"), "new".into()] {
        check_folder(&good).unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

#[tokio::test]
async fn what_cannot_be_offered_has_failed_on_both_sides_and_its_place_is_not_told() {
    let folders = Folders::new();
    folders.write("tree/good", b"good");
    folders.write("tree/a\u{202e}b", b"bad");
    let (sent, received) = folders.sent(&["tree", "missing"]).await;
    for side in [&sent, &received] {
        assert_eq!((side.failed, side.files_completed, side.totals.files), (2, 1, 3), "{side:?}");
        let of = |name: &str| side.failures.iter().any(|it| it.path.ends_with(name));
        assert!(of("tree/a\\u{202e}b") && of("missing"), "{side:?}");
    }
    let place = folders.from.path().to_string_lossy().into_owned();
    assert!(received.failures.iter().all(|it| !it.path.contains(&place)), "{received:?}");
    assert!(received.failures.iter().all(|it| it.reason.starts_with("at the sender: ")));
}

#[tokio::test]
async fn of_very_many_that_cannot_be_offered_the_receiver_is_told_the_number() {
    let folders = Folders::new();
    folders.write("good", b"good");
    let mut names = vec!["good".to_owned()];
    names.extend((0..250).map(|number| format!("missing-{number}")));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (sent, received) = folders.sent(&names).await;
    assert_eq!((sent.failed, sent.failures.len()), (250, 250));
    assert_eq!((received.failed, received.failures.len()), (250, 100));
}

#[tokio::test]
async fn bytes_of_files_that_fail_are_not_done_and_the_sender_says_where_it_was() {
    let folders = Folders::new();
    folders.write("tree/taken", &bytes(1, 300_000));
    folders.write("tree/new", &bytes(2, 1000));
    fs::create_dir(folders.target("tree")).unwrap();
    fs::write(folders.target("tree/taken"), b"mine").unwrap();
    let (sent, received) = folders.sent(&["tree"]).await;
    for side in [&sent, &received] {
        assert_eq!((side.bytes_done, side.bytes_failed), (1000, 300_000), "{side:?}");
    }
    assert!(failure(&sent).contains("at the receiver: "), "{sent:?}");
}
