//! What the demo shows, line by line, and the same for programs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use holepunch_link::PathInfo;
use holepunch_sim::presets::NatKind;
use holepunch_wire::plan::Strategy;
use holepunch_worker::{Link, milliseconds};
use serde::Serialize;

use super::file::Sent;
use super::internet::Traffic;
use crate::output;

/// What the plain way has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Plain {
    /// Packets of both sides that their NATs have let out toward the other.
    pub(super) checks: u64,
    /// Those of them that the other NAT has let in.
    pub(super) let_in: u64,
    /// Where they went: what STUN sees of each.
    pub(super) addresses: Vec<SocketAddr>,
    /// So long they went.
    pub(super) ms: f64,
    pub(super) linked: bool,
}

/// What the search has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Search {
    strategy: Option<Strategy>,
    /// Why this one, in the rendezvous' words.
    reason: String,
    /// Packets of both sides, checks and the beginning of the link.
    packets: u64,
    /// The ports that they went to.
    ports: usize,
    /// Where each side has found the other.
    found: [Option<SocketAddr>; 2],
    /// Time from the offer to the first answer.
    after_ms: f64,
}

impl Search {
    pub(super) fn planned(&mut self, strategy: Strategy, reason: &str) {
        (self.strategy, self.reason) = (Some(strategy), reason.to_owned());
    }

    pub(super) fn found(&mut self, side: usize, path: &PathInfo) {
        self.found[side].get_or_insert(path.remote);
        self.after_ms = self.after_ms.max(milliseconds(path.after));
    }

    pub(super) fn is_complete(&self) -> bool {
        self.found.iter().all(Option::is_some)
    }

    pub(super) fn note_traffic(&mut self, sides: [Traffic; 2]) {
        self.packets = sides.iter().map(|side| side.sent).sum();
        self.ports = sides.iter().map(|side| side.ports.len()).sum();
    }
}

/// One NAT.
#[derive(Debug, Serialize)]
struct NatShown {
    name: &'static str,
    kind: String,
    behaviour: String,
}

fn shown(kinds: [NatKind; 2]) -> [NatShown; 2] {
    let [first, second] = kinds.map(|kind| (kind.to_string(), kind.describe()));
    [("A", first), ("B", second)].map(|(name, (kind, behaviour))| NatShown {
        name,
        kind,
        behaviour,
    })
}

/// The link.
#[derive(Debug, Serialize)]
struct LinkShown {
    path: String,
    encrypted: bool,
    rtt_ms: Option<f64>,
}

impl LinkShown {
    fn of(link: &Link) -> Self {
        let path = link.path();
        let rtt_ms = path.rtt.map(milliseconds);
        // A link is always encrypted; this says that the peer is who it should be as well.
        Self { path: path.kind.to_string(), encrypted: link.is_authenticated(), rtt_ms }
    }
}

/// The file.
#[derive(Debug, Serialize)]
struct FileShown {
    bytes: usize,
    ms: f64,
    mbit_per_second: f64,
    blake3: String,
    /// Whether it has the same hash at both ends.
    same: bool,
}

impl FileShown {
    fn of(sent: &Sent) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
        let mbit_per_second = sent.bytes as f64 * 8.0 / sent.took.as_secs_f64() / 1e6;
        Self {
            bytes: sent.bytes,
            ms: milliseconds(sent.took),
            mbit_per_second,
            blake3: sent.hashes[1].clone(),
            same: sent.is_same(),
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    linked: bool,
    seed: u64,
    nats: [NatShown; 2],
    plain: Plain,
    search: Option<Search>,
    link: Option<LinkShown>,
    file: Option<FileShown>,
    elapsed_ms: f64,
    /// Commands to go on with.
    next: [String; 3],
}

impl Outcome {
    pub(super) fn without_link(
        seed: u64,
        kinds: [NatKind; 2],
        plain: Plain,
        elapsed: Duration,
    ) -> Self {
        Self {
            linked: false,
            seed,
            nats: shown(kinds),
            plain,
            search: None,
            link: None,
            file: None,
            elapsed_ms: milliseconds(elapsed),
            next: next(),
        }
    }

