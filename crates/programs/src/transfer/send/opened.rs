//! A file that is open to be sent, and what has become of it since it was listed.

use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::super::error::explain;
use super::super::wire::{FileEntry, PIECE_BYTES_MAX};
use super::listing::{Content, Listed, file_entry};

/// Which file it is, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What is sent of an entry is read from here.
#[derive(Debug)]
pub(super) enum Opened {
    /// The file, and which one was listed.
    File(File, FileId),
    /// What was read of it when it was listed.
    Held(Cursor<Arc<[u8]>>),
}

/// Opens a regular file. What is wrong is told in words.
pub(super) fn open_regular(path: &Path) -> Result<File, String> {
    // Without NONBLOCK, a pipe in the file's place would hold this up for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let opened = opened.map_err(|error| explain("cannot be opened", &error.into()))?;
    let opened = File::from(opened);
    if !looked_at(&opened)?.is_file() {
        return Err("is no regular file any more".to_owned());
    }
    Ok(opened)
}

pub(super) fn looked_at(file: &File) -> Result<Metadata, String> {
    file.metadata().map_err(|error| explain("cannot be looked at", &error))
}

pub(super) fn unreadable(error: &io::Error) -> String {
    explain("cannot be read", error)
}

impl Opened {
    /// Opens what was listed, and nothing that has come in its place since.
    pub(super) fn new(listed: &Listed, file: &FileEntry) -> Result<Self, String> {
        let id = match &listed.content {
            Content::Held(bytes) => return Ok(Self::Held(Cursor::new(Arc::clone(bytes)))),
            Content::Of(id) => *id,
            Content::Nothing => return Err("is no file".to_owned()),
        };
        let opened = open_regular(&listed.source)?;
        grown(&opened, id, file)?;
        Ok(Self::File(opened, id))
    }

    /// Goes on with the byte at `offset`.
    pub(super) fn go_to(&mut self, offset: u64) -> Result<(), String> {
        let end = match self {
            Self::File(file, _) => file.seek(SeekFrom::Start(offset)),
            Self::Held(bytes) => bytes.seek(SeekFrom::Start(offset)),
        };
        end.map(|_| ()).map_err(|error| unreadable(&error))
    }

    /// Fills `piece` with the next bytes: as many as a piece may have, or `left`.
    pub(super) fn read_piece(&mut self, piece: &mut Vec<u8>, left: u64) -> Result<(), String> {
        piece.clear();
        let wanted = left.min(PIECE_BYTES_MAX as u64);
        let read = match self {
            Self::File(file, _) => file.take(wanted).read_to_end(piece),
            Self::Held(bytes) => bytes.take(wanted).read_to_end(piece),
        };
        let read = read.map_err(|error| unreadable(&error))?;
        if (read as u64) < wanted {
            return Err("has become shorter while it was read: send it again".to_owned());
        }
        Ok(())
    }

    /// All that was listed has been read: the size of the file now, where it has grown. That nothing else was left unread
    /// is looked at as well: some systems name another size than there is content, and to send such a file as complete
    /// would be to claim what nobody has seen.
    pub(super) fn end(&mut self, file: &FileEntry) -> Result<Option<u64>, String> {
        let Self::File(opened, id) = self else { return Ok(None) };
        let more = opened.read(&mut [0; 1]).map_err(|error| unreadable(&error))?;
        // Afterwards, so that what was written since is in it.
        let grown = grown(opened, *id, file)?;
        if more > 0 && grown.is_none() {
            let size = file.size;
            return Err(format!(
                "has more content than the {size} bytes that its file system names: send a copy of it"
            ));
        }
        Ok(grown)
    }
}

/// The size of a file where it has grown since it was listed: what it had then is its beginning, as long as programs only
/// append to it. One that was written to otherwise has no content to speak of, and another one that has come in its place
/// is not what was listed.
fn grown(opened: &File, id: FileId, file: &FileEntry) -> Result<Option<u64>, String> {
    let metadata = looked_at(opened)?;
    let now = file_entry(&metadata);
    if now.size > file.size && FileId::of(&metadata) == id {
        return Ok(Some(now.size));
    }
    if now.size != file.size || now.modified != file.modified {
        let (before, now) = (file.size, now.size);
        return Err(format!(
            "has changed since it was listed ({before} bytes then, {now} now): send it again"
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::super::listing::Listing;
    use super::*;

    #[test]
    fn what_is_added_while_a_file_is_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, b"before").unwrap();
        let listing = Listing::of(std::slice::from_ref(&path)).unwrap();
        let listed = &listing.entries[0];
        let file = listed.file().unwrap();
        let mut opened = Opened::new(listed, file).unwrap();
        let mut piece = Vec::new();
        opened.read_piece(&mut piece, 3).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b" and after").unwrap();
        assert_eq!(piece, b"bef");
        opened.read_piece(&mut piece, 3).unwrap();
        assert_eq!((piece.as_slice(), opened.end(file)), (&b"ore"[..], Ok(Some(16))));
        fs::write(&path, b"b").unwrap();
        opened.go_to(0).unwrap();
        assert!(opened.read_piece(&mut piece, 6).unwrap_err().contains("shorter"));
        assert!(opened.end(file).unwrap_err().contains("has changed"));
    }
}
