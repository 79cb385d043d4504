//! HAProxy in front of a rendezvous.

use holepunch_lab::{Lab, Place, Server, Start};
use libtest_mimic::{Failed, Trial};

use crate::front::{BELOW, ROOT, lab, serves, session};
use crate::recipes::{CERTIFICATE, CERTIFICATE_FILE, Recipe, rendezvous};
use crate::{Outcome, needing};

const NEEDS: &[(&str, &str)] = &[("haproxy", "no haproxy here (Debian: apt-get install haproxy)")];
const TCP: &str = "http://rendezvous.example.com:8081";
/// It tells of each health check; the first good one shows that it serves, and that the recipe's check is one that the
/// rendezvous answers.
const GLOBAL: &str = "global\n    log stderr format raw local0 info\n";
const TELLING: &str = "    log global\n    option log-health-checks\n";
const READY: &str = "Health check for server rendezvous/one succeeded";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(NEEDS, "haproxy_by_the_recipe", at_the_root),
        needing(NEEDS, "haproxy_by_the_recipe_below_a_path", below_a_path),
        needing(NEEDS, "haproxy_by_the_recipe_for_the_proxy_protocol", || tcp("send-proxy-v2")),
        needing(NEEDS, "haproxy_with_version_1_of_the_proxy_protocol", || tcp("send-proxy")),
    ]
}

fn start(lab: &Lab, recipe: &Recipe) -> Result<Server, Failed> {
    let start = Start {
        command: &["haproxy", "-W", "-db", "-f", "/run/haproxy.cfg"],
        files: &[("haproxy.cfg", &format!("{GLOBAL}{recipe}")), ("rendezvous.pem", CERTIFICATE)],
        ready: READY,
    };
    Ok(Server::start(lab, Place::Public, start)?)
}

/// The recipe with a certificate.
fn recipe() -> Recipe {
    Recipe::of("HAProxy", "haproxy", 0)
        .with("/etc/haproxy/rendezvous.pem", CERTIFICATE_FILE)
        .with("    mode http\n", &format!("    mode http\n{TELLING}"))
}

/// The rendezvous comes first: the health check has to find it.
fn at_the_root() -> Outcome {
    let lab = lab()?;
    let session = session(&lab, &rendezvous())?;
    let _haproxy = start(&lab, &recipe())?;
    serves(&lab, &session, ROOT)
}

fn below_a_path() -> Outcome {
    let lab = lab()?;
    let session = session(&lab, &rendezvous())?;
    let _haproxy =
        start(&lab, &recipe().with("# http-request replace-path", "http-request replace-path"))?;
    serves(&lab, &session, BELOW)
}

fn tcp(version: &str) -> Outcome {
    let lab = lab()?;
    let session = session(&lab, &[&rendezvous()[..], &["--proxy-protocol"]].concat())?;
    let recipe = Recipe::of("The PROXY protocol", "haproxy", 0)
        .with("send-proxy-v2", version)
        .with("    mode tcp\n", &format!("    mode tcp\n{TELLING}"));
    let _haproxy = start(&lab, &recipe)?;
    serves(&lab, &session, TCP)
}
