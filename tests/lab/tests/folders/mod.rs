//! Two folders of a transfer. They are removed in the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What is sent, and where it is to come.
pub(crate) struct Folders {
    from: TempDir,
    into: TempDir,
}

/// The path below a folder, and the hash.
type Hashes = Vec<(PathBuf, blake3::Hash)>;

impl Folders {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { from: tempfile::tempdir()?, into: tempfile::tempdir()? })
    }

    /// The tree to send.
    pub(crate) fn source(&self) -> String {
        self.from.path().join("tree").to_string_lossy().into_owned()
    }

    /// The folder to receive into.
    pub(crate) fn target(&self) -> String {
        self.into.path().to_string_lossy().into_owned()
    }

    /// Adds a file to the tree; its bytes differ everywhere.
    pub(crate) fn write(&self, name: &str, length: u64) -> io::Result<()> {
        let path = self.from.path().join("tree").join(name);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let mut bytes = blake3::Hasher::new().update(name.as_bytes()).finalize_xof();
        io::copy(&mut io::Read::take(&mut bytes, length), &mut fs::File::create(path)?).map(drop)
    }

    /// How much of a file of the tree has come, complete or not.
    pub(crate) fn received(&self, name: &str) -> u64 {
        let is_it = |path: &PathBuf| {
            let text = path.file_name().unwrap_or_default().to_string_lossy();
            text == name || text.starts_with(&format!(".{name}."))
        };
        let files = files(self.into.path()).unwrap_or_default();
        let file = files.iter().find(|path| is_it(path));
        file.and_then(|path| fs::metadata(path).ok()).map_or(0, |file| file.len())
    }

    /// Nothing is there but what was sent.
    pub(crate) fn compare(&self) -> Result<(), String> {
        let hashes = |folder: &Path| hashes(folder).map_err(|error| error.to_string());
        let (sent, came) = (hashes(self.from.path())?, hashes(self.into.path())?);
        if sent == came { Ok(()) } else { Err(format!("sent {sent:?}, came {came:?}")) }
    }
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn hashes(folder: &Path) -> io::Result<Hashes> {
    let hash = |path: PathBuf| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(&path)?)?;
        Ok((path.strip_prefix(folder).unwrap_or(&path).to_owned(), hasher.finalize()))
    };
    files(folder)?.into_iter().map(hash).collect()
}
