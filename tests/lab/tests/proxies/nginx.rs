//! nginx in front of a rendezvous.

use holepunch_lab::{Lab, Place, Server, Start};
use libtest_mimic::{Failed, Trial};

use crate::front::{BELOW, ROOT, WITHIN, WORKER, lab, program, registered, serves, session};
use crate::recipes::{CERTIFICATE, CERTIFICATE_FILE, Recipe, rendezvous};
use crate::{Outcome, needing};

pub(crate) const NEEDS: &[(&str, &str)] =
    &[("nginx", "no nginx here (Debian: apt-get install nginx-light libnginx-mod-stream)")];

/// What every configuration begins with: in the foreground, and with all files in `/run`.
const MAIN: &str = "daemon off; pid /run/nginx.pid; error_log stderr notice;
include /etc/nginx/modules-enabled/*.conf;
events {}
";
const HTTP: &str = "access_log off; client_body_temp_path /run/body; proxy_temp_path /run/proxy;
fastcgi_temp_path /run/fastcgi; uwsgi_temp_path /run/uwsgi; scgi_temp_path /run/scgi;
";

/// What stands in most places on the net for a WebSocket: the host is not passed on. With a header that names it.
const REWRITING: &str = "server {
    listen 80;
    location / {
        proxy_pass http://127.0.0.1:8080;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection \"upgrade\";
        proxy_set_header X-Forwarded-Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
    }
}
";
const PLAIN: &str = "http://rendezvous.example.com";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(NEEDS, "nginx_by_the_recipe", at_the_root),
        needing(NEEDS, "nginx_by_the_recipe_below_a_path", below_a_path),
        needing(NEEDS, "nginx_by_the_recipe_for_the_proxy_protocol", stream),
        needing(NEEDS, "nginx_that_rewrites_the_host_is_believed_where_it_is_trusted", rewriting),
        needing(NEEDS, "nginx_that_rewrites_the_host_is_told_of_with_the_fix", refused),
    ]
}

fn start(lab: &Lab, configuration: &str) -> Result<Server, Failed> {
    let start = Start {
        command: &["nginx", "-e", "stderr", "-c", "/run/nginx.conf"],
        files: &[
            ("nginx.conf", &format!("{MAIN}{configuration}")),
            ("rendezvous.pem", CERTIFICATE),
        ],
        ready: "start worker processes",
    };
    Ok(Server::start(lab, Place::Public, start)?)
}

pub(crate) fn http(lab: &Lab, servers: &str) -> Result<Server, Failed> {
    start(lab, &format!("http {{\n{HTTP}{servers}}}\n"))
}

/// The recipe with a certificate.
pub(crate) fn recipe() -> Recipe {
    let tls =
        format!("ssl_certificate {CERTIFICATE_FILE}; ssl_certificate_key {CERTIFICATE_FILE};");
    Recipe::of("nginx", "nginx", 0).with("# ssl_certificate …; ssl_certificate_key …;", &tls)
}

fn at_the_root() -> Outcome {
    let lab = lab()?;
    let _nginx = http(&lab, &recipe().to_string())?;
    serves(&lab, &session(&lab, &rendezvous())?, ROOT)
}

/// The second recipe says what is different: it takes the place of the location in the first one.
fn below_a_path() -> Outcome {
    let lab = lab()?;
    let root = recipe();
    let location = root.inside("location / {", "}");
    let above = location.clone().without("proxy_pass").to_string();
    let below = Recipe::of("nginx", "nginx", 1).with("# … as above", &above).to_string();
    let whole = format!("    location / {{\n{location}    }}\n");
    let _nginx = http(&lab, &root.with(&whole, &below).to_string())?;
    serves(&lab, &session(&lab, &rendezvous())?, BELOW)
}

fn stream() -> Outcome {
    let lab = lab()?;
    let _nginx = start(&lab, &Recipe::of("The PROXY protocol", "nginx", 0).to_string())?;
    let session = session(&lab, &[&rendezvous()[..], &["--proxy-protocol"]].concat())?;
    serves(&lab, &session, &format!("{PLAIN}:8082"))
}

fn rewriting() -> Outcome {
    let lab = lab()?;
    let _nginx = http(&lab, REWRITING)?;
    serves(&lab, &session(&lab, &rendezvous())?, PLAIN)
}

fn refused() -> Outcome {
    let lab = lab()?;
    let _nginx = http(&lab, REWRITING)?;
    let session = session(&lab, &["--listen", "127.0.0.1:8080"])?;
    let worker = program(&session, 0, PLAIN, &WORKER)?;
    // Each side says what it has seen, and what helps.
    let told =
        ["\"127.0.0.1\"", "\"rendezvous.example.com\"", "proxy_set_header Host", "--public-host"];
    worker.wait_for("the refusal", WITHIN, |lines| {
        let text = lines.iter().map(|line| line.text().replace("\\\"", "\""));
        let mut text = text.filter(|text| text.contains("does not prove the key"));
        text.any(|text| told.iter().all(|part| text.contains(part))).then_some(())
    })?;
    session.wait_for_rendezvous("the refusal", WITHIN, |lines| {
        let text = lines.iter().map(|line| line.text().replace("\\\"", "\""));
        let mut text = text.filter(|text| text.contains("a signature is not over one of these"));
        text.any(|text| told.iter().all(|part| text.contains(part.trim_matches('"')))).then_some(())
    })?;
    // The baseline signs nothing.
    let words = [&WORKER[..], &["--baseline"]].concat();
    registered(&program(&session, 1, PLAIN, &words)?).map(drop)
}
