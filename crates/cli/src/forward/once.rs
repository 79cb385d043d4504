//! `holepunch forward --once`: one link, and its end is that of the program.

use std::process::ExitCode;
use std::sync::Arc;

use holepunch_programs::forward::{Ended, Forward, ForwardError, forward};
use holepunch_programs::is_orderly;
use holepunch_worker::CloseCode;

use super::telling::{linked, telling};
use super::{ALONE, End};
use crate::exit::Failure;
use crate::joining::{self, JoinArgs, Manner, Turn};
use crate::output;
use crate::settings::Environment;
use crate::signals::Stop;

pub(super) async fn carry(
    join: JoinArgs,
    environment: &Environment,
    mut what: Forward,
    end: &mut End,
) -> Result<ExitCode, Failure> {
    let json = end.json;
    let mut stop = Stop::listen()?;
    let counts = Arc::clone(&what.counts);
    let manner = Manner { telling: telling(json, None), alone: ALONE, replaces: false };
    let mut joined = joining::join(join, environment, manner, &mut stop).await?;
    let (joined, outcome) = loop {
        if json {
            linked(&joined.link);
        }
        let outcome = tokio::select! {
            outcome = forward(&joined.link, &mut what) => outcome,
            _signal = stop.wait() => {
                end.tell(CloseCode::Interrupted.text().to_owned(), counts.summary());
                return Err(joined.interrupted().await);
            }
        };
        let has_begun = !matches!(outcome, Err(ForwardError::Agree(_)));
        match joined.turn(has_begun, outcome, &mut stop).await? {
            Turn::Over(joined, outcome) => break (joined, outcome),
            Turn::Again(next) => joined = next,
        }
    };
    joined.leave("forwarding has ended").await;
    let Ended { why, summary } = outcome.map_err(Failure::failed)?;
    end.tell(why.to_string(), summary);
    if is_orderly(&why) {
        output::progress("the peer has left; nothing is listened for any more");
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::failed(format!("{why}; nothing is listened for any more")))
}
