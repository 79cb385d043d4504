//! Standard input and output as they are, without the buffers of the standard library: what is read or written is
//! large, and a pipe that has another end should hold much.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What a pipe is asked to hold: with the 64 KiB that it has, its two ends wake each other sixteen times as often.
/// What any user may have on Linux.
const PIPE_BYTES: usize = 1024 * 1024;

/// Standard input.
#[derive(Debug)]
pub struct Stdin(());

/// Standard output. Dropping it passes its end on to whoever reads: `tar x` need not wait for the end of the program.
#[derive(Debug)]
pub struct Stdout(());

impl Stdin {
    /// Nobody else in the process should read from it.
    #[must_use]
    pub fn new() -> Self {
        enlarge(rustix::stdio::stdin());
        Self(())
    }
}

impl Default for Stdin {
    fn default() -> Self {
        Self::new()
    }
}

impl Stdout {
    /// Nobody else in the process should write to it.
    #[must_use]
    pub fn new() -> Self {
        enlarge(rustix::stdio::stdout());
        Self(())
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

/// What is no pipe, or may not become larger, stays as it is.
fn enlarge(descriptor: BorrowedFd<'_>) {
    let has_less = rustix::pipe::fcntl_getpipe_size(descriptor).is_ok_and(|now| now < PIPE_BYTES);
    if has_less {
        let _when_it_may = rustix::pipe::fcntl_setpipe_size(descriptor, PIPE_BYTES);
    }
}

/// Whoever shares a terminal or a pipe with others may find it set not to block: then this waits.
fn waiting<T>(
    descriptor: BorrowedFd<'_>,
    wanted: PollFlags,
    mut attempt: impl FnMut() -> rustix::io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(Errno::AGAIN) => {
                let mut polled = [PollFd::from_borrowed_fd(descriptor.as_fd(), wanted)];
                match poll(&mut polled, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

impl Read for Stdin {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let descriptor = rustix::stdio::stdin();
        waiting(descriptor, PollFlags::IN, || rustix::io::read(descriptor, &mut *bytes))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let descriptor = rustix::stdio::stdout();
        waiting(descriptor, PollFlags::OUT, || rustix::io::writev(descriptor, pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        // The number stays taken, so that no file which is opened later becomes the standard output.
        let nothing =
            rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        if let Ok(nothing) = nothing {
            let _unless_it_cannot = rustix::stdio::dup2_stdout(nothing);
        }
    }
}
