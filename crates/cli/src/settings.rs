//! Settings from flags, environment variables and the settings file. A flag wins, and a variable is over the file; one
//! that is empty counts as not set, since many platforms cannot unset one.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config_file::{ConfigFile, SERVICE_KEYS, ServiceKey};
use crate::exit::Failure;

/// Longest time that a setting may name: a day.
const SECONDS_MAX: f64 = 86_400.0;
/// Shortest: a ping or a wait every hundredth of a second is a load, not a setting.
const SECONDS_MIN: f64 = 0.01;

/// The environment variables of the process, or of a test, and what the settings file says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
    file: ConfigFile,
    /// Where all that is wrong is to be found, and not only the first of it.
    faults: Option<Arc<Mutex<Vec<Failure>>>>,
}

/// Where a setting comes from that no flag has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    Variable(&'a str),
    /// The setting in the file that means the same as this variable.
    File(&'a str),
}

impl Environment {
    /// Those of this process; a variable that is not UTF-8 is nobody's setting.
    pub(crate) fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let variables = std::env::vars_os().filter_map(utf8).collect();
        Self { variables, ..Self::default() }
    }

    /// For a check: what is wrong is [kept](Self::faults), and counts as not set.
    pub(crate) fn for_check(self) -> Self {
        Self { faults: Some(Arc::default()), ..self }
    }

    /// What a check has found wrong so far, in order.
    pub(crate) fn faults(&self) -> Vec<Failure> {
        let kept = self.faults.as_ref().map(|it| it.lock().unwrap_or_else(PoisonError::into_inner));
        kept.map(|faults| faults.clone()).unwrap_or_default()
    }

    /// What was read; in a check, what is wrong with it is kept, and the default goes on.
    pub(crate) fn kept<T: Default>(&self, read: Result<T, Failure>) -> Result<T, Failure> {
        match (read, &self.faults) {
            (Err(failure), Some(faults)) if failure.is_usage() => {
                faults.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                Ok(T::default())
            }
            (read, _) => read,
        }
    }

    /// With what a settings file says.
    pub(crate) fn with_file(self, file: ConfigFile) -> Self {
        Self { file, ..self }
    }

    /// The settings file.
    pub(crate) fn file(&self) -> &ConfigFile {
        &self.file
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { variables: variables.iter().map(own).collect(), ..Self::default() }
    }

    /// A variable as it is, where it is set.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// The value of the first of `variables` that is set, or else that of the file, and where it stands.
    pub(crate) fn found<'a>(&'a self, variables: &[&'a str]) -> Option<(Source<'a>, &'a str)> {
        let set = |name: &&'a str| {
            let text = self.variables.get(*name)?.trim();
            let is_set = !text.is_empty() && !is_service_link(name, text);
            is_set.then_some((Source::Variable(name), text))
        };
        let in_file = |name: &&'a str| Some((Source::File(name), self.file.get(name)?));
        variables.iter().find_map(set).or_else(|| variables.iter().find_map(in_file))
    }

    /// The flag's value, or else that of the first of `variables` that is set, or else that of the file.
    pub(crate) fn setting<T>(
        &self,
        flag: &str,
        value: Option<T>,
        variables: &[&str],
    ) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: Display,
    {
        if value.is_some() {
            return Ok(value);
        }
        let Some((source, text)) = self.found(variables) else { return Ok(None) };
        self.kept(text.parse().map(Some).map_err(|why| {
            let (name, place) = match source {
                Source::Variable(name) => {
                    (name, format!("the environment variable {name} ({flag})"))
                }
                Source::File(name) => (name, self.file.place(name)),
            };
            let is_secret = |key: &ServiceKey| key.is_secret && key.variable == name;
            Failure::usage(if SERVICE_KEYS.iter().any(is_secret) {
                format!("{place}: {why}")
            } else {
                format!("{place} is {text:?}: {why}")
            })
        }))
    }

    /// The same for a flag that may stand several times.
    pub(crate) fn list<T>(
        &self,
        flag: &str,
        values: &[String],
        variables: &[&str],
    ) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: Display,
    {
        let value = self.kept(repeated(flag, values))?;
        self.setting(flag, value, variables)
    }

    /// Whether a switch is on: by its flag, or by a variable that is true or false.
    pub(crate) fn switch(&self, flag: &str, on: bool, variable: &str) -> Result<bool, Failure> {
        let switch = self.setting(flag, on.then_some(Switch(true)), &[variable])?;
        Ok(switch.is_some_and(|Switch(on)| on))
    }
}

