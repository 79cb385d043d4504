//! Files whose system names no size. Some make content when it is read, and say before that there is none (`/proc`,
//! FUSE): they are read when they are listed, since the list says how long a file is.

use std::fs::Metadata;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::opened::{looked_at, open_regular, unreadable};

/// Bytes of one such file: beyond all that `/proc` has for people to read, and little beside the list of a large transfer.
pub(super) const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of all such files of a transfer.
pub(super) const HELD_IN_ALL_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(HELD_BYTES_MAX <= HELD_IN_ALL_BYTES_MAX);

/// What a file without a size turns out to be.
#[derive(Debug)]
pub(super) enum Sizeless {
    /// It has no content.
    Empty,
    /// Its content, of which its system says nothing.
    Held(Arc<[u8]>),
    /// A size has come meanwhile: somebody has just written to it.
    Sized(Metadata),
}

/// Reads a file without a size, of which at most `bytes_max` may be held.
///
/// # Errors
/// In words, why it cannot be sent.
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Sizeless, String> {
    let opened = open_regular(path)?;
    let mut content = Vec::new();
    let read = (&opened).take(bytes_max as u64 + 1).read_to_end(&mut content);
    let read = read.map_err(|error| unreadable(&error))?;
    let metadata = looked_at(&opened)?;
    if metadata.len() > 0 {
        return Ok(Sizeless::Sized(metadata));
    }
    if read > bytes_max {
        return Err(format!(
            "its file system names no size, and it has more content than the {bytes_max} bytes that are read before a \
             transfer: send a copy of it"
        ));
    }
    Ok(if content.is_empty() { Sizeless::Empty } else { Sizeless::Held(content.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_not_taken_for_its_beginning() {
        let made_when_read = Path::new("/proc/version");
        if fs::metadata(made_when_read).is_ok_and(|it| it.len() == 0) {
            let length = fs::read(made_when_read).unwrap().len();
            let read_whole = read(made_when_read, length).unwrap();
            assert!(matches!(read_whole, Sizeless::Held(bytes) if bytes.len() == length));
            let refused = read(made_when_read, length - 1).unwrap_err();
            assert!(refused.contains("names no size"), "{refused}");
        }
    }

    #[test]
    fn an_empty_file_has_no_content_and_one_that_is_being_written_has_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(matches!(read(&path, 10), Ok(Sizeless::Empty)));
        fs::write(&path, b"more than ten bytes").unwrap();
        assert!(matches!(read(&path, 10), Ok(Sizeless::Sized(it)) if it.len() == 19));
    }
}
