//! Programs over a link, on every pair of NATs: `bench`, `send` and `receive`.

mod folders;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use folders::Folders;
use holepunch_lab::first_byte::{self, ByCode};
use holepunch_lab::logs::Line;
use holepunch_lab::pairs::{Expected, Pair, for_programs};
use holepunch_lab::{
    Conditions, Ended, Lab, NatKind, Program, Session, Workers, availability, multicall,
};
use libtest_mimic::{Arguments, Failed};
use serde_json::Value;

/// A search ends after 24 s.
const DIRECT_WITHIN_S: &str = "45";
/// For a direct path that is not to come.
const NO_DIRECT_WITHIN_S: &str = "1.5";
/// A machine that is busy may take its time.
const ENDS_WITHIN: Duration = Duration::from_secs(90);
/// What somebody reads out.
const CODE_CHARACTERS_MAX: usize = 20;
const MIB: u64 = 1 << 20;

/// The transfer whose direct path is cut: so large, cut and mended when so much has come.
const CUT_BYTES: u64 = 256 * MIB;
const CUT_AT: u64 = 24 * MIB;
const MENDED_AT: u64 = 64 * MIB;
/// What the relay carries meanwhile: so slow that it does not end the transfer before the direct path is
/// back.
const CUT_RELAY: [&str; 2] = ["--relay-rate", "24M"];
/// One side has no network for so long: TCP's next retransmission is then as far away again, and QUIC's as well.
const OUTAGE: Duration = Duration::from_secs(9);
/// What may pass until data moves again, on a machine that is busy. Links that waited for TCP, or for the timers of a path
/// that nobody uses, took 7 to 70 s.
const MOVES_WITHIN: Duration = Duration::from_secs(4);
/// What is transferred by the relay meanwhile.
const RELAYED_BYTES: u64 = 96 * MIB;
/// A file is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(2);

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let arguments = Arguments::from_args();
    let cut = "a_transfer_outlives_a_cut_of_the_direct_path";
    let mut trials = vec![
        holepunch_lab::trial(cut, availability::check, outlives_a_cut),
        holepunch_lab::trial("a_direct_link_goes_on_after_an_outage", availability::check, || {
            outlives_an_outage(true)
        }),
        holepunch_lab::trial("a_relayed_link_goes_on_after_an_outage", availability::check, || {
            outlives_an_outage(false)
        }),
    ];
    let by_code = "a_file_goes_by_a_code_between_two_nats";
    trials.push(holepunch_lab::trial(by_code, availability::check, goes_by_a_code));
    // Searches take longest, and are the last of the list.
    trials.extend(for_programs().into_iter().rev().filter(Pair::is_smoke).map(|pair| {
        let name = format!("{pair}, {:?}", pair.expected);
        holepunch_lab::trial(&name, availability::check, move || works(&pair))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A measurement and a transfer, by the way that is to be expected.
fn works(pair: &Pair) -> Outcome {
    let lab = pair.build()?;
    let session = Session::start(&lab, Workers::USUAL)?;
    let is_relayed = pair.expected == Expected::Relay;
    let wait = if is_relayed { NO_DIRECT_WITHIN_S } else { DIRECT_WITHIN_S };
    let bench = ["--room", "bench", "--seconds", "0.2", "--json", "--wait-direct-sec", wait];
    let sides = [session.program(0, "bench", &bench)?, session.program(1, "bench", &bench)?];
    for told in ended(sides)? {
        let report = &told.json;
        say(format!(
            "{pair}: linked {} ms, direct {} ms",
            report["linked_ms"], report["direct_ms"]
        ));
        let bytes = |way: &str| report[way]["bytes"].as_u64().unwrap_or(0);
        told.require(report["direct"] == !is_relayed, "the path is another one")?;
        told.require(bytes("to_peer") > 0 && bytes("from_peer") > 0, "nothing was measured")?;
    }
    if is_relayed {
        // Those whose UDP gets out are relayed by it.
        let by_udp = pair.kinds.iter().filter(|kind| kind.claim().is_some()).count();
        session.wait_for_rendezvous("relay by UDP", ENDS_WITHIN, |lines| {
            let left = lines.iter().filter(|line| line.text().contains("relay by UDP left"));
            let carried = left.filter(|line| !line.text().contains("datagrams=0 ")).count();
            (carried >= by_udp).then_some(())
        })?;
    }
    let folders = Folders::new()?;
    folders.write("large", 3 * MIB)?;
    folders.write("small/one", 1000)?;
    folders.write("small/empty", 0)?;
    for told in ended(transfer(&session, &folders)?)? {
        told.require(told.json["files_completed"] == 3, "not all has come")?;
        let is_direct = told.ways().contains(&true);
        told.require(!(is_relayed && is_direct), "there is a direct path")?;
    }
    Ok(folders.compare()?)
}

/// A file is sent by a code, which is short, between two NATs with lines that take their time.
fn goes_by_a_code() -> Outcome {
    let line = Conditions::with_delay(first_byte::WAY);
    let lab = Lab::build_on(&[(NatKind::PortPreserving, line); 2])?;
    let ByCode { code, first_byte_after, .. } = first_byte::by_code(&lab)?;
    say(format!("by {code}: the first byte {} ms after Enter", first_byte_after.as_millis()));
    if code.len() > CODE_CHARACTERS_MAX {
        return Err(
            format!("the code {code} has more than {CODE_CHARACTERS_MAX} characters").into()
        );
    }
    Ok(())
}

/// The sides of a transfer: who sends, who receives.
fn transfer(session: &Session<'_>, folders: &Folders) -> Result<[Program; 2], Failed> {
    let (from, into) = (folders.source(), folders.target());
    let more = ["--room", "transfer", "--json"];
    let sender = session.program(0, "send", &[&[from.as_str()], &more[..]].concat())?;
    let receiver = session.program(1, "receive", &[&[into.as_str()], &more[..]].concat())?;
    Ok([sender, receiver])
}

/// What one side has printed in the end, and the last lines of its log.
struct Told {
    json: Value,
    tail: String,
}

impl Told {
    fn require(&self, holds: bool, why: &str) -> Outcome {
        if holds { Ok(()) } else { Err(format!("{why}: {:#}\n{}", self.json, self.tail).into()) }
    }

    /// Whether each way that packets took was direct.
    fn ways(&self) -> Vec<bool> {
        let ways = self.json["path_history"].as_array().map_or(&[][..], Vec::as_slice);
        ways.iter().map(|way| way["direct"] == true).collect()
    }
}

/// Waits for the end of both.
fn ended(sides: [Program; 2]) -> Result<Vec<Told>, Failed> {
    let ends = sides.map(|side| side.end(ENDS_WITHIN));
    let told = |end: Result<Ended, _>| {
        let end = end?;
        Ok(Told { json: end.json()?, tail: end.tail })
    };
    ends.into_iter().map(told).collect()
}

/// The direct path is cut in the middle of a transfer, which goes on over the relay, and mended.
fn outlives_a_cut() -> Outcome {
    let lab = Lab::build(&[NatKind::PortPreserving; 2])?;
    let session = Session::start_with(&lab, Workers::USUAL, &CUT_RELAY)?;
    let folders = Folders::new()?;
    folders.write("large", CUT_BYTES)?;
    let sides = transfer(&session, &folders)?;
    for side in &sides {
        side.wait_for("a direct path", ENDS_WITHIN, with_message("link established"))?;
    }
    has_come(&folders, CUT_AT)?;
    let cut_at = now();
    lab.cut(0, 1)?;
    has_come(&folders, MENDED_AT)?;
    let mended_at = now();
    lab.mend()?;
    for side in &sides {
        let again = with_message("a path answers again");
        let again = side.wait_for("the direct path again", ENDS_WITHIN, again)?;
        let suspect = with_message("the path answers no more, others are tried")(&side.lines());
        let after = |line: Option<&Line>, since: Duration| {
            let time = line.and_then(Line::time).unwrap_or_default();
            time.as_secs_f64() * 1000.0 - since.as_secs_f64() * 1000.0
        };
        say(format!(
            "cut for {:.0} ms; suspect {:.0} ms after the cut, direct {:.0} ms after its end",
            (mended_at - cut_at).as_secs_f64() * 1000.0,
            after(suspect.as_ref(), cut_at),
            after(Some(&again), mended_at)
        ));
    }
    for told in ended(sides)? {
        say(format!("longest pause {} ms", told.json["longest_pause_ms"]));
        let there_and_back = told.ways().ends_with(&[true, false, true]);
        told.require(there_and_back, "the path was not relayed and then direct again")?;
        told.require(told.json["bytes_already_there"] == 0, "it has begun anew")?;
    }
    Ok(folders.compare()?)
}

/// The sender has no network in the middle of a transfer, which goes on at once when there is one again.
fn outlives_an_outage(is_direct: bool) -> Outcome {
    let lab = Lab::build(&[NatKind::None; 2])?;
    let session = Session::start_with(&lab, Workers::USUAL, &CUT_RELAY)?;
    let folders = Folders::new()?;
    folders.write("large", if is_direct { CUT_BYTES } else { RELAYED_BYTES })?;
    if !is_direct {
        lab.cut(0, 1)?;
    }
    let sides = transfer(&session, &folders)?;
    has_come(&folders, CUT_AT)?;
    lab.silence(0)?;
    std::thread::sleep(OUTAGE);
    lab.unsilence()?;
    for told in ended(sides)? {
        let pause = told.json["longest_pause_ms"].as_f64();
        let pause = pause.map(|ms| Duration::from_secs_f64(ms / 1000.0));
        say(format!("outage of {OUTAGE:?}, direct: {is_direct}: longest pause {pause:?}"));
        let is_soon = pause.is_some_and(|pause| pause <= OUTAGE + MOVES_WITHIN);
        told.require(is_soon, "it stood still after the outage")?;
        told.require(told.ways().contains(&true) == is_direct, "the path is another one")?;
        told.require(told.json["bytes_already_there"] == 0, "it has begun anew")?;
    }
    Ok(folders.compare()?)
}

/// Waits until so many bytes of the large file have come.
fn has_come(folders: &Folders, bytes: u64) -> Outcome {
    let deadline = Instant::now() + ENDS_WITHIN;
    while folders.received("large") < bytes {
        if Instant::now() > deadline {
            return Err(format!("{bytes} bytes: not within {ENDS_WITHIN:?}").into());
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

fn with_message(message: &str) -> impl Fn(&[Line]) -> Option<Line> {
    move |lines| lines.iter().find(|line| line.message() == message).cloned()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Figures, for whoever looks.
fn say(text: String) {
    use std::io::Write;
    let _when_nobody_reads = writeln!(std::io::stderr(), "{text}");
}
