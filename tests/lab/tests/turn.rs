//! Workers that cannot link directly, a rendezvous that relays nothing, and a TURN server.

use std::process::ExitCode;
use std::time::Duration;

use holepunch_lab::{
    Lab, NatKind, Program, Session, TurnService, Workers, availability, multicall, trial,
};
use libtest_mimic::{Arguments, Failed};

const SECRET: &str = "north";
/// A machine that is busy may take its time.
const WITHIN: Duration = Duration::from_secs(90);

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    if let Some(code) = multicall::dispatch() {
        return code;
    }
    let with_server = || TurnService::check().and_then(|()| availability::check());
    let trials = vec![
        trial("bench_goes_by_turn_where_nothing_else_leads", with_server, goes_by_turn),
        trial("a_secret_that_is_not_the_servers_is_told", with_server, refused),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Two NATs between which there is no direct path.
fn lab() -> Result<Lab, Failed> {
    Ok(Lab::build(&[NatKind::Symmetric; 2])?)
}

fn session<'lab>(lab: &'lab Lab, secret: &str) -> Result<Session<'lab>, Failed> {
    let url = TurnService::url();
    let more = ["--no-relay", "--turn", &url, "--turn-secret", secret];
    Ok(Session::start_with(lab, Workers::USUAL, &more)?)
}

fn benches(session: &Session<'_>) -> Result<[Program; 2], Failed> {
    let bench = ["--room", "turn", "--seconds", "0.2", "--json", "--wait-direct-sec", "1.5"];
    Ok([session.program(0, "bench", &bench)?, session.program(1, "bench", &bench)?])
}

fn goes_by_turn() -> Outcome {
    let lab = lab()?;
    let server = TurnService::start(&lab, SECRET)?;
    let session = session(&lab, SECRET)?;
    for side in benches(&session)? {
        let end = side.end(WITHIN)?;
        let report = end.json()?;
        let bytes = |way: &str| report[way]["bytes"].as_u64().unwrap_or(0);
        let ways = report["path_history"].as_array().map_or(&[][..], Vec::as_slice);
        let by_turn_alone = ways.iter().all(|way| way["path"] == "TURN server");
        let holds = report["path"] == "TURN server"
            && report["direct"] == false
            && !ways.is_empty()
            && by_turn_alone
            && bytes("to_peer") > 0
            && bytes("from_peer") > 0;
        if !holds {
            return Err(format!("not by TURN: {report:#}\n{}", end.tail).into());
        }
    }
    Ok(server.bound(2, WITHIN)?)
}

/// The server lets nobody in: each side says why, and there is no link.
fn refused() -> Outcome {
    let lab = lab()?;
    let _server = TurnService::start(&lab, SECRET)?;
    let session = session(&lab, "south")?;
    for side in benches(&session)? {
        side.wait_for("the refusal", WITHIN, |lines| {
            let told = "the TURN server refuses the credentials: 401";
            lines.iter().any(|line| line.text().contains(told)).then_some(())
        })?;
        if side.lines().iter().any(|line| line.text().contains("linked")) {
            return Err("there is a link".into());
        }
    }
    Ok(())
}
