//! Runs a command to its end, within a bounded time.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::LabError;

/// Most of a command's output that is read, in bytes.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A command of the system takes milliseconds; a machine that is busy may need far longer.
pub(crate) const TOOL_WITHIN: Duration = Duration::from_secs(20);

/// Runs `command` with `input` on its standard input and returns its standard output.
pub(crate) fn run(
    command: &mut Command,
    input: &str,
    within: Duration,
) -> Result<String, LabError> {
    let deadline = Instant::now() + within;
    let line = command_line(command);
    let failed = |why: String| LabError::Tool { command: line.clone(), why };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    // A command that does not want its input says why on its standard error.
    let _wanted = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let left = || deadline.saturating_duration_since(Instant::now());
    let output =
        stdout.recv_timeout(left()).and_then(|out| Ok((out, stderr.recv_timeout(left())?)));
    let Ok((output, complaint)) = output else {
        return Err(failed(give_up(child, within)));
    };
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        Ok(output)
    } else {
        let complaint = complaint.trim();
        Err(failed(format!("{status}: {complaint}")))
    }
}

/// Reads a pipe to its end in the background.
fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _until_then = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        }
        let _unless_given_up = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn give_up(mut child: Child, within: Duration) -> String {
    let _it_may_have_ended = child.kill();
    let _reaped = child.wait();
    format!("no end after {within:?}")
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_its_input_and_returns_its_output() {
        assert_eq!(run(&mut Command::new("cat"), "text", TOOL_WITHIN).unwrap(), "text");
    }

    #[test]
    fn an_error_names_the_command_and_says_what_it_said() {
        let mut command = Command::new("sh");
        let error = run(command.args(["-c", "echo no >&2; exit 3"]), "", TOOL_WITHIN);
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("sh -c") && text.contains('3') && text.contains("no"), "{text}");
        let text = run(&mut Command::new("/none/such"), "", TOOL_WITHIN).unwrap_err().to_string();
        assert!(text.contains("/none/such"), "{text}");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        let error = run(command.arg("60"), "", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("no end"), "{error}");
    }
}
