//! What is there is neither replaced nor followed.

use super::*;
use std::os::unix::fs::symlink;

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
