//! Debian's coturn on loopback.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Mutex;

const PROGRAM: &str = "turnserver";
/// With it, a test that cannot run fails.
const REQUIRED: &str = "HOLEPUNCH_LAB_REQUIRED";
/// A Binding request that has not been answered is repeated after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A running server; it is killed when this is dropped.
pub(crate) struct Coturn {
    pub(crate) address: SocketAddr,
    lines: Mutex<Lines<BufReader<ChildStdout>>>,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Coturn {
    /// An address that is free. Another process may take the port in between; then the server does not
    /// answer, and the test says so.
    pub(crate) fn free_address() -> SocketAddr {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
    }

    /// Starts it with this secret; `None` where it is not installed, and need not be.
    pub(crate) async fn start(secret: &str) -> Option<Self> {
        Self::start_at(Self::free_address(), secret, &[]).await
    }

    /// The same at an address of the test's choice, with further settings.
    #[expect(clippy::print_stdout, reason = "a skipped test says why")]
    pub(crate) async fn start_at(
        address: SocketAddr,
        secret: &str,
        settings: &[&str],
    ) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let ip = address.ip().to_string();
        let mut command = Command::new(PROGRAM);
        command
            .args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--verbose"])
            .args(["--listening-ip", &ip, "--listening-port", &address.port().to_string()])
            .args(["--relay-ip", &ip, "--allow-loopback-peers", "--realm", "holepunch.test"])
            .args(["--use-auth-secret", "--static-auth-secret", secret])
            .args(["--log-file", "stdout", "--simple-log"])
            .args(["--pidfile", &file("pid"), "--userdb", &file("db")])
            .args(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let why = format!("no {PROGRAM} here (Debian: apt-get install coturn): {error}");
                assert!(std::env::var_os(REQUIRED).is_none_or(|it| it != "1"), "{why}");
                println!("skipped: {why}");
                return None;
            }
        };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        crate::within("coturn answers", answers(address)).await;
        Some(Self { address, lines: Mutex::new(lines), child, _directory: directory })
    }

    /// Ends it at once, with all addresses.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until so many have a channel to their peer.
    pub(crate) async fn bound(&self, count: usize) {
        let mut lines = self.lines.lock().await;
        let mut found = 0;
        while found < count {
            let line = lines.next_line().await.unwrap().expect("coturn runs");
            found += usize::from(line.contains("CHANNEL_BIND processed, success"));
        }
    }

    /// Waits until it has said this of so many allocations: until when the credentials of each are good.
    pub(crate) async fn said(&self, what: &str, count: usize) -> Vec<u64> {
        let mut lines = self.lines.lock().await;
        let mut all = Vec::new();
        while all.len() < count {
            let line = lines.next_line().await.unwrap().expect("coturn runs");
            // Users of this kind have the second of their end in their name.
            all.extend(number(&line, "username=<").filter(|_| line.contains(what)));
        }
        all
    }

    /// Waits until so many have given their address back. How many bytes came from all of them, and went
    /// to them.
    pub(crate) async fn carried(&self, count: usize) -> u64 {
        let mut lines = self.lines.lock().await;
        let (mut ended, mut bytes) = (0, 0);
        while ended < count {
            let line = lines.next_line().await.unwrap().expect("coturn runs");
            // It counts in parts, and begins anew after each.
            if line.contains(" usage: ") {
                bytes += ["rb=", "sb="].iter().filter_map(|key| number(&line, key)).sum::<u64>();
            }
            ended += usize::from(line.contains("closed (2nd stage)"));
        }
        bytes
    }
}

fn number(line: &str, key: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!(" {key}"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

async fn answers(server: SocketAddr) {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let mut answer = [0; 1500];
    loop {
        // Refused as long as nobody listens.
        let _lost = socket.send(&request).await;
        let received = tokio::time::timeout(ASK_AGAIN_AFTER, async {
            while socket.recv(&mut answer).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        if received.await.is_ok() {
            return;
        }
    }
}
