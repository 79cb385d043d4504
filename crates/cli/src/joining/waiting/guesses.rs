//! Wrong codes: how many a code bears.

use super::Heard;
use crate::code::GUESSES_MAX;

/// Who has made up the code by which the two meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::joining) enum Code {
    /// This side, where so many wrong ones have come by now.
    ThisSide {
        guesses: u32,
    },
    OtherSide,
}

impl Code {
    /// Somebody has come with another code, or this side has. `resumes`: the peer that had the right one is waited for, and no
    /// stranger ends that; all guesses together stay within [`GUESSES_SHOWN_MAX`](crate::code::GUESSES_SHOWN_MAX).
    pub(super) fn wrong(&mut self, resumes: bool) -> Heard {
        match self {
            Self::OtherSide => Heard::Hopeless(
                "this is not the code that the other side has made up (or somebody stands in between): look at it \
                 again, and have it read out; three wrong ones end it"
                    .to_owned(),
            ),
            Self::ThisSide { guesses } => {
                let text = "somebody has come with a wrong code, and got nothing";
                if resumes {
                    return Heard::Line(text.to_owned());
                }
                *guesses += 1;
                if *guesses < GUESSES_MAX {
                    return Heard::Line(format!("{text} ({guesses} of {GUESSES_MAX} wrong ones)"));
                }
                Heard::Hopeless(format!(
                    "{GUESSES_MAX} wrong codes have come, so this one is good no longer: somebody mistypes it, or \
                     guesses; run the command again for another one"
                ))
            }
        }
    }
}
