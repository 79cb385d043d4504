//! Flows that go, in the hosts of a network with a line.

use std::io::Read;
use std::net::Ipv4Addr;
use std::process::ChildStdout;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::arrivals::{Arrivals, Running};
use super::{ACCEPTED, CHUNK_BYTES, ENTRY, READY};
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::tool::TOOL_WITHIN;

/// TCP listens here.
const TCP_PORT: u16 = 9000;
/// A connection over a bad line may take long: SYNs are sent again after 1, 3, 7 and 15 s.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// What comes at the end of a flow's time besides that time.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// A flow whose arrivals are read from a program's standard output. Dropping it ends its programs.
#[derive(Debug)]
pub struct Flow {
    /// The sender first.
    programs: [Process; 2],
    seen: Arc<Mutex<Option<Running>>>,
    first: Receiver<Instant>,
}

impl Flow {
    /// `out` is the standard output of the second one, the receiver.
    pub(crate) fn new(programs: [Process; 2], out: ChildStdout) -> Self {
        let seen = Arc::new(Mutex::new(None));
        let (told, first) = mpsc::sync_channel(1);
        let shared = Arc::clone(&seen);
        // It ends with the receiver.
        thread::spawn(move || read(out, &shared, &told));
        Self { programs, seen, first }
    }

    /// Waits for the first byte: when it came.
    ///
    /// # Errors
    /// None comes in time.
    pub fn begun(&self) -> Result<Instant, LabError> {
        self.first.recv_timeout(BEGINS_WITHIN).map_err(|_| LabError::TimedOut {
            what: "the first byte".to_owned(),
            within: BEGINS_WITHIN,
            ended: "",
            logs: self.programs.iter().map(Process::tail).collect(),
        })
    }

    /// What has come so far.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().map(|running| running.arrivals.clone()).unwrap_or_default()
    }

    /// The last lines of both programs, for people.
    #[must_use]
    pub fn tails(&self) -> String {
        self.programs.iter().map(Process::tail).collect()
    }
}

fn read(mut out: ChildStdout, seen: &Mutex<Option<Running>>, told: &mpsc::SyncSender<Instant>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(bytes @ 1..) = out.read(&mut buffer) {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.as_mut() {
            Some(running) => running.add(bytes),
            None => {
                let running = Running::new(bytes);
                let _unless_nobody_waits = told.try_send(running.began);
                *seen = Some(running);
            }
        }
    }
}

/// A connection of the kernel's TCP. Dropping it ends both sides.
#[derive(Debug)]
pub struct TcpFlow {
    sender: Process,
    receiver: Process,
    time: Duration,
    began: Instant,
}

impl TcpFlow {
    /// Connects `from` with `to` at this address and fills the connection for so long.
    pub(crate) fn start(
        from: &Namespace,
        to: &Namespace,
        address: Ipv4Addr,
        control: &str,
        time: Duration,
    ) -> Result<Self, LabError> {
        let address = format!("{address}:{TCP_PORT}");
        let mut command = to.own_program(ENTRY)?;
        command.args(["receive", &address, &time.as_millis().to_string()]);
        let receiver = Process::start("the receiver of TCP", command)?;
        receiver.wait_for("it listens", TOOL_WITHIN, said(READY))?;
        let mut command = from.own_program(ENTRY)?;
        command.args(["send", &address, control]);
        let sender = Process::start(&format!("the sender of TCP ({control})"), command)?;
        receiver.wait_for("a connection", BEGINS_WITHIN, said(ACCEPTED))?;
        Ok(Self { sender, receiver, time, began: Instant::now() })
    }

    /// When the receiver has taken the connection.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Waits for the end of its time: what has come.
    ///
    /// # Errors
    /// A side has failed.
    pub fn arrivals(mut self) -> Result<Arrivals, LabError> {
        self.receiver.end(self.time + ENDS_WITHIN)?;
        let out = self.receiver.output();
        serde_json::from_str(&out).map_err(|_| LabError::NotProven {
            why: "TCP has not ended well".to_owned(),
            evidence: out + &self.receiver.tail() + &self.sender.tail(),
        })
    }
}

fn said(what: &str) -> impl Fn(&[crate::logs::Line]) -> Option<()> {
    move |lines| lines.iter().any(|line| line.text() == what).then_some(())
}
