//! The folder that is received into. Every path is walked component by component from its open
//! descriptor, following no symbolic link: nothing outside can be reached, whoever changes the folder
//! meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::super::name::RelativePath;

/// What a new folder may be, before the umask.
const EXECUTABLE: Mode = Mode::from_bits_truncate(0o777);
/// What an unfinished file is: nobody else may read it before it is known who may.
const PRIVATE: Mode = Mode::from_bits_truncate(0o600);
/// What the umask is taken to grant where no file can be made: there will be none to grant it for.
const GRANTED_AT_LEAST: u32 = 0o700;
/// Names that are tried for the file by which the folder is known to take files. More than one is there only where a
/// process of the same number was killed in the moment between.
const PROBES_MAX: u32 = 16;

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// `NONBLOCK`, since a pipe that somebody puts in the way would hold the opening up for ever.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// An open folder, and the one below it that was used last: files of one folder follow each other.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: Arc<OwnedFd>,
    /// What the umask lets anybody do with a new file.
    pub(super) umask_grants: u32,
    last: Option<(String, Arc<OwnedFd>)>,
}

impl Folder {
    /// Opens the folder, and makes it where there is none. A symbolic link is followed here, since it is
    /// the user who names it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        let umask_grants = probe(&root).unwrap_or(GRANTED_AT_LEAST);
        Ok(Self { root: Arc::new(root), umask_grants, last: None })
    }

    /// Bytes that may still be written, where the file system knows.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let space = rustix::fs::fstatvfs(&*self.root).ok()?;
        space.f_bavail.checked_mul(space.f_frsize)
    }

    /// Opens a folder below; `None` where it is not there.
    pub(super) fn find(&mut self, path: &str) -> io::Result<Option<Arc<OwnedFd>>> {
        match self.walk(path, false) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a folder below, and makes what is missing of it.
    pub(super) fn make(&mut self, path: &str) -> io::Result<Arc<OwnedFd>> {
        Ok(self.walk(path, true)?)
    }

    fn walk(&mut self, path: &str, make: bool) -> Result<Arc<OwnedFd>, Errno> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(Arc::clone(folder));
        }
        let mut at = Arc::clone(&self.root);
        for component in path.split('/').filter(|component| !component.is_empty()) {
            at = Arc::new(step(at.as_fd(), component, make)?);
        }
        self.last = Some((path.to_owned(), Arc::clone(&at)));
        Ok(at)
    }
}

/// Makes a file and removes it: the one way to know that a folder takes files (`access` does not know of every
/// file system's rules), and what the umask grants without changing it for the whole process. Its name is that of an
/// unfinished file, so that nobody sends one that was left.
pub(super) fn probe(folder: &OwnedFd) -> io::Result<u32> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let flags = FILE | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut outcome = Err(Errno::EXIST);
    for _ in 0..PROBES_MAX {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".probe.{:08x}{number:08x}.part", std::process::id());
        outcome = rustix::fs::openat(folder, &name, flags, EXECUTABLE).and_then(|opened| {
            let stat = rustix::fs::fstat(&opened);
            remove(folder, &name);
            Ok(stat?.st_mode & 0o777)
        });
        if outcome != Err(Errno::EXIST) {
            break;
        }
    }
    Ok(outcome?)
}

fn step(at: BorrowedFd<'_>, component: &str, make: bool) -> Result<OwnedFd, Errno> {
    if make {
        match rustix::fs::mkdirat(at, component, EXECUTABLE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::fs::openat(at, component, FOLDER, Mode::empty()).map_err(|error| {
        // Linux says of a link, too, that it is no folder.
        let is_link = || stat(at, component).is_ok_and(|stat| kind(&stat) == FileType::Symlink);
        if error == Errno::NOTDIR && is_link() { Errno::LOOP } else { error }
    })
}

fn stat(at: BorrowedFd<'_>, name: &str) -> Result<Stat, Errno> {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// What stands at a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Nothing,
    /// A regular file of this length.
    File(u64),
    Folder,
    Link,
    Other,
}

pub(super) fn standing(at: &OwnedFd, name: &str) -> io::Result<Standing> {
    let stat = match stat(at.as_fd(), name) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Standing::Nothing),
        Err(error) => return Err(error.into()),
    };
    let kind = kind(&stat);
    Ok(if kind == FileType::RegularFile {
        Standing::File(u64::try_from(stat.st_size).unwrap_or(0))
    } else if kind == FileType::Directory {
        Standing::Folder
    } else if kind == FileType::Symlink {
        Standing::Link
    } else {
        Standing::Other
    })
}

/// Opens a file that is there, to read it.
pub(super) fn open_existing(at: &OwnedFd, name: &str) -> io::Result<File> {
    let opened = rustix::fs::openat(at, name, FILE | OFlags::RDONLY, Mode::empty())?;
    Ok(File::from(opened))
}

/// Opens an unfinished file for this process alone, and makes it where there is none. Whoever may write
/// to the folder may have put something else in its place: only a regular file with no other name is
/// taken.
pub(super) fn open_partial(at: &OwnedFd, name: &str, make: bool) -> io::Result<File> {
    let flags = FILE | OFlags::RDWR | if make { OFlags::CREATE } else { OFlags::empty() };
    let opened = rustix::fs::openat(at, name, flags, PRIVATE)?;
    let stat = rustix::fs::fstat(&opened)?;
    if kind(&stat) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(io::Error::other("something that is no unfinished file has its name"));
    }
    match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            if stat.st_mode & 0o077 != 0 {
                // Some file systems have one mode for all of their files.
                let _where_it_can = rustix::fs::fchmod(&opened, PRIVATE);
            }
            Ok(File::from(opened))
        }
        Err(Errno::WOULDBLOCK) => Err(io::Error::other("another transfer is writing this file")),
        Err(error) => Err(error.into()),
    }
}

/// Which file it is, whatever its names are.
pub(super) type FileId = (u64, u64);

pub(super) fn id_of(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

/// Gives an unfinished file its name, unless something has it.
pub(super) fn name_new(at: &OwnedFd, partial: &str, name: &str) -> io::Result<()> {
    match rustix::fs::renameat_with(at, partial, at, name, RenameFlags::NOREPLACE) {
        // Some file systems cannot do this in one step.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(at, partial, at, name, AtFlags::empty())?;
            Ok(rustix::fs::unlinkat(at, partial, AtFlags::empty())?)
        }
        outcome => Ok(outcome?),
    }
}

/// Gives an unfinished file its name, instead of the file that has it; `ours` are those of this
/// transfer, which are never replaced: two names may be one to a file system that minds no case.
pub(super) fn name_instead(
    at: &OwnedFd,
    partial: &str,
    name: &str,
    is_ours: impl FnOnce(FileId) -> bool,
) -> io::Result<()> {
    match stat(at.as_fd(), name) {
        Ok(stat) if is_ours(id_of(&stat)) => {
            return Err(io::Error::other(
                "another file of this transfer has this name already: the file system takes both \
                 names for one",
            ));
        }
        Ok(_) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::renameat(at, partial, at, name)?)
}

pub(super) fn remove(at: &OwnedFd, path: &str) {
    // It is in nobody's way: the next transfer truncates it.
    let _when_it_stays = rustix::fs::unlinkat(at, path, AtFlags::empty());
}

/// The folder of a path below, made where it is missing.
pub(super) fn folder_of(folder: &mut Folder, path: &RelativePath) -> io::Result<Arc<OwnedFd>> {
    folder.make(path.folder())
}
