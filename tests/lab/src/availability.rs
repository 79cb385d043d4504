//! Whether a laboratory can be built here.

use std::io::Write;
use std::sync::OnceLock;

use crate::nat::NatKind;
use crate::topology::Lab;

/// With this environment variable at `1`, a machine where no laboratory can be built fails the tests
/// instead of skipping them.
pub const REQUIRED: &str = "HOLEPUNCH_LAB_REQUIRED";

/// Builds the smallest laboratory and takes it down again, once in the life of this process.
///
/// # Errors
/// Why that is not possible. The reason is written to standard error too, when it is found.
pub fn check() -> Result<(), &'static str> {
    static CHECKED: OnceLock<Result<(), String>> = OnceLock::new();
    let checked = CHECKED.get_or_init(|| {
        let kinds = [NatKind::Symmetric];
        let built = Lab::build(&kinds).map(drop).map_err(|error| {
            format!("no network namespaces with NAT here (root, ip and nft are needed): {error}")
        });
        if let Err(why) = &built {
            let _when_nobody_reads = writeln!(std::io::stderr(), "holepunch-lab: {why}");
        }
        built
    });
    checked.as_ref().map(drop).map_err(String::as_str)
}

/// Whether a laboratory has to be possible here.
#[must_use]
pub fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some_and(|value| value == "1")
}
