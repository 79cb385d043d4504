//! TLS of a server's own.

use std::path::{Path, PathBuf};

use holepunch_rendezvous::{Tls, TlsError, TlsExpected as Expected, TlsFiles};

use crate::exit::Failure;
use crate::settings::Environment;

const HEADING: &str = "TLS";
const CERTIFICATE: &str = "--tls-cert (TLS_CERT)";
const KEY: &str = "--tls-key (TLS_KEY)";
const BOTH: &str = "--tls-cert (TLS_CERT), --tls-key (TLS_KEY)";

/// The options of TLS.
#[derive(Debug, clap::Args)]
#[group(id = "tls")]
pub(crate) struct Args {
    /// The server's certificate: it speaks TLS then
    ///
    /// A file in PEM, and behind the certificate those that lead to an authority. It is read again when it changes, and at
    /// SIGHUP [env: TLS_CERT]
    #[arg(long, value_name = "FILE", help_heading = HEADING, hide_short_help = true)]
    tls_cert: Option<PathBuf>,
    /// The certificate's key
    ///
    /// A file in PEM, without a pass phrase; it may be that of the certificate [env: TLS_KEY]
    #[arg(long, value_name = "FILE", help_heading = HEADING, hide_short_help = true)]
    tls_key: Option<PathBuf>,
    #[cfg(feature = "acme")]
    #[command(flatten)]
    acme: acme::Args,
}

/// A certificate by ACME.
#[cfg(feature = "acme")]
mod acme {
    use std::path::PathBuf;

    use holepunch_rendezvous::{AcmeSettings, Tls};

    use crate::exit::Failure;
    use crate::settings::{Environment, List};

    const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

    /// The options of ACME.
    #[derive(Debug, clap::Args)]
    #[group(id = "acme")]
    pub(super) struct Args {
        /// Have a certificate made for these names
        ///
        /// By ACME, with TLS-ALPN-01: the authority has to reach this server at port 443 of each [env: ACME_DOMAIN]
        #[arg(long, value_name = "NAME,…", help_heading = super::HEADING)]
        acme_domain: Vec<String>,
        /// Whom the authority may write to
        ///
        /// `mailto:` URLs [env: ACME_CONTACT]
        #[arg(long, value_name = "URL,…", help_heading = super::HEADING)]
        acme_contact: Vec<String>,
        /// A folder for the account's key and the certificate [env: ACME_CACHE]
        #[arg(long, value_name = "DIR", help_heading = super::HEADING)]
        acme_cache: Option<PathBuf>,
        /// The authority; else Let's Encrypt [env: ACME_DIRECTORY]
        #[arg(long, value_name = "URL", help_heading = super::HEADING)]
        acme_directory: Option<String>,
    }

    impl Args {
        pub(super) fn read(self, environment: &Environment) -> Result<Option<Tls>, Failure> {
            let domains: Option<List<String>> =
                environment.list("--acme-domain", &self.acme_domain, &["ACME_DOMAIN"])?;
            let contacts: Option<List<String>> =
                environment.list("--acme-contact", &self.acme_contact, &["ACME_CONTACT"])?;
            let cache = environment.setting("--acme-cache", self.acme_cache, &["ACME_CACHE"])?;
            let directory = environment.setting(
                "--acme-directory",
                self.acme_directory,
                &["ACME_DIRECTORY"],
            )?;
            let Some(List(domains)) = domains else { return Ok(None) };
            let cache = cache.ok_or_else(|| {
                Failure::usage(
                    "--acme-domain (ACME_DOMAIN) needs --acme-cache (ACME_CACHE): an authority makes only so many \
                     certificates a week",
                )
            })?;
            let settings = AcmeSettings {
                domains,
                contacts: contacts.map(|List(all)| all).unwrap_or_default(),
                cache,
                directory: directory.unwrap_or_else(|| LETS_ENCRYPT.to_owned()),
            };
            Tls::acme(&settings).map(Some).map_err(Failure::usage)
        }
    }
}

