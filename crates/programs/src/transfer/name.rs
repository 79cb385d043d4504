//! Names of files as they cross the link, and what a name may be.

use std::fmt;

use holepunch_wire::text::{exact, is_harmful, is_joiner};

/// Longest path, in bytes: what Linux takes in one call.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest component, in bytes: what the usual file systems take.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Most components of a path: each folder of it is opened on its own.
pub const DEPTH_MAX: usize = 128;
/// Bytes of a name that its unfinished file keeps: with what is around it, within
/// [`COMPONENT_BYTES_MAX`].
const PARTIAL_NAME_BYTES: usize = 200;
/// Hexadecimal digits that tell the unfinished files of one folder apart.
const PARTIAL_ID_DIGITS: usize = 16;
/// Whether names of devices are refused: on Windows alone they open a device; elsewhere `aux.c` is a
/// file like any other.
const DEVICES_ARE_RESERVED: bool = cfg!(windows);
/// Whether a backslash lies between the parts of a path: elsewhere it is a character of a name like any other, and
/// whoever receives on Windows refuses it.
const BACKSLASH_SEPARATES: bool = cfg!(windows);
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is none, or a component of it is empty (an absolute path, or two slashes).
    #[error("the name is absolute, or a part of it is empty")]
    Empty,
    /// Longer than [`PATH_BYTES_MAX`], or a component than [`COMPONENT_BYTES_MAX`].
    #[error(
        "the name is too long (at most {COMPONENT_BYTES_MAX} bytes a part, {PATH_BYTES_MAX} in all)"
    )]
    TooLong,
    /// More components than [`DEPTH_MAX`].
    #[error("the file lies more than {DEPTH_MAX} folders deep")]
    TooDeep,
    /// `.` or `..`.
    #[error("the name has a part `.` or `..`, which could lead out of the folder")]
    Traversal,
    /// A drive as in `C:`.
    #[error("the name begins with a drive")]
    Drive,
    /// A backslash, where it is a separator.
    #[error("the name has a backslash")]
    Backslash,
    /// NUL, a line feed or another control character.
    #[error("the name has a control character")]
    Control,
    /// A mark that turns text around, or that nobody sees: the name would look like another one.
    #[error("the name has an invisible character, or one that turns text around")]
    Invisible,
    /// A device, or the name of an unfinished file.
    #[error("the name is reserved: a device, or a file that a transfer has not finished")]
    Reserved,
}

