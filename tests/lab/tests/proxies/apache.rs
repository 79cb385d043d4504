//! Apache in front of a rendezvous.

use holepunch_lab::{Lab, Place, Server, Start};
use libtest_mimic::{Failed, Trial};

use crate::front::{BELOW, ROOT, lab, serves, session};
use crate::recipes::{CERTIFICATE, CERTIFICATE_FILE, Recipe, rendezvous};
use crate::{Outcome, needing};

const NEEDS: &[(&str, &str)] = &[("apache2", "no apache2 here (Debian: apt-get install apache2)")];
/// All files in `/run`, and what the recipe needs.
const MAIN: &str = "ServerRoot /usr/lib/apache2
DefaultRuntimeDir /run
PidFile /run/apache.pid
ErrorLog /dev/stderr
LogLevel notice
User www-data
Group www-data
ServerName localhost
Listen 443
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule headers_module modules/mod_headers.so
LoadModule proxy_module modules/mod_proxy.so
LoadModule proxy_http_module modules/mod_proxy_http.so
LoadModule ssl_module modules/mod_ssl.so
";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(NEEDS, "apache_by_the_recipe", || by(&recipe(), ROOT)),
        needing(NEEDS, "apache_by_the_recipe_below_a_path", || {
            by(&recipe().with("# Below a path: ProxyPass", "ProxyPass"), BELOW)
        }),
    ]
}

/// The recipe with a certificate.
fn recipe() -> Recipe {
    let tls = format!("SSLEngine on\n    SSLCertificateFile {CERTIFICATE_FILE}");
    Recipe::of("Apache", "apache", 0).with("# SSLEngine on …", &tls)
}

fn start(lab: &Lab, recipe: &Recipe) -> Result<Server, Failed> {
    let start = Start {
        command: &["apache2", "-D", "FOREGROUND", "-f", "/run/apache.conf"],
        files: &[("apache.conf", &format!("{MAIN}{recipe}")), ("rendezvous.pem", CERTIFICATE)],
        ready: "resuming normal operations",
    };
    Ok(Server::start(lab, Place::Public, start)?)
}

fn by(recipe: &Recipe, url: &str) -> Outcome {
    let lab = lab()?;
    let _apache = start(&lab, recipe)?;
    serves(&lab, &session(&lab, &rendezvous())?, url)
}
