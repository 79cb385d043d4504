//! `holepunch`: see `holepunch --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    holepunch_cli::run(std::env::args_os())
}
