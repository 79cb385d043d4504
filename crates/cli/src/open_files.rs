//! The limit of open files. The usual soft limit of 1,024 is for old programs that use `select`; what the system lets a
//! process have is the hard one.

use holepunch_rendezvous::{OPEN_FILES_RESERVED, open_files_limit};

/// Raises the soft limit to the hard one, for every connection is an open file.
#[cfg(unix)]
pub(crate) fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = ?current, to = ?maximum, "limit of open files raised"),
        // Commands that need more files say so when there are no more.
        Err(error) => tracing::debug!(%error, "the limit of open files stays as it is"),
    }
}

#[cfg(not(unix))]
pub(crate) fn raise_limit() {}

/// How many connections a process may carry that has few other files open; `None`: nobody says.
pub(crate) fn connections_max() -> Option<usize> {
    open_files_limit().map(|limit| limit.saturating_sub(OPEN_FILES_RESERVED))
}
