//! Under which headings the help lists what many programs share. What is a program's own stands before them, under
//! none of these.

/// How two find each other.
pub(crate) const MEETING: &str = "Meeting";
/// Whom to ask, and by which ways to link.
pub(crate) const NETWORK: &str = "Network";
/// What is told on standard error.
pub(crate) const LOGGING: &str = "Logging";
