//! What `--version` tells: the version, the commit, and what is spoken.

use std::sync::LazyLock;

use holepunch_link::ALPN;
use holepunch_programs::{bench, chat, forward, pipe, transfer};
use holepunch_wire::signal::v1::SUBPROTOCOL;

/// The commit of the source, from `build.rs`.
const COMMIT: &str = env!("HOLEPUNCH_COMMIT");

/// `-V`: one line.
pub(crate) const SHORT: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("HOLEPUNCH_COMMIT"), ")");

/// `--version`: what has to be the same on both sides, too.
pub(crate) fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let programs = [
            ("bench", bench::VERSION),
            ("chat", chat::VERSION),
            ("forward", forward::VERSION),
            ("pipe", pipe::VERSION),
            ("transfer", transfer::wire::VERSION),
        ];
        let programs = programs.map(|(name, version)| format!("{name} {version}")).join(", ");
        format!(
            "{}\ncommit      {COMMIT}\nrendezvous  {SUBPROTOCOL}, baseline\nlinks       {}\nprograms    {programs}",
            env!("CARGO_PKG_VERSION"),
            String::from_utf8_lossy(ALPN),
        )
    });
    &LONG
}
