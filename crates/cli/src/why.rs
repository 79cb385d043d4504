//! `holepunch why`.

use std::process::ExitCode;
use std::str::FromStr;

use holepunch_worker::{Story, ask_why};
use url::Url;

use crate::exit::Failure;
use crate::output::{self, one_line};

/// Tell the history of a worker's links
///
/// Which ways to the peer were tried and taken, and why. The worker tells it to its own machine alone. Programs over a link tell it with --why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, on the machine of a worker:\n  \
    holepunch why --url http://127.0.0.1:8080")]
pub(crate) struct Args {
    /// Where the worker tells it: http:// with the worker's PORT (--port)
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: HealthUrl,
    /// Only links with the peer whose id begins so, or with the session whose number does
    #[arg(value_name = "PEER|SESSION")]
    which: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The URL of a health server; a host and a port alone do, too.
#[derive(Debug, Clone)]
struct HealthUrl(Url);

impl FromStr for HealthUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let has_scheme = text.contains("://");
        let full = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let url = full.parse::<Url>().ok().filter(Url::has_host);
        url.map(Self).ok_or("expected a URL, such as http://127.0.0.1:8080")
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut stories = ask_why(&args.url.0).await.map_err(|why| {
        Failure::failed(format!("{why} (--url; the worker's own setting is PORT, --port)"))
    })?;
    if let Some(which) = &args.which {
        let known: Vec<String> = stories.iter().map(name).collect();
        stories.retain(|it| it.session.starts_with(which) || it.peer.starts_with(which));
        if stories.is_empty() {
            return Err(Failure::failed(unknown(which, &known)));
        }
    }
    if args.json {
        output::json(&stories);
    } else if stories.is_empty() {
        output::line("The worker has not been brought together with any peer yet.");
    } else {
        stories.iter().flat_map(in_words).for_each(output::line);
    }
    Ok(ExitCode::SUCCESS)
}

/// Of the links that there are, so many are named to whoever asks for another one.
const KNOWN_SHOWN_MAX: usize = 5;

fn unknown(which: &str, known: &[String]) -> String {
    let shown = known[..known.len().min(KNOWN_SHOWN_MAX)].join("; ");
    match known.len() {
        0 => format!(
            "no peer's id and no session begins with {which:?}: the worker has not been brought together \
             with any peer yet"
        ),
        1..=KNOWN_SHOWN_MAX => {
            format!("no peer's id and no session begins with {which:?}; there is: {shown}")
        }
        all => format!(
            "no peer's id and no session begins with {which:?}; there are {all}, the latest: {shown}"
        ),
    }
}

fn name(story: &Story) -> String {
    format!("session {} with {}", one_line(&story.session), one_line(&story.peer))
}

/// A story, line by line.
pub(crate) fn in_words(story: &Story) -> Vec<String> {
    let mut lines = vec![format!("{}, begun {:.0} s ago", name(story), story.began_seconds_ago)];
    if !story.profile.is_empty() {
        lines.push(format!("              own NAT: {}", one_line(&story.profile)));
    }
    let told = story.lines.iter();
    lines.extend(told.map(|line| format!("{:>10.1} ms  {}", line.after_ms, one_line(&line.text))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_a_port_is_a_url() {
        let url = |text: &str| text.parse::<HealthUrl>().map(|HealthUrl(url)| url.to_string());
        assert_eq!(url("localhost:8080").as_deref(), Ok("http://localhost:8080/"));
        assert_eq!(url("http://127.0.0.1:1").as_deref(), Ok("http://127.0.0.1:1/"));
        assert!(url("").is_err() && url("two words").is_err());
    }

    #[test]
    fn whoever_asks_for_an_unknown_session_is_told_which_there_are() {
        let known = |count| (0..count).map(|it| format!("session {it}")).collect::<Vec<_>>();
        assert!(unknown("x", &known(0)).ends_with("with any peer yet"));
        assert!(unknown("x", &known(2)).ends_with("; there is: session 0; session 1"));
        let many = unknown("x", &known(9));
        assert!(many.contains("there are 9, the latest: session 0;"), "{many}");
        assert!(!many.contains("session 5"), "{many}");
    }
}