    pub(super) fn linked(self, search: Search, link: &Link, sent: &Sent) -> Self {
        Self {
            linked: true,
            search: Some(search),
            link: Some(LinkShown::of(link)),
            file: Some(FileShown::of(sent)),
            ..self
        }
    }
}

/// What to do next, by the name that this program was called by.
fn next() -> [String; 3] {
    let called = std::env::args_os().next();
    let called = called.as_deref().map(Path::new).map(|path| path.display().to_string());
    let called = called.unwrap_or_else(|| "holepunch".to_owned());
    ["rendezvous", "login http://127.0.0.1:8080", "send FILE"]
        .map(|rest| format!("{called} {rest}"))
}

/// Prints the steps: as results, or beside the document that is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller {
    json: bool,
}

impl Teller {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    fn line(self, what: &str, text: &str) {
        let line = if what.is_empty() { text.to_owned() } else { format!("{what:<15} {text}") };
        if self.json { output::progress(line) } else { output::line(line) }
    }

    pub(super) fn nats(self, kinds: [NatKind; 2], seed: u64) {
        self.line(
            "",
            &format!(
                "Two workers, each behind a simulated NAT (--seed {seed}); the rendezvous, the packets and the link are real."
            ),
        );
        for nat in shown(kinds) {
            self.line(&format!("NAT {}", nat.name), &nat.behaviour);
        }
    }

    pub(super) fn plain(self, plain: &Plain) {
        let at: Vec<String> = plain.addresses.iter().map(ToString::to_string).collect();
        let Plain { checks, let_in, ms, .. } = plain;
        let at = at.join(" and ");
        let let_in = if *let_in == 0 { "none".to_owned() } else { let_in.to_string() };
        let text = format!(
            "{checks} checks at {at} in {ms:.0} ms, where STUN sees the two: {let_in} got in"
        );
        self.line("the plain way", &text);
    }

    pub(super) fn search(self, search: &Search) {
        let strategy = search.strategy.map_or(String::new(), |it| it.to_string());
        let found: Vec<String> = search.found.iter().flatten().map(ToString::to_string).collect();
        self.line("the plan", &format!("{strategy}: {}", search.reason));
        self.line(
            "the search",
            &format!(
                "{} packets to {} ports; found at {} after {:.0} ms",
                search.packets,
                search.ports,
                found.join(" and "),
                search.after_ms
            ),
        );
    }

    pub(super) fn link(self, link: &Link) {
        let LinkShown { path, rtt_ms, .. } = LinkShown::of(link);
        let rtt = rtt_ms.map_or(String::new(), |rtt| format!(", round trip {rtt:.1} ms"));
        self.line("the link", &format!("encrypted, {path}{rtt}"));
    }

    pub(super) fn file(self, sent: &Sent) {
        let FileShown { bytes, ms, mbit_per_second, blake3, same } = FileShown::of(sent);
        let hash = if same { "the same at both ends" } else { "ANOTHER ONE at the far end" };
        self.line(
            "a file",
            &format!(
                "{} MiB in {ms:.0} ms, {mbit_per_second:.0} Mbit/s; its hash {}… is {hash}",
                bytes >> 20,
                &blake3[..16]
            ),
        );
    }

    pub(super) fn outcome(self, outcome: &Outcome) {
        if self.json {
            return output::json(outcome);
        }
        if outcome.linked {
            self.line(
                "",
                &format!(
                    "\nLinked, and the file sent, {:.0} ms after the start.",
                    outcome.elapsed_ms
                ),
            );
            self.line("", &format!("next:\n  {}", outcome.next.join("\n  ")));
        }
    }
}
