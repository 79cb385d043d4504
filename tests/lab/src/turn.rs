//! A TURN server in the public network: Debian's `coturn`.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::LabError;
use crate::process::Process;
use crate::topology::{Lab, SERVICES};

const PROGRAM: &str = "turnserver";
/// Beside the ports of the rendezvous' STUN servers, at the same address.
const PORT: u16 = 3500;
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running server. It ends before the [`Lab`] that it runs in.
#[derive(Debug)]
pub struct TurnService(Process);

impl TurnService {
    /// Whether the program is there.
    ///
    /// # Errors
    /// What is missing.
    pub fn check() -> Result<(), &'static str> {
        let mut version = Command::new(PROGRAM);
        version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match version.status() {
            Ok(_) => Ok(()),
            Err(_) => Err("no turnserver here (Debian: apt-get install coturn)"),
        }
    }

    /// The server as workers are told of it.
    #[must_use]
    pub fn url() -> String {
        format!("turn:{}:{PORT}", SERVICES[0])
    }

    /// Starts it with a secret that the rendezvous is to share.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(lab: &Lab, secret: &str) -> Result<Self, LabError> {
        // `ip netns exec` gives a mount namespace of its own, so that the files are gone with the
        // program. It knows no leash, so the kernel ends it with whoever has started it.
        let script =
            "mount -t tmpfs none /run && exec setpriv --pdeathsig KILL turnserver \"$@\" >&2";
        let mut command = lab.wan.inside("sh");
        let ip = SERVICES[0].to_string();
        command
            .args(["-c", script, "sh", "-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"])
            .args(["--verbose", "--log-file", "stdout", "--simple-log"])
            .args(["--listening-ip", &ip, "--listening-port", &PORT.to_string()])
            .args(["--relay-ip", &ip, "--realm", "holepunch.test"])
            .args(["--use-auth-secret", "--static-auth-secret", secret])
            .args(["--pidfile", "/run/pid", "--userdb", "/run/db"]);
        let process = Process::start("turnserver (coturn)", command)?;
        let listens = format!("UDP listener opened on: {ip}:{PORT}");
        process.wait_for("it listens", READY_WITHIN, |lines| {
            lines.iter().any(|line| line.text().contains(&listens)).then_some(())
        })?;
        Ok(Self(process))
    }

    /// Waits until so many workers have a channel to their peer.
    ///
    /// # Errors
    /// They do not within that time.
    pub fn bound(&self, count: usize, within: Duration) -> Result<(), LabError> {
        self.0.wait_for("channels", within, |lines| {
            let bound =
                |line: &&crate::logs::Line| line.text().contains("CHANNEL_BIND processed, success");
            (lines.iter().filter(bound).count() >= count).then_some(())
        })
    }
}
