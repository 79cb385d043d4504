//! Files that may grow no further.

use tokio::signal::unix::SignalKind;

/// Lets a file that reaches `ulimit -f` be an error of its own. Left alone, the signal that comes with it ends the
/// process; with a handler, whatever it does, the write fails with `EFBIG`. It stays for good, as all of tokio's do.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn outlive_the_size_limit() {
    let signal = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    if let Err(error) = tokio::signal::unix::signal(signal) {
        tracing::debug!(%error, "a file beyond the limit of sizes will end this process");
    }
}
