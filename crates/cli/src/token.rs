//! `holepunch token`: keys, and the tokens that let workers in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use holepunch_rendezvous::tokens::{
    Claims, Mode, TOKEN_BYTES_MAX, TokenAlgorithm, TokenKey, TokenKeys,
};
use holepunch_wire::tenant::Tenant;
use serde::Serialize;

use crate::code::random_hex;
use crate::config_file::create;
use crate::exit::Failure;
use crate::output;
use crate::settings::Size;

/// Bytes of a token's own name: no two tokens have the same one by chance.
const JTI_BYTES: usize = 16;
/// Longest life of a token: a worker that is to run for longer gets another one by then.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Make keys and tokens for `holepunch rendezvous --auth token`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch token key signing.json > token-keys.json\n  \
    holepunch rendezvous --auth token --token-keys token-keys.json\n  \
    holepunch token new --key signing.json --tenant ci --room 'build-*' --expires 24h")]
pub(crate) struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    Key(KeyArgs),
    New(Box<NewArgs>),
}

/// Make a key that signs tokens, and print what the rendezvous needs of it
///
/// The private key is written into FILE, its owner's alone; the public one is printed, as a JWK set for --token-keys. Where FILE
/// is there already, its public key is printed again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch token key signing.json > token-keys.json\n  \
    holepunch token key --secret --kid 2026 shared.json > token-keys.json")]
struct KeyArgs {
    /// The file of the private key
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key's id, which stands in each token (kid) [default: a random one]
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
    /// Make a secret (HS256) instead of a key pair (EdDSA)
    ///
    /// The rendezvous has to know all of it, and whoever reads its file can make tokens
    #[arg(long)]
    secret: bool,
}

/// Make a token, and print it
///
/// Without --room, --id or --mode it allows them all.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    holepunch token new --key signing.json --tenant ci --room 'build-*' --expires 24h\n  \
    holepunch token new --key signing.json --id 'printer-*' --mode call --relay-bytes 10G --json")]
struct NewArgs {
    /// The file of the private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Which of its keys, where there are several
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
    /// Whose rooms and ids its worker sees: letters, digits and -_.
    #[arg(long, value_name = "NAME")]
    tenant: Option<Tenant>,
    /// A room that its worker may be in; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    room: Vec<String>,
    /// An id that its worker may have; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    id: Vec<String>,
    /// A mode of rooms that its worker may be in; `call` also lets it call others
    #[arg(long, value_name = "MODE")]
    mode: Vec<ModeName>,
    /// How much the relay carries for each of its sessions, such as 10G
    #[arg(long, value_name = "BYTES")]
    relay_bytes: Option<Size>,
    /// How long it is good, such as 90s, 30m, 24h or 30d
    #[arg(long, value_name = "TIME", default_value = "24h")]
    expires: Life,
    /// Who it is for; all of one name are revoked at once
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
    /// Print a JSON object, with the claims
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeName {
    Pair,
    Mesh,
    Call,
}

/// How long a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life(Duration);

impl FromStr for Life {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a time such as 90s, 30m, 24h or 30d, of ten years at most";
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[number.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return Err(EXPECTED),
        };
        let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        let life = seconds.map(Duration::from_secs);
        life.filter(|life| !life.is_zero() && *life <= LIFE_MAX).map(Self).ok_or(EXPECTED)
    }
}

/// A token, for programs.
#[derive(Debug, Serialize)]
struct Made<'a> {
    token: &'a str,
    kid: &'a str,
    claims: &'a Claims,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.kind {
        Kind::Key(args) => key(&args)?,
        Kind::New(args) => new(*args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn key(args: &KeyArgs) -> Result<(), Failure> {
    let (path, at) = (&args.file, args.file.display());
    let key = if path.exists() {
        if args.secret || args.kid.is_some() {
            return Err(Failure::usage(format!(
                "{at} is there already: name another file for a new key, or leave --kid and --secret out to print this \
                 one's public key"
            )));
        }
        signing(path, None)?
    } else {
        let algorithm = if args.secret { TokenAlgorithm::Hs256 } else { TokenAlgorithm::EdDsa };
        let key = TokenKey::generate(algorithm, args.kid.as_deref()).map_err(Failure::failed)?;
        // What it is read back as.
        TokenKeys::of_text(key.to_set(true).as_bytes())
            .map_err(|why| Failure::usage(format!("--kid: {why}")))?;
        create(path, &format!("{}\n", key.to_set(true)))
            .map_err(|error| Failure::failed(format!("cannot write {at}: {error}")))?;
        key
    };
    if key.algorithm() == TokenAlgorithm::Hs256 {
        output::progress("this is the secret itself: whoever has it can make tokens");
    }
    output::line(key.to_set(false));
    Ok(())
}

fn signing(path: &Path, kid: Option<&str>) -> Result<TokenKey, Failure> {
    let at = path.display();
    let keys = TokenKeys::of_file(path)
        .map_err(|why| Failure::failed(format!("cannot take the key from {at}: {why}")))?;
    keys.signing(kid).cloned().ok_or_else(|| {
        Failure::usage(format!(
            "{at}: expected one private key{}; `holepunch token key FILE` makes one, and --kid names one of several",
            kid.map(|kid| format!(" of the id {kid:?}")).unwrap_or_default()
        ))
    })
}

fn new(args: NewArgs) -> Result<(), Failure> {
    let key = signing(&args.key, args.kid.as_deref())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let some = |all: Vec<String>| Some(all).filter(|all| !all.is_empty());
    let mode = |mode| match mode {
        ModeName::Pair => Mode::Pair,
        ModeName::Mesh => Mode::Mesh,
        ModeName::Call => Mode::Call,
    };
    let modes: Vec<Mode> = args.mode.into_iter().map(mode).collect();
    let claims = Claims {
        exp: (now + args.expires.0).as_secs(),
        jti: Some(random_hex(JTI_BYTES)?),
        sub: args.sub,
        tenant: args.tenant.and_then(|tenant| tenant.name().map(str::to_owned)),
        rooms: some(args.room),
        ids: some(args.id),
        modes: Some(modes).filter(|modes| !modes.is_empty()),
        relay_bytes: args.relay_bytes.map(|Size(bytes)| bytes),
        ..Claims::default()
    };
    let token = claims.sign(&key).ok_or_else(|| Failure::failed("the key cannot sign"))?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the token has {} bytes, and {TOKEN_BYTES_MAX} are the most: name fewer rooms and ids",
            token.len()
        )));
    }
    if args.json {
        output::json_line(&Made { token: &token, kid: key.id(), claims: &claims });
    } else {
        output::line(token);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_has_a_unit_and_an_end() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("3660d", 316_224_000)]
        {
            assert_eq!(text.parse(), Ok(Life(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "24", "h", "0h", "-1h", "1.5h", "1w", "99999999999999999d", "3661d", "é"]
        {
            assert!(text.parse::<Life>().is_err(), "{text}");
        }
    }
}
