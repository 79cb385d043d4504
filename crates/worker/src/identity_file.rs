//! A worker's key in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use holepunch_link::{Identity, IdentityError};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

/// Longest file that is read; a key has some 150 bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;
/// Characters of a line (RFC 7468 §2).
const LINE_CHARS: usize = 64;
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Why a file gives no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// It cannot be read.
    #[error("cannot read the identity file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the identity file {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds no key.
    #[error(
        "the identity file {path} holds no Ed25519 key: expected PEM with BEGIN PRIVATE KEY, as \
         `openssl genpkey -algorithm ed25519` writes it",
        path = path.display()
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    #[error(
        "the identity file {path} can be read by others (mode {mode:o}): make it yours alone with \
         `chmod 600 {path}`",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No key can be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Reads the key in a file; makes one, readable by its owner alone, where there is no file.
///
/// # Errors
/// The file cannot be read or written, can be read by others, or holds no key.
pub fn load_or_create(path: &Path) -> Result<Identity, IdentityFileError> {
    match File::open(path) {
        Ok(file) => load(path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(source) => Err(IdentityFileError::Read { path: path.to_owned(), source }),
    }
}

fn load(path: &Path, file: File) -> Result<Identity, IdentityFileError> {
    let owned = || path.to_owned();
    if let Some(mode) = exposed_mode(&file) {
        return Err(IdentityFileError::Exposed { path: owned(), mode });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|source| IdentityFileError::Read { path: owned(), source })?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&text)
        .map_err(|_| IdentityFileError::NotAKey { path: owned() })?;
    Identity::from_pkcs8(key.secret_pkcs8_der())
        .map_err(|_| IdentityFileError::NotAKey { path: owned() })
}

#[cfg(unix)]
fn exposed_mode(file: &File) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn exposed_mode(_: &File) -> Option<u32> {
    None
}

/// Writes a new key beside the file, and gives it its name only when it is whole: a process that is
/// killed in between leaves no half of a key, and of two that start at once one wins.
fn create(path: &Path) -> Result<Identity, IdentityFileError> {
    let identity = Identity::generate()?;
    let failed = |source| IdentityFileError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", identity.public_key()));
    let beside = path.with_file_name(name);
    let written = write(&beside, &to_pem(identity.reveal_pkcs8()));
    let named = written.and_then(|()| std::fs::hard_link(&beside, path));
    let _or_it_was_not_written = std::fs::remove_file(&beside);
    match named {
        Ok(()) => Ok(identity),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = File::open(path).map_err(failed)?;
            load(path, file)
        }
        Err(error) => Err(failed(error)),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A key pair as text (RFC 7468 §10).
fn to_pem(der: &[u8]) -> String {
    let mut base64 = String::new();
    for group in der.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| (bits << 8) | usize::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = char::from(BASE64[(bits >> shift) & 63]);
            base64.push(if index <= group.len() { digit } else { '=' });
        }
    }
    let mut text = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for start in (0..base64.len()).step_by(LINE_CHARS) {
        text.push_str(&base64[start..base64.len().min(start + LINE_CHARS)]);
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_is_made_is_the_one_that_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.pem");
        let made = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap().public_key(), made.public_key());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.pem");
        load_or_create(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let refused = load_or_create(&path).unwrap_err();
        assert!(matches!(refused, IdentityFileError::Exposed { mode: 0o644, .. }), "{refused}");
    }

    #[test]
    fn a_file_without_a_key_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.pem");
        write(&path, "a letter").unwrap();
        assert!(matches!(load_or_create(&path), Err(IdentityFileError::NotAKey { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a letter");
        let nowhere = folder.path().join("no/such/folder/id.pem");
        assert!(matches!(load_or_create(&nowhere), Err(IdentityFileError::Write { .. })));
        assert!(load_or_create(folder.path()).is_err());
    }
}
