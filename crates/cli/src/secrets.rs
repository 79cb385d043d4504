//! Secrets among the settings: a value, or the first line of a file, so that no list of processes shows it.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::exit::Failure;
use crate::settings::Environment;

/// The first line of a secret's file, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// A text that no log shows.
#[derive(Clone)]
pub(crate) struct Hidden(pub(crate) String);

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What a secret is called, and where it is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret {
    pub(crate) what: &'static str,
    /// The flag and the variable.
    pub(crate) value: (&'static str, &'static str),
    /// Those of the file.
    pub(crate) file: (&'static str, &'static str),
}

impl Secret {
    /// What the flags, the variables or the file say. A flag that names a file is meant, whatever variable is set.
    pub(crate) fn read(
        self,
        value: Option<String>,
        file: Option<PathBuf>,
        environment: &Environment,
    ) -> Result<Option<String>, Failure> {
        let file_is_meant = file.is_some();
        let value = environment.setting(self.value.0, value, &[self.value.1])?;
        let file = environment.setting(self.file.0, file, &[self.file.1])?;
        match (value, file) {
            (Some(value), _) if !file_is_meant => Ok(Some(value)),
            (_, Some(path)) => first_line(&path).map(Some).map_err(|error| {
                let (what, path) = (self.what, path.display());
                Failure::usage(format!("cannot read {what} from {path}: {error}"))
            }),
            (value, None) => Ok(value),
        }
    }
}

fn first_line(path: &Path) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(File::open(path)?.take(SECRET_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}
