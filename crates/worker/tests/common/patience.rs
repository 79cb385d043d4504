//! The bound of every wait.

use std::time::Duration;

/// Far above what a loaded machine needs: it only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Waits for `future`, but not for ever.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{what}: nothing came in {PATIENCE:?} (called at {caller})"),
        }
    }
}
