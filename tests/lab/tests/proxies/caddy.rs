//! Caddy in front of a rendezvous.

use holepunch_lab::{Lab, Place, Server, Start};
use libtest_mimic::{Failed, Trial};

use crate::front::{BELOW, ROOT, lab, serves, session};
use crate::recipes::{CERTIFICATE, CERTIFICATE_FILE, Recipe, rendezvous};
use crate::{Outcome, needing};

const NEEDS: &[(&str, &str)] = &[("caddy", "no caddy here (Debian: apt-get install caddy)")];
/// No port for its administration.
const GLOBAL: &str = "{\n    admin off\n}\n";
/// What it keeps goes to a folder that ends with it.
const RUN: [&str; 3] = ["env", "XDG_CONFIG_HOME=/run", "XDG_DATA_HOME=/run"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(NEEDS, "caddy_by_the_recipe", || by(ROOT)),
        needing(NEEDS, "caddy_by_the_recipe_below_a_path", || by(BELOW)),
    ]
}

/// The recipe, both of its sites, with a certificate.
fn recipe() -> Recipe {
    let tls = format!("example.com {{\n    tls {CERTIFICATE_FILE} {CERTIFICATE_FILE}\n");
    Recipe::of("Caddy", "caddy", 0).with("example.com {\n", &tls)
}

fn start(lab: &Lab, recipe: &Recipe) -> Result<Server, Failed> {
    let words = ["caddy", "run", "--config", "/run/Caddyfile", "--adapter", "caddyfile"];
    let start = Start {
        command: &[&RUN[..], &words].concat(),
        files: &[("Caddyfile", &format!("{GLOBAL}{recipe}")), ("rendezvous.pem", CERTIFICATE)],
        ready: "serving initial configuration",
    };
    Ok(Server::start(lab, Place::Public, start)?)
}

fn by(url: &str) -> Outcome {
    let lab = lab()?;
    let _caddy = start(&lab, &recipe())?;
    serves(&lab, &session(&lab, &rendezvous())?, url)
}
