//! The relay: that of `holepunch rendezvous`, and what opens it here or elsewhere.

use std::path::PathBuf;

use holepunch_rendezvous::RelayLimits;
use holepunch_wire::relay::{RelayAccess, RelayKey};
use holepunch_worker::RelayUrl;

use super::Advertised;
use super::relay_limits::LimitArgs;
use crate::exit::Failure;
use crate::secrets::{Hidden, Secret};
use crate::settings::{Environment, List};

const KEY: Secret = Secret {
    what: "the relay's key",
    value: ("--relay-key", "RELAY_KEY"),
    file: ("--relay-key-file", "RELAY_KEY_FILE"),
};

/// The options of the relay.
#[derive(Debug, clap::Args)]
#[group(id = "relay")]
#[command(next_help_heading = "Relay")]
pub(crate) struct Args {
    /// Relay nothing
    ///
    /// Workers without a direct path have no link then, unless --relay-url names a relay elsewhere [env: NO_RELAY]
    #[arg(long)]
    no_relay: bool,
    /// A relay elsewhere, for all links
    ///
    /// The URL at which workers reach a `holepunch relay` that has the same --relay-key: http or https [env: RELAY_URL]
    #[arg(long, value_name = "URL")]
    relay_url: Option<RelayUrl>,
    /// Where the relay elsewhere is reached by UDP as well
    ///
    /// Addresses or names, looked up at the start; of the rendezvous' own relay, workers are told the addresses of STUN
    /// [env: RELAY_UDP]
    #[arg(long, value_name = "ADDR,…", hide_short_help = true)]
    relay_udp: Vec<String>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What a rendezvous shares with its relays.
#[derive(Debug, clap::Args)]
#[group(id = "relay_secret")]
#[command(next_help_heading = "Relay")]
pub(crate) struct KeyArgs {
    /// What rendezvous and relay share
    ///
    /// At least 32 characters that nobody can guess, as of `openssl rand -hex 32`. With one that stays, workers get back
    /// to the relay of a rendezvous that was started again. The variable does not show in lists of processes
    /// [env: RELAY_KEY] [default: of a rendezvous, a new one at every start]
    #[arg(long, value_name = "KEY")]
    relay_key: Option<Hidden>,
    /// A file with this key in its first line [env: RELAY_KEY_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "relay_key", hide_short_help = true)]
    relay_key_file: Option<PathBuf>,
}

impl KeyArgs {
    pub(crate) fn key(self, environment: &Environment) -> Result<Option<RelayKey>, Failure> {
        let value = self.relay_key.map(|Hidden(text)| text);
        let text = KEY.read(value, self.relay_key_file, environment)?;
        let key = text.map(|text| RelayKey::of_text(&text)).transpose();
        key.map_err(|why| {
            Failure::usage(format!(
                "RELAY_KEY or RELAY_KEY_FILE (--relay-key, --relay-key-file): {why}"
            ))
        })
    }
}

impl Args {
    /// What is relayed here, nothing at all where it is turned off; and what opens the relay, where that is set.
    pub(super) fn read(
        self,
        environment: &Environment,
    ) -> Result<(Option<RelayLimits>, Option<RelayAccess>), Failure> {
        let is_off = environment.switch("--no-relay", self.no_relay, "NO_RELAY")?;
        let url = environment.setting("--relay-url", self.relay_url, &["RELAY_URL"])?;
        let udp: Option<List<Advertised>> =
            environment.list("--relay-udp", &self.relay_udp, &["RELAY_UDP"])?;
        let udp = udp.filter(|_| url.is_some()).map(|List(all)| all).unwrap_or_default();
        let udp = udp.into_iter().map(|Advertised(address)| address).collect();
        let access = match (environment.kept(self.key.key(environment))?, url) {
            (Some(key), url) => Some(RelayAccess { key, url: url.map(|url| url.to_string()), udp }),
            (None, Some(_)) => {
                return Err(Failure::usage(
                    "--relay-url (RELAY_URL) needs --relay-key (RELAY_KEY), which that relay shares",
                ));
            }
            (None, None) => None,
        };
        Ok(((!is_off).then_some(self.limits.limits(environment)?), access))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use holepunch_wire::session::SessionId;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    type Read = Result<(Option<RelayLimits>, Option<RelayAccess>), Failure>;

    const WORD: &str = "north-north-north-north-north-north";

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Read {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        assert!(!format!("{line:?}").contains("north"), "a secret in a log");
        line.args.read(&Environment::of(variables))
    }

    fn is_of(key: &RelayKey, text: &str) -> bool {
        let token = RelayKey::of_text(text).unwrap().token(SessionId(1), 0, 1);
        key.side(SessionId(1), &token, 0).is_ok()
    }

    #[test]
    fn a_relay_is_on_unless_it_is_turned_off_by_flag_or_variable() {
        let (limits, access) = read(&[], &[]).unwrap();
        assert!(limits == Some(RelayLimits::default()) && access.is_none());
        assert_eq!(read(&["--no-relay"], &[]).unwrap().0, None);
        assert_eq!(read(&[], &[("NO_RELAY", "1")]).unwrap().0, None);
    }

    #[test]
    fn its_key_comes_from_a_flag_a_variable_or_a_file() {
        let path = std::env::temp_dir().join(format!("relay-key-{}", std::process::id()));
        std::fs::write(&path, format!("{WORD}\nmore")).unwrap();
        let file = path.to_str().unwrap();
        for (flags, variables) in [
            (&["--relay-key", WORD][..], &[][..]),
            (&[], &[("RELAY_KEY", WORD)]),
            (&["--relay-key-file", file], &[]),
            (&[], &[("RELAY_KEY_FILE", file)]),
        ] {
            let (_, access) = read(flags, variables).unwrap();
            let access = access.unwrap();
            assert!(is_of(&access.key, WORD) && access.url.is_none(), "{flags:?} {variables:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_relay_elsewhere_needs_the_key_and_has_an_http_url() {
        let with_key = [("RELAY_KEY", WORD)];
        let flags = ["--no-relay", "--relay-url", "https://R.example/"];
        let (limits, access) = read(&flags, &with_key).unwrap();
        assert_eq!(limits, None);
        assert_eq!(access.unwrap().url.as_deref(), Some("https://r.example"));
        let failure = format!("{:?}", read(&flags, &[]).unwrap_err());
        assert!(failure.contains("--relay-key"), "{failure}");
        let failure = read(&[], &[with_key[0], ("RELAY_URL", "ws://a")]).unwrap_err();
        assert!(format!("{failure:?}").contains("RELAY_URL"), "{failure:?}");
    }

    #[test]
    fn a_key_that_is_none_is_not_repeated() {
        for variables in [("RELAY_KEY", "north"), ("RELAY_KEY_FILE", "/no/such/file")] {
            let failure = format!("{:?}", read(&[], &[variables]).unwrap_err());
            assert!(failure.contains("key") && !failure.contains("north"), "{failure}");
        }
    }
}
