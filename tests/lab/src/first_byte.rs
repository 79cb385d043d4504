//! A file by a code: how long it takes from the Enter of `receive CODE` until its first byte is written.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::LabError;
use crate::program::Program;
use crate::session::{Session, Workers};
use crate::topology::Lab;

/// One way between a worker and the rendezvous; between the two workers it is twice as much.
pub const WAY: Duration = Duration::from_millis(40);
/// The file: more than what comes with the first packets.
const BYTES: usize = 300_000;
/// Its name.
const NAME: &str = "notes";
/// A machine that is busy may take its time.
const WITHIN: Duration = Duration::from_secs(60);
/// The folder is looked at so often.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// What has come of a file that was sent by a code.
#[derive(Debug, Clone)]
pub struct ByCode {
    /// The code.
    pub code: String,
    /// From the start of the receiver's process until the first byte of the file was in a file of its folder.
    pub first_byte_after: Duration,
    /// From there until both programs had ended.
    pub ended_after: Duration,
}

/// Sends a file from the first side to the second by a code; the sender waits when the receiver is started.
///
/// # Errors
/// It does not come, or is another one.
pub fn by_code(lab: &Lab) -> Result<ByCode, LabError> {
    let session = Session::start(lab, Workers::USUAL)?;
    let folder = TempDir::new().map_err(|error| LabError::program("a folder", error))?;
    let (file, into) = (folder.path().join(NAME), folder.path().join("in"));
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(BYTES).collect();
    fs::write(&file, &bytes).map_err(|error| LabError::program("a file", error))?;
    let sender = session.program(0, "send", &[&*file.to_string_lossy(), "--json"])?;
    let code = sender.wait_for_output("the code", WITHIN, |lines| {
        let told = lines.iter().find(|line| line.string("event") == Some("code"))?;
        told.string("code").map(str::to_owned)
    })?;
    sender.wait_for("its report is acknowledged", WITHIN, |lines| {
        lines.iter().any(|line| line.message() == "udp_endpoint_ack").then_some(())
    })?;
    let began = Instant::now();
    let receiver =
        session.program(1, "receive", &[code.as_str(), &*into.to_string_lossy(), "--json"])?;
    let first_byte_after = loop {
        if has_a_byte(&into) {
            break began.elapsed();
        }
        if began.elapsed() > WITHIN {
            return Err(not_come(&code, [sender, receiver]));
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let ended = [sender.end(WITHIN)?, receiver.end(WITHIN)?];
    let ended_after = began.elapsed();
    for side in &ended {
        side.json()?;
    }
    if fs::read(into.join(NAME)).ok().as_ref() != Some(&bytes) {
        let evidence = ended.map(|side| side.tail).concat();
        return Err(LabError::NotProven { why: "another file has come".to_owned(), evidence });
    }
    Ok(ByCode { code, first_byte_after, ended_after })
}

/// Whether a file of the folder, complete or not, has a byte.
fn has_a_byte(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).any(|file| file.is_file() && file.len() > 0)
}

fn not_come(code: &str, sides: [Program; 2]) -> LabError {
    let lines = sides.iter().flat_map(Program::lines);
    let evidence = lines.map(|line| line.text().to_owned() + "\n").collect();
    LabError::NotProven { why: format!("nothing has come by {code} within {WITHIN:?}"), evidence }
}
