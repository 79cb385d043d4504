//! How much a relay carries.

use holepunch_rendezvous::RelayLimits;

use crate::exit::Failure;
use crate::settings::{Environment, Number, OrNone, Size};

/// The bounds of a relay. Sizes have the suffixes K, M, G, T.
#[derive(Debug, clap::Args)]
#[group(id = "relay_limits")]
#[command(next_help_heading = "Relay")]
pub(crate) struct LimitArgs {
    /// Bytes a second of a session
    ///
    /// So many are relayed for one session each second [env: RELAY_RATE] [default: none]
    #[arg(long, value_name = "SIZE|none", hide_short_help = true)]
    relay_rate: Option<OrNone<Size>>,
    /// Bytes of a session
    ///
    /// So many are relayed for one session in all [env: RELAY_QUOTA] [default: none]
    #[arg(long, value_name = "SIZE|none", hide_short_help = true)]
    relay_quota: Option<OrNone<Size>>,
    /// Bytes a second that are relayed from one IP address [env: RELAY_RATE_PER_IP] [default: none]
    #[arg(long, value_name = "SIZE|none", hide_short_help = true)]
    relay_rate_per_ip: Option<OrNone<Size>>,
    /// Bytes of an IP a day [default: 100G]
    ///
    /// So many are relayed from one IP address in a day [env: RELAY_QUOTA_PER_IP]
    #[arg(long, value_name = "SIZE|none", hide_short_help = true)]
    relay_quota_per_ip: Option<OrNone<Size>>,
    /// Bytes a second that are relayed in all [env: RELAY_RATE_TOTAL] [default: none]
    #[arg(long, value_name = "SIZE|none", hide_short_help = true)]
    relay_rate_total: Option<OrNone<Size>>,
    /// Most relay connections at once, two for each session; an IP address has a quarter of them at most
    /// [env: RELAY_SESSIONS_MAX] [default: 2048]
    #[arg(long, value_name = "N", hide_short_help = true)]
    relay_sessions_max: Option<Number<1>>,
}

impl LimitArgs {
    pub(crate) fn limits(self, environment: &Environment) -> Result<RelayLimits, Failure> {
        let size = |flag, value: Option<OrNone<Size>>, variable, default| {
            let value = environment.setting(flag, value, &[variable])?;
            Ok(value.map_or(default, |size| size.value().map(|Size(bytes)| bytes)))
        };
        let default = RelayLimits::default();
        let most = environment.setting(
            "--relay-sessions-max",
            self.relay_sessions_max,
            &["RELAY_SESSIONS_MAX"],
        )?;
        Ok(RelayLimits {
            rate: size("--relay-rate", self.relay_rate, "RELAY_RATE", default.rate)?,
            quota: size("--relay-quota", self.relay_quota, "RELAY_QUOTA", default.quota)?,
            rate_per_ip: size(
                "--relay-rate-per-ip",
                self.relay_rate_per_ip,
                "RELAY_RATE_PER_IP",
                default.rate_per_ip,
            )?,
            quota_per_ip: size(
                "--relay-quota-per-ip",
                self.relay_quota_per_ip,
                "RELAY_QUOTA_PER_IP",
                default.quota_per_ip,
            )?,
            rate_total: size(
                "--relay-rate-total",
                self.relay_rate_total,
                "RELAY_RATE_TOTAL",
                default.rate_total,
            )?,
            connections_max: most.map_or(default.connections_max, Number::count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: LimitArgs,
    }

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<RelayLimits, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        line.args.limits(&Environment::of(variables))
    }

    #[test]
    fn there_is_a_quota_for_each_address() {
        assert_eq!(read(&[], &[]).unwrap(), RelayLimits::default());
        assert_eq!(RelayLimits::default().quota_per_ip, Some(100 << 30));
    }

    #[test]
    fn every_bound_can_be_set_and_lifted() {
        let flags = ["--relay-rate", "5M", "--relay-quota-per-ip", "none"];
        let variables = [
            ("RELAY_RATE", "1"),
            ("RELAY_QUOTA", "1G"),
            ("RELAY_RATE_PER_IP", "10M"),
            ("RELAY_RATE_TOTAL", "100M"),
            ("RELAY_SESSIONS_MAX", "8"),
        ];
        let expected = RelayLimits {
            rate: Some(5 << 20),
            quota: Some(1 << 30),
            rate_per_ip: Some(10 << 20),
            quota_per_ip: None,
            rate_total: Some(100 << 20),
            connections_max: 8,
        };
        assert_eq!(read(&flags, &variables).unwrap(), expected);
        let failure = read(&[], &[("RELAY_RATE", "fast")]).unwrap_err();
        assert!(format!("{failure:?}").contains("RELAY_RATE"), "{failure:?}");
    }
}
