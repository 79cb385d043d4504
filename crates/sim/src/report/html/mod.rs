//! A report as one page that needs nothing else: no script, style, font or picture from elsewhere.

mod escape;
mod heat;
mod requirements;

use super::Report;
use super::words::count;
use escape::escape;

/// How the page was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The command line.
    pub command: String,
    /// The version of this program.
    pub version: String,
}

/// Nothing may be loaded, whatever a text may contain.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// The report as a page.
#[must_use]
pub fn html(report: &Report, made: &Made) -> String {
    let matrix = report.matrix.as_ref().map(heat::section).unwrap_or_default();
    let requirements = requirements::section(&report.rows);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>holepunch lab: which NATs can be punched through</title>\n\
         <style>\n{style}</style>\n</head>\n<body>\n{header}<main>\n{matrix}{requirements}</main>\n\
         {footer}<script>\n{script}</script>\n</body>\n</html>\n",
        style = include_str!("page.css"),
        script = include_str!("page.js"),
        header = header(report, made),
        footer = FOOTER,
    )
}

fn header(report: &Report, made: &Made) -> String {
    let seeds = match report.seeds {
        Some(1) => format!("seed {}", report.first_seed),
        Some(seeds) => {
            let last = report.first_seed.wrapping_add(seeds).wrapping_sub(1);
            format!("the seeds {} to {last} for each pair", report.first_seed)
        }
        None => format!("each pair's own number of seeds, from {}", report.first_seed),
    };
    let cells = report.matrix.as_ref().map_or(0, |matrix| matrix.cells.len());
    let pairs = report.rows.len() + cells;
    let violated = report.violated();
    let (class, verdict) = match violated {
        0 => ("good", "all as required".to_owned()),
        _ => ("bad", format!("{} not as required", count(violated))),
    };
    format!(
        "<header>\n<h1>holepunch lab</h1>\n<p class=\"lead\">How often two workers link directly by \
         UDP, and how fast, by the kind of NAT in front of each. Every history is played by the \
         program's own machines on simulated NATs under virtual time; one seed makes one \
         history.</p>\n\
         <ul class=\"facts\">\n\
         <li><b>{pairs}</b> pairs</li>\n<li><b>{histories}</b> histories</li>\n\
         <li class=\"{class}\"><b>{mark}</b> {verdict}</li>\n</ul>\n\
         <p class=\"made\">Made by holepunch {version} with {seeds}:</p>\n\
         <pre class=\"made\"><code>{command}</code></pre>\n</header>\n",
        pairs = count(pairs),
        histories = count(report.histories()),
        mark = if violated == 0 { "✓" } else { "✗" },
        version = escape(&made.version),
        seeds = escape(&seeds),
        command = escape(&made.command),
    )
}

const FOOTER: &str = "<footer>\n<h2>How to read it</h2>\n\
    <p><b>Direct</b>: both workers hold an authenticated answer of the other. The interval is the \
    95 % interval of the share (Wilson). <b>Link time</b> runs from the second worker's report to \
    that moment; RTT is the round trip between the two. <b>Packets</b> are those of the side that \
    sent more. <b>Relay</b>: both were told, with a reason, that no direct path is to be \
    expected.</p>\n\
    <p><b>First</b> is the worker that has waited, <b>second</b> the one that came. \
    EIM and APDM say on what a mapping depends (nothing; address and port), EIF, ADF and APDF what a \
    filter lets in (RFC 4787); <i>hard</i> is APDM.</p>\n</footer>\n";
