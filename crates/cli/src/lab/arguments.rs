//! What stands behind the flags of `lab`.

use std::str::FromStr;
use std::time::Duration;

use holepunch_sim::lab::Incident;
use holepunch_sim::presets::NatKind;
use holepunch_wire::nat::SearchWish;
use holepunch_wire::text::start;

/// Names that are proposed for one that is not known.
const NEAR_MAX: usize = 5;
/// Longest time of a flag: an hour.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// Kinds of NAT, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kinds(pub(super) Vec<NatKind>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self(NatKind::all()));
        }
        let mut kinds = Vec::new();
        for name in text.split(',') {
            let kind = kind(name)?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(Self(kinds))
    }
}

/// What two workers stand behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairOfKinds {
    pub(super) first: NatKind,
    pub(super) second: NatKind,
}

impl FromStr for PairOfKinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, second) = text
            .split_once(',')
            .or_else(|| text.split_once('×'))
            .ok_or("expected two kinds with a comma between them, as eim-apdf,hard-apdf-random")?;
        Ok(Self { first: kind(first)?, second: kind(second)? })
    }
}

fn kind(name: &str) -> Result<NatKind, String> {
    let name = name.trim();
    name.parse().map_err(|_| {
        let shown = start(name, 64);
        format!("there is no kind of NAT {shown:?}; near it are {} (--list shows all)", near(name))
    })
}

/// The names that are most like this one: those that share most words, and of these the ones with
/// the fewest letters to change.
fn near(name: &str) -> String {
    let name = name.to_lowercase();
    let name = start(&name, 64);
    let words: Vec<&str> = name.split('-').collect();
    let likeness = |known: &String| {
        let shared = known.split('-').filter(|word| words.contains(word)).count();
        (std::cmp::Reverse(shared), distance(name, known))
    };
    let mut names: Vec<String> = NatKind::all().iter().map(ToString::to_string).collect();
    names.sort_by_cached_key(likeness);
    names.truncate(NEAR_MAX);
    names.join(", ")
}

/// How many letters have to be changed, added or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, letter) in a.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

/// A share, given in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percent(pub(super) f64);

impl FromStr for Percent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent = text.parse().ok().filter(|percent| (0.0..100.0).contains(percent));
        percent.map(|percent: f64| Self(percent / 100.0)).ok_or("expected 0 to below 100")
    }
}

/// A time, given in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ms(pub(super) Duration);

impl FromStr for Ms {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = text.trim().parse().map(Duration::from_millis).ok();
        let time = time.filter(|time| *time <= TIME_MAX);
        time.map(Self).ok_or("expected milliseconds, at most an hour")
    }
}

/// A time for each worker, given in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TwoMs(pub(super) [Duration; 2]);

impl FromStr for TwoMs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, second) =
            text.split_once(',').ok_or("expected milliseconds for each of the two, as 40,120")?;
        Ok(Self([first.parse::<Ms>()?.0, second.parse::<Ms>()?.0]))
    }
}

/// A time, given in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlainSeconds(pub(super) Duration);

impl FromStr for PlainSeconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = text.parse().ok().and_then(|time| Duration::try_from_secs_f64(time).ok());
        let time = time.filter(|time| *time <= TIME_MAX);
        time.map(Self).ok_or("expected seconds, at most an hour")
    }
}

/// What happens to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusual(pub(super) Incident);

impl FromStr for Unusual {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "rebind" => Ok(Self(Incident::Rebind)),
            "move" => Ok(Self(Incident::Move)),
            _ => Err("expected rebind or move"),
        }
    }
}

/// What the two flags say of searches.
pub(super) fn wish(exhaustive: bool, never: bool) -> SearchWish {
    match (exhaustive, never) {
        (true, _) => SearchWish::Exhaustive,
        (false, true) => SearchWish::Never,
        (false, false) => SearchWish::Usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_known_gets_near_ones() {
        let error = "eim-adpf,public".parse::<PairOfKinds>().unwrap_err();
        assert!(error.contains("\"eim-adpf\""), "{error}");
        assert!(error.contains("eim-apdf,") && error.contains("eim-adf,"), "{error}");
        let error = "hard-random".parse::<Kinds>().unwrap_err();
        assert!(error.contains("hard-adf-random"), "{error}");
    }

    #[test]
    fn kinds_stand_once_each() {
        let kinds: Kinds = "public,remap, public".parse().unwrap();
        assert_eq!(kinds.0, [NatKind::Public, NatKind::Remap]);
        assert_eq!("all".parse::<Kinds>().unwrap().0, NatKind::all());
    }

    #[test]
    fn the_distance_is_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn shares_and_times_have_bounds() {
        assert_eq!("10".parse::<Percent>().unwrap().0.to_bits(), 0.1_f64.to_bits());
        for text in ["100", "-1", "nan", ""] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        for text in ["-1", "1e9", "nan", "3601"] {
            assert!(text.parse::<PlainSeconds>().is_err(), "{text}");
        }
        assert!("3600001".parse::<Ms>().is_err());
        assert_eq!("40, 120".parse::<TwoMs>().unwrap().0[1], Duration::from_millis(120));
        assert!("40".parse::<TwoMs>().is_err());
    }
}