/// Whether nobody has set the variable for this program: Kubernetes tells each container of a service `stun` by
/// `STUN_PORT=tcp://10.0.0.1:3478`, as Docker's links did.
fn is_service_link(name: &str, text: &str) -> bool {
    let is = name.ends_with("_PORT")
        && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    if is {
        tracing::warn!(
            "the environment variable {name} is {text:?}, which names a service of Kubernetes and no port: \
             ignored (enableServiceLinks: false leaves such variables out)"
        );
    }
    is
}

/// An IP address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "expected an IP address and a port, as 0.0.0.0:9000")
    }
}

/// A port, or 0 for any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortNumber(pub(crate) u16);

impl FromStr for PortNumber {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "expected a port from 0 to 65535")
    }
}

/// The value of a flag that may stand several times, each time with one value or more.
pub(crate) fn repeated<T>(flag: &str, values: &[String]) -> Result<Option<T>, Failure>
where
    T: FromStr,
    T::Err: Display,
{
    if values.is_empty() {
        return Ok(None);
    }
    let text = values.join(",");
    text.parse().map(Some).map_err(|why| Failure::usage(format!("{flag} is {text:?}: {why}")))
}

/// A time in decimal seconds, within the bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds: f64 = text.parse().unwrap_or(f64::NAN);
        if (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
            Ok(Self(Duration::from_secs_f64(seconds)))
        } else {
            Err(format!("expected seconds, such as 25 or 0.5, from {SECONDS_MIN} to {SECONDS_MAX}"))
        }
    }
}

/// A pause in decimal seconds; 0 means none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pause(pub(crate) Duration);

impl FromStr for Pause {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(0.0) => Ok(Self(Duration::ZERO)),
            _ => text.parse().map(|Seconds(pause)| Self(pause)),
        }
    }
}

/// A number of bytes, alone or with one of the suffixes K, M, G, T (powers of 1,024).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text[number.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => Some(0),
            "K" | "KB" | "KIB" => Some(10),
            "M" | "MB" | "MIB" => Some(20),
            "G" | "GB" | "GIB" => Some(30),
            "T" | "TB" | "TIB" => Some(40),
            _ => None,
        };
        let bytes = number.parse::<u64>().ok().zip(shift);
        let bytes = bytes.and_then(|(number, shift)| number.checked_mul(1 << shift));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or("expected bytes, such as 500K, 20M or 1G")
    }
}

/// A whole number from `MIN` on. What counts things has 4 bytes, so that the largest one is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number<const MIN: u32>(pub(crate) u32);

impl<const MIN: u32> Number<MIN> {
    /// As a count of things in memory.
    pub(crate) fn count(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u32> FromStr for Number<MIN> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| *number >= MIN);
        number
            .map(Self)
            .ok_or_else(|| format!("expected a whole number from {MIN} to {}", u32::MAX))
    }
}

/// `none`, or a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrNone<T> {
    None,
    Some(T),
}

impl<T> OrNone<T> {
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }
}

impl<T: FromStr> FromStr for OrNone<T>
where
    T::Err: Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            Ok(Self::None)
        } else {
            text.parse().map(Self::Some).map_err(|why| format!("{why}, or none"))
        }
    }
}

/// Values with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T: FromStr> FromStr for List<T>
where
    T::Err: Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parse = |part: &str| part.parse().map_err(|why| format!("{part:?}: {why}"));
        let values = parts.map(parse).collect::<Result<Vec<T>, String>>()?;
        if values.is_empty() {
            Err("expected at least one value".to_owned())
        } else {
            Ok(Self(values))
        }
    }
}

