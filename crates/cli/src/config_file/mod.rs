//! The settings file: what a person sets once for all programs. Flags and environment variables are over it.

mod command;
mod keys;
mod login;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::exit::Failure;

pub use keys::{SERVICE_KEYS, ServiceKey};

pub(crate) use command::{Args as ConfigArgs, Settings, run as run_config, without_password};
pub(crate) use login::{Args as LoginArgs, Refused, registered, run as run_login, visitor};

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The variable that names another file.
const PATH_VARIABLE: &str = "HOLEPUNCH_CONFIG";
/// A name that is as like as this to another one may be a slip of it: 0 is nothing in common, 1 the same.
const LIKE: f64 = 0.8;
/// The name of the key that stays, beside the settings file.
const IDENTITY_NAME: &str = "identity.pem";

/// A setting of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// The variable that means the same.
    pub variable: &'static str,
    /// The flag that means the same.
    pub flag: &'static str,
    /// What a person may want to know.
    pub meaning: &'static str,
}

/// The settings of a file that every program heeds. Those of the services are [others](SERVICE_KEYS).
pub const KEYS: [Key; 6] = [
    Key {
        name: "rendezvous",
        variable: "RENDEZVOUS_SERVICE_URL",
        flag: "--rendezvous-url",
        meaning: "the rendezvous",
    },
    Key {
        name: "token",
        variable: "HOLEPUNCH_TOKEN",
        flag: "--token",
        meaning: "the token for that rendezvous, where it wants one",
    },
    Key {
        name: "stun_servers",
        variable: "STUN_SERVERS",
        flag: "--stun-servers",
        meaning: "STUN servers beside that of the rendezvous",
    },
    Key {
        name: "identity",
        variable: "IDENTITY",
        flag: "--identity",
        meaning: "the file of the own key, or `default`",
    },
    Key {
        name: "room_secret_file",
        variable: "ROOM_SECRET_FILE",
        flag: "--room-secret-file",
        meaning: "the file with the words that peers have to know",
    },
    Key {
        name: "name",
        variable: "CHAT_NAME",
        flag: "--name",
        meaning: "the name that peers see in a chat",
    },
];

/// What a settings file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    /// Where it is, or would be; none where the system names no place.
    pub(crate) path: Option<PathBuf>,
    /// By the variable of the setting.
    values: BTreeMap<&'static str, String>,
}

impl ConfigFile {
    /// The file that `flag` or a variable names, or that of the user, which need not be there.
    ///
    /// # Errors
    /// It cannot be read, or says something that no setting is.
    pub(crate) fn read(
        flag: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let (file, faults) = Self::read_all(flag, variable);
        faults.into_iter().next().map_or(Ok(file), Err)
    }

    /// The same, with all that is wrong with it.
    pub(crate) fn read_all(
        flag: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> (Self, Vec<Failure>) {
        let set = |name: &str| variable(name).filter(|text| !text.is_empty());
        let named = flag.or_else(|| set(PATH_VARIABLE).map(PathBuf::from));
        let has_to_be_there = named.is_some();
        let Some(path) = named.or_else(|| Some(folder(set)?.join("config.toml"))) else {
            return (Self::default(), Vec::new());
        };
        match text(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let may_be_missing = error.kind() == ErrorKind::NotFound && !has_to_be_there;
                let why = format!("cannot read the settings file {}: {error}", path.display());
                let fault = (!may_be_missing).then(|| Failure::usage(why));
                (Self { path: Some(path), ..Self::default() }, fault.into_iter().collect())
            }
        }
    }

    /// What a text says, and all that is wrong with it.
    fn parse(path: PathBuf, text: &str) -> (Self, Vec<Failure>) {
        let mut file = Self { path: Some(path.clone()), ..Self::default() };
        let mut faults = Vec::new();
        match text.parse::<DocumentMut>() {
            Ok(document) => {
                file.take(document.as_table(), &path, &mut faults);
            }
            Err(error) => faults.push(Failure::usage(format!(
                "the settings file {} is not TOML: {}",
                path.display(),
                one_line(&error)
            ))),
        }
        (file, faults)
    }

