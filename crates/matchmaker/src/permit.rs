//! What a worker may do here, as whoever let it in says.

use holepunch_wire::session::{RoomMode, RoomName};
use holepunch_wire::tenant::Tenant;

/// What a worker may do. By default it is of the tenant without a name, and may do everything there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permit {
    /// Whose rooms it is in, and whose workers it sees.
    pub tenant: Tenant,
    /// The rooms that it may be in, and whose workers it may call.
    pub rooms: Patterns,
    /// The modes of the rooms that it may be in, `Call` also for calls; `None`: every one.
    pub modes: Option<Vec<RoomMode>>,
    /// How much the relay carries for each of its sessions, in bytes; `None`: what it carries for everybody.
    pub relay_bytes: Option<u64>,
}

impl Permit {
    /// Whether it may be in this room.
    #[must_use]
    pub fn allows_room(&self, room: &RoomName) -> bool {
        self.rooms.allow(room.as_str())
    }

    /// Whether it may be in a room of this mode, or call others.
    #[must_use]
    pub fn allows_mode(&self, mode: RoomMode) -> bool {
        self.modes.as_ref().is_none_or(|modes| modes.contains(&mode))
    }
}

/// Names that are allowed: `*` stands for any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns(Option<Vec<String>>);

impl Patterns {
    /// Those that one of these matches; `None`: all.
    #[must_use]
    pub fn new(patterns: Option<Vec<String>>) -> Self {
        Self(patterns)
    }

    /// Whether a name is allowed.
    #[must_use]
    pub fn allow(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|all| all.iter().any(|pattern| matches(pattern, name)))
    }

    /// The patterns; `None`: everything is allowed.
    #[must_use]
    pub fn all(&self) -> Option<&[String]> {
        self.0.as_deref()
    }
}

/// In time that grows with the two lengths alone, whoever has made the pattern: each part is taken where it comes first, and
/// only the last one is bound to a place.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(name) = name.strip_prefix(first).and_then(|name| name.strip_suffix(last)) else {
        return false;
    };
    let mut left = name;
    middle.split('*').all(|part| {
        let found = left.find(part).map(|at| &left[at + part.len()..]);
        found.map(|behind| left = behind).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let yes = [
            ("", ""),
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("a*", "ab"),
            ("*b", "ab"),
            ("a*c", "abc"),
            ("a*b*c", "aXbYc"),
            ("a*b*c", "abbbc"),
            ("**", "x"),
            ("*ü*", "grün"),
            ("a*a", "aa"),
        ];
        let no = [
            ("", "a"),
            ("a", "A"),
            ("a*", "ba"),
            ("a*a", "a"),
            ("a*b*c", "acb"),
            ("*ab*ab*", "ab"),
            ("a?", "ab"),
        ];
        assert!(yes.iter().all(|(pattern, name)| matches(pattern, name)));
        assert!(!no.iter().any(|(pattern, name)| matches(pattern, name)));
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let (pattern, name) = ("*a".repeat(120) + "b", "a".repeat(128));
        assert!(!matches(&pattern, &name));
    }

    #[test]
    fn without_patterns_all_is_allowed_and_with_none_nothing() {
        assert!(Patterns::new(None).allow("x"));
        assert!(!Patterns::new(Some(Vec::new())).allow(""));
        let permit = Permit { modes: Some(vec![RoomMode::Call]), ..Permit::default() };
        assert!(permit.allows_mode(RoomMode::Call) && !permit.allows_mode(RoomMode::Pair));
    }
}
