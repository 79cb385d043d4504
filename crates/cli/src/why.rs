//! `holepunch why`.

use std::process::ExitCode;

use holepunch_worker::{Story, ask_why};
use url::Url;

use crate::exit::Failure;
use crate::output;

/// Tell the history of a worker's links: offers, plans, checks, paths, and the reasons
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, on the machine of a worker:\n  \
    holepunch why --url http://127.0.0.1:8080\n\
    The worker tells it to its own machine alone. Programs over a link tell it with --why.")]
pub(crate) struct Args {
    /// The worker's health server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// Only sessions whose number, or whose peer's id, begins so
    #[arg(value_name = "SESSION|PEER")]
    which: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut stories = ask_why(&args.url).await.map_err(Failure::failed)?;
    if let Some(which) = &args.which {
        stories.retain(|it| it.session.starts_with(which) || it.peer.starts_with(which));
    }
    if args.json {
        output::json(&stories);
    } else if stories.is_empty() {
        output::line(
            "The worker knows of no session: it has been offered no peer that speaks holepunch.v1.",
        );
    } else {
        stories.iter().flat_map(in_words).for_each(output::line);
    }
    Ok(ExitCode::SUCCESS)
}

/// A story, line by line.
pub(crate) fn in_words(story: &Story) -> Vec<String> {
    let safe = |text: &str| text.chars().filter(|it| !it.is_control()).collect::<String>();
    let mut lines = vec![format!(
        "session {} with {}, offered {:.0} s ago",
        safe(&story.session),
        safe(&story.peer),
        story.began_seconds_ago
    )];
    if !story.profile.is_empty() {
        lines.push(format!("              own NAT: {}", safe(&story.profile)));
    }
    let told = story.lines.iter();
    lines.extend(told.map(|line| format!("{:>10.1} ms  {}", line.after_ms, safe(&line.text))));
    lines
}
