//! Who may look at a rendezvous, or a relay alone, from inside, and where.

use holepunch_rendezvous::{AdminConfig, AdminToken};

use crate::exit::Failure;
use crate::secrets::Hidden;
use crate::settings::{Address, Environment};

/// The options of metrics and the API.
#[derive(Debug, clap::Args)]
#[group(id = "admin")]
#[command(next_help_heading = "Metrics and API")]
pub(crate) struct Args {
    /// What opens /metrics, /api/v1 and /debug
    ///
    /// At least 16 characters, as of `openssl rand -hex 32`: `Authorization: Bearer TOKEN`, or the password of any name.
    /// Without one, /metrics and /api/v1 are for clients of this machine alone, and /debug for everybody. A relay alone has /metrics,
    /// and no others. The variable does not show in lists of processes [env: ADMIN_TOKEN]
    #[arg(long, value_name = "TOKEN", hide_short_help = true)]
    admin_token: Option<Hidden>,
    /// An address of their own for these
    ///
    /// They are served there and not on --listen, without a token to everybody who reaches it [env: ADMIN_LISTEN]
    #[arg(long, value_name = "ADDR", hide_short_help = true)]
    admin_listen: Option<Address>,
    /// Send traces of sessions to a collector of OpenTelemetry
    ///
    /// By OTLP over HTTP, to /v1/traces behind this URL: http://127.0.0.1:4318 [env: OTLP_ENDPOINT]
    #[cfg(feature = "otel")]
    #[arg(long, value_name = "URL", hide_short_help = true)]
    otlp_endpoint: Option<holepunch_rendezvous::OtlpEndpoint>,
}

impl Args {
    pub(crate) fn read(self, environment: &Environment) -> Result<AdminConfig, Failure> {
        // As a text, which what is wrong with it does not repeat.
        let token = self.admin_token.map(|Hidden(text)| text);
        let token = environment.setting("--admin-token", token, &["ADMIN_TOKEN"])?;
        let token = token.map(|text| AdminToken::new(&text)).transpose();
        let token =
            token.map_err(|why| Failure::usage(format!("--admin-token (ADMIN_TOKEN): {why}")))?;
        let listen = environment.setting("--admin-listen", self.admin_listen, &["ADMIN_LISTEN"])?;
        Ok(AdminConfig {
            token,
            listen: listen.map(|Address(address)| address),
            #[cfg(feature = "otel")]
            otlp_endpoint: environment.setting(
                "--otlp-endpoint",
                self.otlp_endpoint,
                &["OTLP_ENDPOINT"],
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<AdminConfig, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        line.args.read(&Environment::of(variables))
    }

    #[test]
    fn a_token_and_an_address_are_set_by_flags_or_variables() {
        let none = read(&[], &[]).unwrap();
        assert!(none.token.is_none() && none.listen.is_none());
        let token = "0123456789abcdef";
        let set = read(&["--admin-token", token], &[("ADMIN_LISTEN", "127.0.0.1:9090")]).unwrap();
        assert!(set.token.is_some());
        assert_eq!(set.listen, Some("127.0.0.1:9090".parse().unwrap()));
        assert!(read(&[], &[("ADMIN_TOKEN", token)]).unwrap().token.is_some());
        #[cfg(feature = "otel")]
        {
            let set = read(&[], &[("OTLP_ENDPOINT", "http://127.0.0.1:4318")]).unwrap();
            assert!(none.otlp_endpoint.is_none() && set.otlp_endpoint.is_some());
            assert!(read(&[], &[("OTLP_ENDPOINT", "127.0.0.1:4318")]).is_err());
        }
        let failure = format!("{:?}", read(&[], &[("ADMIN_TOKEN", "tooshort")]).unwrap_err());
        assert!(failure.contains("ADMIN_TOKEN") && !failure.contains("tooshort"), "{failure}");
    }
}