impl Args {
    /// What is spoken, if it is not HTTP alone.
    pub(super) fn read(self, environment: &Environment) -> Result<Option<Tls>, Failure> {
        let certificate = environment.setting("--tls-cert", self.tls_cert, &["TLS_CERT"])?;
        let key = environment.setting("--tls-key", self.tls_key, &["TLS_KEY"])?;
        #[cfg(feature = "acme")]
        match (self.acme.read(environment)?, &certificate, &key) {
            (None, ..) => {}
            (made, None, None) => return Ok(made),
            (Some(_), ..) => {
                let why = "--acme-domain (ACME_DOMAIN) beside --tls-cert or --tls-key (TLS_CERT, TLS_KEY): give one of the two";
                return Err(Failure::usage(why));
            }
        }
        let files = match (certificate, key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => TlsFiles { certificate, key },
            (Some(_), None) => {
                let why = "--tls-cert (TLS_CERT) needs --tls-key (TLS_KEY): the file of its key";
                return Err(Failure::usage(why));
            }
            (None, Some(_)) => {
                let why = "--tls-key (TLS_KEY) needs --tls-cert (TLS_CERT): its certificate";
                return Err(Failure::usage(why));
            }
        };
        let certificate = files.certificate.clone();
        let tls = Tls::open(files);
        tls.map(Some).map_err(|why| Failure::usage(format!("{}: {why}", place(&why, &certificate))))
    }
}

/// Which setting is wrong.
fn place(why: &TlsError, certificate: &Path) -> &'static str {
    match why {
        TlsError::NotPem { expected: Expected::Certificate, .. } => CERTIFICATE,
        TlsError::Unreadable { path, .. } if path == certificate => CERTIFICATE,
        TlsError::Unreadable { .. } | TlsError::NotPem { .. } | TlsError::Encrypted { .. } => KEY,
        TlsError::OtherKey { .. } | TlsError::Unusable { .. } => BOTH,
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

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Option<Tls>, Failure> {
        let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
        line.args.read(&Environment::of(variables))
    }

    #[test]
    fn certificate_and_key_come_together() {
        assert!(read(&[], &[]).unwrap().is_none());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../rendezvous/tests/certificates/");
        let [certificate, key] = ["one.pem", "one.key"].map(|name| format!("{folder}{name}"));
        let flags = ["--tls-cert", &certificate, "--tls-key", &key];
        assert!(read(&flags, &[]).unwrap().is_some());
        assert!(read(&[], &[("TLS_CERT", &certificate), ("TLS_KEY", &key)]).unwrap().is_some());
        for (flags, missing) in [(&flags[..2], "--tls-key"), (&flags[2..], "--tls-cert")] {
            let failure = read(flags, &[]).unwrap_err();
            assert!(failure.is_usage() && failure.why().contains(missing), "{failure:?}");
        }
        let failure = read(&["--tls-cert", &key, "--tls-key", &key], &[]).unwrap_err();
        assert!(failure.is_usage() && failure.why().contains("BEGIN CERTIFICATE"), "{failure:?}");
        let other = format!("{folder}two.key");
        for (certificate, key, named) in [
            ("/none", &*key, "--tls-cert (TLS_CERT): cannot read /none"),
            (&certificate, "/none", "--tls-key (TLS_KEY): cannot read /none"),
            (&key, &key, "--tls-cert (TLS_CERT): "),
            (&certificate, &certificate, "--tls-key (TLS_KEY): "),
            (&certificate, &other, "--tls-cert (TLS_CERT), --tls-key (TLS_KEY): the key in"),
        ] {
            let failure = read(&[], &[("TLS_CERT", certificate), ("TLS_KEY", key)]).unwrap_err();
            assert!(failure.why().starts_with(named), "{failure:?}");
        }
    }
}
