//! The limit of open files. The usual soft limit of 1,024 is for old programs that use `select`; what the system lets a
//! process have is the hard one.

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

/// Descriptors of a process that are for none of the connections that it carries.
const RESERVED: usize = 64;

/// How many connections a process may carry that has few other files open; `None`: nobody says.
pub(crate) fn connections_max() -> Option<usize> {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit: Option<u64> = None;
    Some(usize::try_from(limit?).unwrap_or(usize::MAX).saturating_sub(RESERVED))
}