    /// What a table says. Settings in one inside it count as if they stood outside, so that all that is wrong with them is told
    /// at once.
    fn take(&mut self, table: &dyn TableLike, path: &Path, faults: &mut Vec<Failure>) {
        for (name, item) in table.iter() {
            let several = item.as_array_of_tables().into_iter().flatten();
            let one = item.as_table_like().into_iter();
            let mut inside = one.chain(several.map(|it| it as &dyn TableLike)).peekable();
            if inside.peek().is_some() {
                faults.push(Failure::usage(format!(
                    "the settings file {} has a table {name:?}: expected all settings at the top level, as `listen = \"…\"`, and no \
                     lines in square brackets",
                    path.display()
                )));
                inside.for_each(|inner| self.take(inner, path, faults));
                continue;
            }
            match setting(name, item, &path.display()) {
                Ok((variable, value)) => drop(self.values.insert(variable, value)),
                Err(fault) => faults.push(fault),
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> Self {
        let (file, faults) = Self::parse(PathBuf::from("config.toml"), text);
        assert!(faults.is_empty(), "{faults:?}");
        file
    }

    /// What it says of a setting, by its variable.
    pub(crate) fn get(&self, variable: &str) -> Option<&str> {
        self.values.get(variable).map(String::as_str)
    }

    /// How a value of it is named in an error.
    pub(crate) fn place(&self, variable: &str) -> String {
        let names = KEYS.iter().map(|key| (key.variable, key.name));
        let mut names = names.chain(SERVICE_KEYS.iter().map(|key| (key.variable, key.name)));
        let name = names.find(|(of, _)| *of == variable).map_or(variable, |(_, name)| name);
        let path = self.path.as_deref().unwrap_or(Path::new("")).display();
        format!("{name} in the settings file {path}")
    }

    /// Where the key is that `--identity default` means.
    pub(crate) fn default_identity(&self) -> Option<PathBuf> {
        Some(self.path.as_ref()?.parent()?.join(IDENTITY_NAME))
    }
}

/// The user's folder for settings of this program: that of the XDG base directory specification, or of the system.
fn folder(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_user = || {
        if cfg!(windows) { absolute("APPDATA") } else { Some(absolute("HOME")?.join(".config")) }
    };
    Some(absolute("XDG_CONFIG_HOME").or_else(of_user)?.join("holepunch"))
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it is longer than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// A setting's variable, and its value as the variable would have it.
fn setting(
    name: &str,
    item: &Item,
    at: &impl std::fmt::Display,
) -> Result<(&'static str, String), Failure> {
    let (variable, value, expected) = match of_name(name) {
        Some((variable, false)) => {
            let expected = if name == "stun_servers" {
                "a list of texts in quotes"
            } else {
                "a text in quotes"
            };
            (variable, as_text(item), expected)
        }
        Some((variable, true)) => {
            let expected = "a text in quotes, a number, true or false, or a list of such";
            (variable, as_text(item).or_else(|| any_as_text(item)), expected)
        }
        None => {
            let known = KEYS.map(|key| key.name).join(", ");
            let meant = nearest(name).map(|it| format!(" (did you mean `{it}`?)"));
            return Err(Failure::usage(format!(
                "the settings file {at} has {name:?}, which is no setting of it{}: expected {known}, or the name of a \
                 flag of rendezvous, relay or worker that has a variable",
                meant.unwrap_or_default()
            )));
        }
    };
    let value = value.ok_or_else(|| {
        Failure::usage(format!("{name} in the settings file {at}: expected {expected}"))
    })?;
    Ok((variable, value))
}

/// The variable of a setting, and whether it is one of a service.
fn of_name(name: &str) -> Option<(&'static str, bool)> {
    let of_people = KEYS.iter().find(|key| key.name == name).map(|key| (key.variable, false));
    let of_service = || SERVICE_KEYS.iter().find(|key| key.name == name);
    of_people.or_else(|| of_service().map(|key| (key.variable, true)))
}

/// The setting whose name is most like this one, by the measure that flags of the command line are suggested by.
fn nearest(name: &str) -> Option<&'static str> {
    let known = KEYS.iter().map(|key| key.name).chain(SERVICE_KEYS.iter().map(|key| key.name));
    let near = known.map(|known| (strsim::jaro(name, known), known));
    near.filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

/// A text, or a list of texts as variables have it, with commas between them.
fn as_text(item: &Item) -> Option<String> {
    let list = |values: &toml_edit::Array| {
        values.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|all| all.join(","))
    };
    item.as_str().map(str::to_owned).or_else(|| list(item.as_array()?))
}

/// A number, a switch, or a list, likewise.
fn any_as_text(item: &Item) -> Option<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        Value::Boolean(on) => Some(on.value().to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => None,
    };
    let value = item.as_value()?;
    let list = |all: &toml_edit::Array| {
        all.iter().map(one).collect::<Option<Vec<_>>>().map(|all| all.join(","))
    };
    one(value).or_else(|| list(value.as_array()?))
}

/// A TOML error has a line for the place, and one that points to it.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// Writes settings into a file, takes those out that have no value, and leaves all else of it as it is. The file, and a folder that
/// has to be made, are the owner's alone: a URL may hold a password.
fn write(path: &Path, settings: &[(&str, Option<&str>)]) -> std::io::Result<()> {
    let before = match text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let mut document = before
        .parse::<DocumentMut>()
        .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, one_line(&error)))?;
    for (name, value) in settings {
        match value {
            Some(value) => document[name] = toml_edit::value(*value),
            None => drop(document.remove(name)),
        }
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    make_folder(folder)?;
    replace(path, &document.to_string())
}

/// Writes a file, its owner's alone, where there is none. One that cannot be written to its end is taken away again.
pub(crate) fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _if_it_can_be = std::fs::remove_file(path);
    }
    written
}

/// Writes the same in the place of one that may be there: whoever reads it meanwhile sees the old one or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let _of_an_earlier_attempt = std::fs::remove_file(new);
    create(new, text)?;
    let renamed = std::fs::rename(new, path);
    if renamed.is_err() {
        let _if_it_can_be = std::fs::remove_file(new);
    }
    renamed
}

/// Makes a folder that is the owner's alone, where there is none.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