/// `true` or `false`, in the usual spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Switch(bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(Self(true)),
            "0" | "false" | "no" | "off" => Ok(Self(false)),
            _ => Err("expected true or false".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_and_an_empty_variable_is_not_set() {
        let environment = Environment::of(&[("A", "1"), ("B", "2"), ("E", " ")]);
        let read = |flag, names: &[&str]| environment.setting::<u16>("--x", flag, names).unwrap();
        assert_eq!(read(Some(7), &["A"]), Some(7));
        assert_eq!(read(None, &["A", "B"]), Some(1));
        assert_eq!(read(None, &["E", "B"]), Some(2));
        assert_eq!(read(None, &["E"]), None);
        assert_eq!(read(None, &["none such"]), None);
    }

    #[test]
    fn a_flag_may_stand_several_times() {
        let values = ["1".to_owned(), "2,3".to_owned()];
        assert_eq!(repeated("--x", &values).unwrap(), Some(List(vec![1_u8, 2, 3])));
        assert_eq!(repeated::<List<u8>>("--x", &[]).unwrap(), None);
        let failure = repeated::<List<u8>>("--x", &["y".to_owned()]).unwrap_err();
        assert!(format!("{failure:?}").contains("--x"));
    }

    #[test]
    fn a_bad_variable_is_named() {
        let environment = Environment::of(&[("PORT", "eighty")]);
        let failure = environment.setting::<u16>("--port", None, &["PORT"]).unwrap_err();
        let text = format!("{failure:?}");
        assert!(text.contains("PORT") && text.contains("--port") && text.contains("eighty"));
    }

    #[test]
    fn what_kubernetes_says_of_a_service_of_the_same_name_is_no_setting() {
        for link in ["tcp://10.0.0.1:3478", "udp://10.0.0.1:3478", "sctp://[fd00::1]:3478"] {
            let environment = Environment::of(&[("STUN_PORT", link), ("OTHER", "7")]);
            let read = |names: &[&str]| environment.setting::<u16>("--stun-port", None, names);
            assert_eq!(read(&["STUN_PORT"]).unwrap(), None, "{link}");
            assert_eq!(read(&["STUN_PORT", "OTHER"]).unwrap(), Some(7), "{link}");
        }
        let own = Environment::of(&[("STUN_PORT", "http://x"), ("PORT", "tcp://10.0.0.1:1")]);
        assert!(own.setting::<u16>("--stun-port", None, &["STUN_PORT"]).is_err());
        assert!(own.setting::<u16>("--port", None, &["PORT"]).is_err(), "no service has no name");
    }

    #[test]
    fn seconds_are_decimal_and_positive() {
        assert_eq!("0.5".parse(), Ok(Seconds(Duration::from_millis(500))));
        assert_eq!("25".parse(), Ok(Seconds(Duration::from_secs(25))));
        for text in ["0", "1e-10", "-1", "nan", "inf", "1e9", "x", ""] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pause_may_be_none_at_all() {
        assert_eq!("0".parse(), Ok(Pause(Duration::ZERO)));
        assert_eq!("1.5".parse(), Ok(Pause(Duration::from_millis(1500))));
        assert!("-1".parse::<Pause>().is_err());
    }

    #[test]
    fn sizes_have_suffixes() {
        for (text, bytes) in [("1", 1), ("500k", 512_000), ("20M", 20 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "0", "K", "-1", "1.5G", "1X", "99999999T", "é"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_in_its_bounds_is_told_what_is_expected() {
        assert_eq!("1".parse(), Ok(Number::<1>(1)));
        assert_eq!("none".parse(), Ok(OrNone::<Number<1>>::None));
        for text in ["abc", "", "0", "-1", "1.5", "4294967296", "1k"] {
            let why = text.parse::<Number<1>>().unwrap_err();
            assert_eq!(why, "expected a whole number from 1 to 4294967295", "{text}");
            let or_none = text.parse::<OrNone<Number<1>>>().unwrap_err();
            assert_eq!(or_none, format!("{why}, or none"));
        }
    }

    #[test]
    fn lists_and_none() {
        assert_eq!("1, 2,".parse(), Ok(List(vec![1_u8, 2])));
        assert!("1,x".parse::<List<u8>>().unwrap_err().contains("\"x\""));
        assert!(",".parse::<List<u8>>().is_err());
        assert_eq!("None".parse::<OrNone<u8>>(), Ok(OrNone::None));
        assert_eq!("3".parse::<OrNone<u8>>(), Ok(OrNone::Some(3)));
    }
}
