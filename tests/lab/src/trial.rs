//! A test that needs more than a compiler.

use libtest_mimic::{Completion, Failed, Trial};

use crate::availability;

/// A test that is shown as ignored, with the reason, where `needs` says that something is missing; with
/// [`availability::REQUIRED`] it fails there.
pub fn trial(
    name: &str,
    needs: impl FnOnce() -> Result<(), &'static str> + Send + 'static,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, || match needs() {
        Ok(()) => test().map(|()| Completion::Completed),
        Err(why) if availability::is_required() => {
            Err(Failed::from(format!("{why}\n({} is set)", availability::REQUIRED)))
        }
        Err(why) => Ok(Completion::ignored_with(why)),
    })
}
