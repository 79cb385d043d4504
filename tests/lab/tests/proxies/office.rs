//! Workers in an office that lets nothing out but what its HTTP proxy does: tinyproxy, which wants a name and a password.

use holepunch_lab::{Lab, NatKind, Place, Program, Server, Session, Start, Workers};
use libtest_mimic::{Failed, Trial};

use crate::front::{ROOT, WITHIN, WORKER, measured_by_the_relay, registered};
use crate::recipes::{AUTHORITY, AUTHORITY_FILE, rendezvous};
use crate::{Outcome, needing, nginx};

const TINYPROXY: (&str, &str) =
    ("tinyproxy", "no tinyproxy here (Debian: apt-get install tinyproxy-bin)");
const NEEDS: &[(&str, &str)] = &[TINYPROXY];
const WITH_NGINX: &[(&str, &str)] = &[TINYPROXY, nginx::NEEDS[0]];
/// It listens in the NAT box of the first side, toward the host.
const CONFIGURATION: &str = "Port 3128
Listen GATEWAY
LogLevel Info
BasicAuth clerk secret
ConnectPort 443
ConnectPort 8080
";
const PLAIN: &str = "http://198.18.0.1:8080";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(NEEDS, "a_link_out_of_an_office_goes_by_its_proxy", plain),
        needing(WITH_NGINX, "a_link_out_of_an_office_goes_by_its_proxy_with_tls", encrypted),
        needing(NEEDS, "what_the_proxy_of_an_office_refuses_is_told", refused),
        needing(NEEDS, "no_proxy_is_for_the_ports_that_it_names", no_proxy),
    ]
}

/// An office, and a home without a proxy.
struct Office {
    lab: Lab,
    proxy: Server,
    /// The proxy's URL, with name and password.
    url: String,
}

impl Office {
    fn new() -> Result<Self, Failed> {
        let mut lab = Lab::build(&[NatKind::PortPreserving; 2])?;
        lab.give("hosts", "127.0.0.1 localhost\n198.18.0.1 rendezvous.example.com\n");
        lab.give("authority.pem", AUTHORITY);
        lab.shut_box(0)?;
        let gateway = lab.side(0).gateway().to_string();
        let start = Start {
            command: &["tinyproxy", "-d", "-c", "/run/tinyproxy.conf"],
            files: &[("tinyproxy.conf", &CONFIGURATION.replace("GATEWAY", &gateway))],
            ready: "Accepting connections",
        };
        let proxy = Server::start(&lab, Place::Box(0), start)?;
        Ok(Self { lab, proxy, url: format!("http://clerk:secret@{gateway}:3128") })
    }

    fn session(&self) -> Result<Session<'_>, Failed> {
        Ok(Session::start(&self.lab, Workers::USUAL)?)
    }
}

/// A program in the office, with these variables.
fn inside(
    session: &Session<'_>,
    words: &[&str],
    variables: &[(&str, &str)],
) -> Result<Program, Failed> {
    Ok(session.program_with(0, words[0], &words[1..], variables)?)
}

/// A worker of each generation registers from the office, and a measurement with the home goes by the relay.
fn works(office: &Office, session: &Session<'_>, url: &str, variables: &[(&str, &str)]) -> Outcome {
    let to = ["--rendezvous-url", url];
    for generation in [&[][..], &["--baseline"]] {
        let worker = inside(session, &[&WORKER[..], &to, generation].concat(), variables)?;
        if registered(&worker)? != generation.is_empty() {
            return Err("the worker does not speak what it should".into());
        }
    }
    let bench = ["bench", "--room", "office", "--seconds", "0.3", "--json", "--now"];
    let bench = [&bench[..], &to].concat();
    let without = [("SSL_CERT_FILE", AUTHORITY_FILE)];
    let home = session.program_with(1, bench[0], &bench[1..], &without)?;
    measured_by_the_relay(inside(session, &bench, variables)?)?;
    measured_by_the_relay(home)?;
    office.proxy.says("CONNECT", WITHIN).map_err(Failed::from)
}

fn plain() -> Outcome {
    let office = Office::new()?;
    // The other variable is not for this URL.
    let variables = [("HTTP_PROXY", office.url.as_str()), ("HTTPS_PROXY", "http://192.0.2.1:1")];
    works(&office, &office.session()?, PLAIN, &variables)
}

fn encrypted() -> Outcome {
    let office = Office::new()?;
    let _nginx = nginx::http(&office.lab, &nginx::recipe().to_string())?;
    let session = Session::start_as(&office.lab, Workers::USUAL, &rendezvous())?;
    let variables = [
        ("HTTPS_PROXY", office.url.as_str()),
        ("HTTP_PROXY", "http://192.0.2.1:1"),
        ("SSL_CERT_FILE", AUTHORITY_FILE),
    ];
    works(&office, &session, ROOT, &variables)
}

/// Waits until a worker says all this in one line.
fn says(worker: &Program, told: &[&str]) -> Outcome {
    Ok(worker.wait_for(&told.join(", "), WITHIN, |lines| {
        let mut lines = lines.iter();
        lines.any(|line| told.iter().all(|part| line.text().contains(part))).then_some(())
    })?)
}

fn refused() -> Outcome {
    let office = Office::new()?;
    let session = office.session()?;
    let to = |url| [&WORKER[..], &["--rendezvous-url", url]].concat();
    let nameless = office.url.replace("clerk:secret@", "");
    let worker = inside(&session, &to(PLAIN), &[("HTTP_PROXY", &nameless)])?;
    says(&worker, &["HTTP_PROXY", "it wants a name and a password"])?;
    let wrong = office.url.replace("secret", "other");
    let worker = inside(&session, &to(PLAIN), &[("HTTP_PROXY", &wrong)])?;
    says(&worker, &["HTTP_PROXY", "does not take the name and the password"])?;
    let worker = inside(&session, &to("http://198.18.0.1:8081"), &[("HTTP_PROXY", &office.url)])?;
    says(&worker, &["HTTP_PROXY", "it does not let connections to 198.18.0.1:8081 through"])
}

fn no_proxy() -> Outcome {
    let office = Office::new()?;
    let session = office.session()?;
    let words = [&WORKER[..], &["--rendezvous-url", PLAIN]].concat();
    let with = |no| [("HTTP_PROXY", office.url.as_str()), ("NO_PROXY", no)];
    // Another port: the proxy is asked.
    registered(&inside(&session, &words, &with("198.18.0.1:8081,[2001:db8::1]:8080"))?)?;
    // At home there is no such proxy, and the rendezvous is reached without one.
    let dead = [("HTTP_PROXY", "http://198.18.0.3:3128"), ("NO_PROXY", "198.18.0.1:8080")];
    registered(&session.program_with(1, words[0], &words[1..], &dead)?)?;
    Ok(())
}
