//! The binary that runs a laboratory is also every program in it.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::{fast_line, flow, janitor, prober, router};

/// First argument of the binary when it is to be `holepunch`.
pub(crate) const HOLEPUNCH: &str = "holepunch";
/// Names another binary that is to be `holepunch`, for figures of a release build.
pub(crate) const BINARY: &str = "HOLEPUNCH_LAB_BINARY";
/// The same where its standard input is its own, and something else ends it with the laboratory.
pub(crate) const HOLEPUNCH_WITH_INPUT: &str = "holepunch-with-input";

/// Runs the program that the first argument names: `holepunch` with the rest of the command line, or
/// a helper of the laboratory. `None` when it names none of them; then the binary is what it is.
///
/// To be called first in `main` of each binary that builds a [`Lab`](crate::Lab).
#[must_use]
pub fn dispatch() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let entry = arguments.first()?.to_str()?.to_owned();
    match entry.as_str() {
        HOLEPUNCH => Some(match std::env::var_os(BINARY) {
            Some(binary) => {
                let error = Command::new(binary).args(&arguments[1..]).env_remove(BINARY).exec();
                panic!("cannot run the binary that {BINARY} names: {error}")
            }
            None => {
                end_with_the_lab();
                holepunch_cli::run(arguments)
            }
        }),
        HOLEPUNCH_WITH_INPUT => Some(holepunch_cli::run(arguments)),
        fast_line::ENTRY => Some(fast_line::main(&words(arguments))),
        flow::ENTRY => Some(flow::main(&words(arguments))),
        prober::ENTRY => Some(prober::main(&words(arguments))),
        router::ENTRY => Some(router::main(&words(arguments))),
        janitor::ENTRY => Some(janitor::main(arguments.get(1)?.to_str()?)),
        _ => None,
    }
}

/// The words after the first.
fn words(arguments: Vec<OsString>) -> Vec<String> {
    arguments.into_iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Ends this process when its standard input ends: the laboratory holds the other end and never
/// writes, so that is when the laboratory is gone, killed perhaps.
pub(crate) fn end_with_the_lab() {
    std::thread::spawn(|| {
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
}
