//! `--store`: several rendezvous as one.

use std::str::FromStr;

use holepunch_rendezvous::{MatchmakerConfig, Peers};
use holepunch_store::{StoreUrl, StoreUrlError};
use holepunch_wire::relay::RelayAccess;

use crate::exit::Failure;
use crate::settings::Environment;

const DEFAULT_PREFIX: &str = "holepunch";
/// Longest prefix, in bytes: it stands before each key.
const PREFIX_BYTES_MAX: usize = 64;

/// What several rendezvous share.
#[derive(Debug, clap::Args)]
#[group(id = "store_options")]
#[command(next_help_heading = "Several rendezvous")]
pub(crate) struct Args {
    /// What several rendezvous share; else the memory of this one
    ///
    /// Redis 7 or later: redis://[USER:PASSWORD@]HOST[:PORT], rediss:// with TLS, redis+sentinel://HOST,HOST/SERVICE,
    /// redis+cluster://HOST,HOST. All rendezvous that share one need the same --relay-key, and each the URL of a relay
    /// (--relay-url): its own, or that of `holepunch relay`. The variable does not show in lists of processes
    /// [env: STORE] [default: memory]
    #[arg(long, value_name = "URL")]
    store: Option<Place>,
    /// Before all that stands there: rendezvous with another prefix know nothing of these
    ///
    /// [env: STORE_PREFIX] [default: holepunch]
    #[arg(long, value_name = "TEXT", hide_short_help = true)]
    store_prefix: Option<Prefix>,
}

#[derive(Debug, Clone)]
enum Place {
    Memory,
    Redis(StoreUrl),
}

impl FromStr for Place {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if text == "memory" { Ok(Self::Memory) } else { text.parse().map(Self::Redis) }
    }
}

#[derive(Debug, Clone)]
struct Prefix(String);

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if !text.is_empty() && text.len() <= PREFIX_BYTES_MAX && text.chars().all(is_good) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected at most 64 letters, digits and -_.:")
        }
    }
}

/// A store that is shared.
#[derive(Debug)]
pub(super) struct Shared {
    url: StoreUrl,
    prefix: String,
}

impl Args {
    /// The store, where it is not this process.
    pub(super) fn read(
        self,
        environment: &Environment,
        relay: Option<&RelayAccess>,
    ) -> Result<Option<Shared>, Failure> {
        let store = environment.setting("--store", self.store, &["STORE"])?;
        let prefix = environment.setting("--store-prefix", self.store_prefix, &["STORE_PREFIX"])?;
        let Some(Place::Redis(url)) = store else { return Ok(None) };
        if relay.is_none() {
            return Err(Failure::usage(
                "--store (STORE) needs --relay-key (RELAY_KEY), the same for all rendezvous that share it",
            ));
        }
        let prefix = prefix.map_or(DEFAULT_PREFIX.to_owned(), |Prefix(text)| text);
        Ok(Some(Shared { url, prefix }))
    }
}

impl Shared {
    /// The others. The number of this process is a random one: nobody gives out any.
    pub(super) fn peers(self, config: &MatchmakerConfig) -> Peers {
        let Self { url, prefix } = self;
        if config.relay.as_ref().is_some_and(|relay| relay.url.is_none()) {
            tracing::warn!(
                "no --relay-url: workers of two rendezvous that have no direct path find no relay that they both reach"
            );
        }
        tracing::info!(store = %url, prefix, "one of several rendezvous");
        holepunch_store::open(&url, &prefix, rand::random(), config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use holepunch_wire::relay::RelayKey;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Option<Shared>, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        let relay = RelayAccess { key: RelayKey::new([1; 32]), url: None, udp: Vec::new() };
        line.args.read(&Environment::of(variables), Some(&relay))
    }

    #[test]
    fn the_store_is_memory_unless_it_is_named() {
        assert!(
            read(&[], &[]).unwrap().is_none()
                && read(&["--store", "memory"], &[]).unwrap().is_none()
        );
        let shared = read(&["--store", "redis://h"], &[]).unwrap().unwrap();
        assert_eq!((shared.url.to_string(), &*shared.prefix), ("redis://h".into(), "holepunch"));
        let variables = [("STORE", "redis://u:secret@h"), ("STORE_PREFIX", "two")];
        let shared = read(&[], &variables).unwrap().unwrap();
        assert_eq!(shared.prefix, "two");
        assert!(!format!("{shared:?}").contains("secret"), "a password in a log");
        let failure = read(&[], &[("STORE_PREFIX", "{x}"), ("STORE", "redis://h")]).unwrap_err();
        assert!(format!("{failure:?}").contains("STORE_PREFIX"), "{failure:?}");
    }

    #[test]
    fn those_who_share_a_store_share_a_key() {
        let line = Line::try_parse_from(["x", "--store", "redis://h"]).unwrap();
        let failure = line.args.read(&Environment::of(&[]), None).unwrap_err();
        assert!(format!("{failure:?}").contains("--relay-key"), "{failure:?}");
    }
}
