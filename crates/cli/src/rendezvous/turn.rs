//! The TURN servers that `holepunch rendezvous` tells workers of.

use std::convert::Infallible;
use std::str::FromStr;

use holepunch_wire::signal::v1::TURN_MAX;
use holepunch_wire::turn::{TurnAccess, TurnSecret, TurnUrl};

use crate::exit::Failure;
use crate::settings::{Environment, List};

/// The options of TURN.
#[derive(Debug, clap::Args)]
#[group(id = "turn_servers")]
#[command(next_help_heading = "Relay")]
pub(crate) struct Args {
    /// TURN servers to use as well
    ///
    /// Over UDP, as `turn:host:port`, for links without a direct path; at most four, in the order in which they are tried [env: TURN_URLS]
    #[arg(long, value_name = "URL,…")]
    turn: Vec<String>,
    /// What they share with this server
    ///
    /// As coturn's `static-auth-secret` with `use-auth-secret`. The variable does not show in lists of processes
    /// [env: TURN_SECRET]
    #[arg(long, value_name = "SECRET")]
    turn_secret: Option<Secret>,
}

/// A secret; its text is nobody else's.
#[derive(Debug, Clone)]
struct Secret(TurnSecret);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(TurnSecret::new(text)))
    }
}

impl Args {
    pub(super) fn access(self, environment: &Environment) -> Result<Option<TurnAccess>, Failure> {
        let urls: Option<List<TurnUrl>> = environment.list("--turn", &self.turn, &["TURN_URLS"])?;
        let secret = environment.setting("--turn-secret", self.turn_secret, &["TURN_SECRET"])?;
        match (urls, secret) {
            (None, None) => Ok(None),
            (Some(List(urls)), _) if urls.len() > TURN_MAX => Err(Failure::usage(format!(
                "--turn (TURN_URLS) names more than {TURN_MAX} servers"
            ))),
            (Some(List(urls)), Some(Secret(secret))) => Ok(Some(TurnAccess::new(urls, secret))),
            (Some(_), None) => Err(Failure::usage(
                "--turn (TURN_URLS) needs --turn-secret (TURN_SECRET), which the TURN servers share",
            )),
            (None, Some(_)) => Err(Failure::usage(
                "--turn-secret (TURN_SECRET) needs --turn (TURN_URLS): the servers that share it",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Option<TurnAccess>, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        assert!(!format!("{line:?}").contains("north"), "a secret in a log");
        line.args.access(&Environment::of(variables))
    }

    #[test]
    fn servers_and_their_secret_come_from_flags_or_the_environment() {
        assert_eq!(read(&[], &[]).unwrap(), None);
        let urls = vec!["turn:a:1".parse().unwrap(), "turn:b".parse().unwrap()];
        let expected = TurnAccess::new(urls, TurnSecret::new("north"));
        let flags = ["--turn", "turn:a:1", "--turn", "turn:b:3478", "--turn-secret", "north"];
        assert_eq!(read(&flags, &[]).unwrap().as_ref(), Some(&expected));
        let variables = [("TURN_URLS", "turn:a:1, turn:b"), ("TURN_SECRET", "north")];
        assert_eq!(read(&[], &variables).unwrap().as_ref(), Some(&expected));
    }

    #[test]
    fn one_without_the_other_and_what_is_no_server_is_a_usage_error() {
        for (flags, named) in [
            (&["--turn", "turn:a:1"][..], "--turn-secret"),
            (&["--turn-secret", "north"], "--turn"),
            (&["--turn", "turns:a:1", "--turn-secret", "north"], "UDP"),
            (&["--turn", "turn:a,turn:b,turn:c,turn:d,turn:e", "--turn-secret", "north"], "4"),
        ] {
            let failure = format!("{:?}", read(flags, &[]).unwrap_err());
            assert!(failure.contains(named) && !failure.contains("north"), "{failure}");
        }
    }
}
