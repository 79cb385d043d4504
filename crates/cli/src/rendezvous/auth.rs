//! `--auth`: who may enter.

use std::path::PathBuf;
use std::str::FromStr;

use holepunch_rendezvous::Auth;

use crate::exit::Failure;
use crate::settings::{Environment, Number, OrNone};

/// Who may register.
#[derive(Debug, clap::Args)]
#[group(id = "auth_options")]
#[command(next_help_heading = "Who may enter")]
pub(crate) struct Args {
    /// Who may register: anybody, or who has a token
    ///
    /// `holepunch token` makes keys and tokens [env: AUTH] [default: open]
    #[arg(long, value_name = "open|token")]
    auth: Option<Kind>,
    /// The keys of tokens, a JWK set
    ///
    /// It is read again when it has changed. Workers whose token's key is taken out, or which stand in its list `revoked`, are
    /// told to go [env: TOKEN_KEYS]
    #[arg(long, value_name = "FILE")]
    token_keys: Option<PathBuf>,
    /// Most workers of one tenant
    ///
    /// Of those whose token names one; the next one is refused (429) [env: MAX_WORKERS_PER_TENANT] [default: none]
    #[arg(long, value_name = "N|none", hide_short_help = true)]
    max_workers_per_tenant: Option<OrNone<Number<1>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Token,
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" => Ok(Self::Open),
            "token" => Ok(Self::Token),
            _ => Err("expected open or token"),
        }
    }
}

impl Args {
    /// Who may enter, and how many of one tenant.
    pub(super) fn read(self, environment: &Environment) -> Result<(Auth, Option<usize>), Failure> {
        let most = self.max_workers_per_tenant;
        let variables = ["MAX_WORKERS_PER_TENANT"];
        let most = environment.setting("--max-workers-per-tenant", most, &variables)?;
        let most = most.and_then(OrNone::value).map(Number::count);
        let kind = environment.setting("--auth", self.auth, &["AUTH"])?.unwrap_or(Kind::Open);
        let keys = environment.setting("--token-keys", self.token_keys, &["TOKEN_KEYS"])?;
        match (kind, keys) {
            (Kind::Open, None) => Ok((Auth::Open, most)),
            (Kind::Token, Some(keys)) => Ok((Auth::Token { keys }, most)),
            (Kind::Token, None) => Err(Failure::usage(
                "--auth token (AUTH) needs --token-keys FILE (TOKEN_KEYS): `holepunch token key` makes one",
            )),
            // Whoever names keys means that they are needed.
            (Kind::Open, Some(_)) => Err(Failure::usage(
                "--token-keys (TOKEN_KEYS) without --auth token (AUTH): expected both, or none",
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

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Auth, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        Ok(line.args.read(&Environment::of(variables))?.0)
    }

    #[test]
    fn whoever_comes_is_let_in_unless_tokens_are_wanted_with_their_keys() {
        assert!(matches!(read(&[], &[]), Ok(Auth::Open)));
        let both = read(&["--auth", "token"], &[("TOKEN_KEYS", "/k")]);
        assert!(matches!(both, Ok(Auth::Token { keys }) if keys.to_str() == Some("/k")));
        for (flags, variables) in [
            (&["--auth", "token"][..], &[][..]),
            (&[], &[("AUTH", "token")]),
            (&["--token-keys", "/k"], &[]),
            (&[], &[("AUTH", "closed")]),
        ] {
            assert!(read(flags, variables).is_err(), "{flags:?} {variables:?}");
        }
    }
}