/// A path that stays below the folder it is put in: components with `/` between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// Takes a path that obeys every rule.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn new(path: &str) -> Result<Self, NameError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if path.split('/').count() > DEPTH_MAX {
            return Err(NameError::TooDeep);
        }
        path.split('/').try_for_each(check_component)?;
        let mut first = path.chars();
        let letter = first.next().is_some_and(|letter| letter.is_ascii_alphabetic());
        if letter && first.next() == Some(':') {
            return Err(NameError::Drive);
        }
        Ok(Self(path.to_owned()))
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, the outermost first.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The folder that it lies in; empty for the outermost one.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it is hidden where it is put: programs read what lies there (`.ssh/authorized_keys`, `.bashrc`)
    /// and people do not see it.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.0.starts_with('.')
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    /// The name, in the same folder, of the file while it is not finished. It depends on the path
    /// alone, so that the next run finds it.
    #[must_use]
    pub fn partial_name(&self) -> String {
        let name = self.name();
        let kept = name.floor_char_boundary(PARTIAL_NAME_BYTES);
        let id = blake3::hash(self.0.as_bytes()).to_hex();
        format!(".{}.{}.part", &name[..kept], &id[..PARTIAL_ID_DIGITS])
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_component(component: &str) -> Result<(), NameError> {
    if component.is_empty() {
        return Err(NameError::Empty);
    }
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if component == "." || component == ".." {
        return Err(NameError::Traversal);
    }
    if BACKSLASH_SEPARATES && component.contains('\\') {
        return Err(NameError::Backslash);
    }
    if component.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    if hides_something(component) {
        return Err(NameError::Invisible);
    }
    if is_partial(component) || DEVICES_ARE_RESERVED && is_device(component) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Whether a name has what nobody sees, or what shows it otherwise than it is. A joiner is part of the spelling between
/// letters of some scripts (Persian) and between emoji (as the rules for names of hosts have it, RFC 5892 A.1); beside
/// ASCII it joins nothing.
fn hides_something(name: &str) -> bool {
    let mut before = None;
    let mut rest = name.chars().peekable();
    while let Some(character) = rest.next() {
        let can_join = |it: &char| !it.is_ascii() && !is_joiner(*it);
        let joins = before.as_ref().is_some_and(can_join) && rest.peek().is_some_and(can_join);
        if is_harmful(character) || (is_joiner(character) && !joins) {
            return true;
        }
        before = Some(character);
    }
    false
}

/// Whether a name is that of an unfinished file.
fn is_partial(name: &str) -> bool {
    let middle = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part"));
    let id = middle.and_then(|middle| middle.rsplit_once('.')).map_or("", |(_, id)| id);
    id.len() == PARTIAL_ID_DIGITS && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Whether a name opens a device on Windows: whatever its extension and case, and whatever dots and
/// spaces are behind it.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_lowercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|rest| matches!(rest.as_bytes(), [b'1'..=b'9']))
    };
    DEVICES.contains(&stem.as_str())
        || NUMBERED_DEVICES.into_iter().any(numbered)
        || name.ends_with(['.', ' '])
}

/// A text of somebody else's, as it may be shown on a terminal: what would move the cursor, turn the direction of
/// writing or be invisible is written out, as `\u{202e}`, and the length is bounded.
#[must_use]
pub fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    let mut kept = exact(text, CHARACTERS_MAX);
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn names_of_files_and_folders_in_any_script_are_taken() {
        for name in ["a", "a/b/c.txt", "ä/日本/🦀.rs", "…", "..a", "a..", " a ", "12:30", "aux.c"]
        {
            assert_eq!(RelativePath::new(name).map(|it| it.0), Ok(name.to_owned()));
        }
    }

    #[test]
    fn each_rule_has_its_refusal() {
        let long = "x".repeat(COMPONENT_BYTES_MAX + 1);
        let deep = "a/".repeat(DEPTH_MAX) + "a";
        let longest = "abcdefg/".repeat(PATH_BYTES_MAX / 8) + "a";
        let refused = [
            ("", NameError::Empty),
            ("/etc/passwd", NameError::Empty),
            ("a//b", NameError::Empty),
            ("a/", NameError::Empty),
            ("..", NameError::Traversal),
            ("a/../../b", NameError::Traversal),
            ("./a", NameError::Traversal),
            ("C:", NameError::Drive),
            ("c:a", NameError::Drive),
            ("a\0b", NameError::Control),
            ("a\nb", NameError::Control),
            ("\u{9b}2J", NameError::Control),
            (&long, NameError::TooLong),
            (&deep, NameError::TooDeep),
            (&longest, NameError::TooLong),
            (".a.0123456789abcdef.part", NameError::Reserved),
        ];
        for (name, why) in refused {
            assert_eq!(RelativePath::new(name), Err(why), "{name:?}");
        }
    }

    #[test]
    fn a_name_that_may_look_like_another_one_is_refused() {
        for mark in "\u{202a}\u{202e}\u{2066}\u{2069}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{61c}\u{feff}\u{2060}\
                     \u{2028}\u{2029}\u{e0001}\u{e007f}\u{ad}\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{3164}\u{ffa0}\
                     \u{1d173}\u{1d17a}"
            .chars()
        {
            let name = format!("folder/invoice{mark}fdp.exe");
            assert_eq!(RelativePath::new(&name), Err(NameError::Invisible), "{mark:?}");
            assert_eq!(shown(&name), format!("folder/invoice{}fdp.exe", mark.escape_unicode()));
        }
        for name in ["é\u{200d}\u{200d}é", "\u{200c}é", "é\u{200c}"] {
            assert_eq!(RelativePath::new(name), Err(NameError::Invisible), "{name:?}");
        }
        // A variation selector, joiners that join, and letters that are written from right to left.
        for name in
            ["heart\u{2764}\u{fe0f}", "שלום.txt", "e\u{301}", "👩\u{200d}🚀", "می\u{200c}خواهم"]
        {
            assert!(RelativePath::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn devices_are_known_with_any_extension_and_case() {
        for name in ["CON", "aux.c", "Com1", "lpt9.txt", "nul.tar.gz", "a.", "a "] {
            assert!(is_device(name), "{name}");
        }
        for name in ["cone", "com0", "com", "com10", "lpt", "a"] {
            assert!(!is_device(name), "{name}");
        }
    }

    #[test]
    fn an_unfinished_file_has_a_name_of_its_own_that_fits() {
        let long = RelativePath::new(&"é".repeat(COMPONENT_BYTES_MAX / 2)).unwrap();
        assert!(long.partial_name().len() <= COMPONENT_BYTES_MAX);
        let paths = ["a", "b/a"].map(|path| RelativePath::new(path).unwrap().partial_name());
        assert!(paths[0] != paths[1] && paths.iter().all(|name| is_partial(name)));
        assert!(!is_partial(".a.part") && !is_partial("a.0123456789abcdef.part"));
    }

    #[test]
    fn what_is_shown_cannot_move_the_cursor() {
        assert_eq!(shown("a\u{1b}[2J\n\u{202e}b"), "a\\u{1b}[2J\\u{a}\\u{202e}b");
        assert_eq!(shown("x\u{200d}y\u{feff}"), "x\\u{200d}y\\u{feff}");
        assert_eq!(shown(&"x".repeat(400)).chars().count(), 301);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_in_the_folder(path in r"([a-zA-Z.:\\/\x00-\x1f é🦀]|\.\./){0,40}") {
            if let Ok(taken) = RelativePath::new(&path) {
                let normal = |it: Component<'_>| matches!(it, Component::Normal(_));
                prop_assert!(Path::new(taken.as_str()).components().all(normal));
                prop_assert_eq!(Path::new(taken.as_str()).components().count(), taken.components().count());
                prop_assert!(Path::new("/x").join(taken.as_str()).starts_with("/x"));
                prop_assert!(taken.partial_name().len() <= COMPONENT_BYTES_MAX);
                prop_assert!(RelativePath::new(&taken.partial_name()).is_err());
            }
        }

        #[test]
        fn no_text_is_too_strange_to_be_judged(path in any::<String>()) {
            if let Ok(taken) = RelativePath::new(&path) {
                prop_assert_eq!(taken.as_str(), &path);
            }
            prop_assert!(!shown(&path).chars().any(char::is_control));
        }
    }
}
