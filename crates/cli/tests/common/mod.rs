//! What the tests share: the real binary as a process, and all that it talks to, played by the test
//! on loopback.

#![allow(dead_code, reason = "each test file uses its own part of this")]

#[path = "../../../worker/tests/common/patience.rs"]
mod patience;
#[path = "../../../worker/tests/common/peer.rs"]
pub(crate) mod peer;
pub(crate) mod program;
#[path = "../../../worker/tests/common/rendezvous.rs"]
pub(crate) mod rendezvous;
#[path = "../../../worker/tests/common/stun.rs"]
pub(crate) mod stun;
#[cfg(unix)]
pub(crate) mod terminal;
#[path = "../../../worker/tests/common/web.rs"]
pub(crate) mod web;

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::process::Command;

pub(crate) use patience::within;
pub(crate) use program::Program;
pub(crate) use rendezvous::{Rendezvous, Session, loopback};
pub(crate) use stun::StunServer;

/// What the scripted STUN servers say; no host has it.
pub(crate) const MAPPED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)), 4242);

/// `holepunch rendezvous` as a process, with STUN, on loopback.
pub(crate) struct Served {
    url: String,
    stun: String,
    rendezvous: Option<Program>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0", "127.0.0.1:0").await
    }

    async fn at(http: &str, stun: &str) -> Self {
        let listen = ["--listen", http, "--stun-listen", stun];
        let arguments = [&["rendezvous", "--allow-private"], &listen[..]].concat();
        let mut rendezvous = Program::run(&arguments, &[]);
        let running = rendezvous.log.entry("rendezvous is running").await;
        let url = format!("http://{}", running["http"].as_str().unwrap());
        let stun = running["stun"].as_str().unwrap().trim_matches(['[', ']']).to_owned();
        Self { url, stun, rendezvous: Some(rendezvous) }
    }

    /// Kills it, and starts it again in the same place.
    pub(crate) async fn restart(&mut self) {
        let before = self.rendezvous.take().unwrap();
        before.signal("KILL").await;
        before.end().await;
        let (http, stun) = self.addresses();
        *self = Self::at(http, stun).await;
    }

    /// Where it listens for HTTP, and for STUN.
    pub(crate) fn addresses(&self) -> (&str, &str) {
        (self.url.trim_start_matches("http://"), &self.stun)
    }

    /// A program that joins a room there.
    pub(crate) fn program(&self, arguments: &[&str], room: &str, more: &[&str]) -> Program {
        let usual = ["--room", room, "--no-port-mapping", "--rendezvous-url", &self.url];
        Program::run(&[arguments, &usual, more].concat(), &[("STUN_SERVERS", &self.stun)])
    }

    /// What a program's environment says, so that it joins a room there.
    pub(crate) fn variables<'a>(&'a self, room: &'a str) -> [(&'a str, &'a str); 4] {
        [
            ("RENDEZVOUS_SERVICE_URL", &self.url),
            ("STUN_SERVERS", &self.stun),
            ("NO_PORT_MAPPING", "true"),
            ("ROOM", room),
        ]
    }

    /// A program that meets the other side by a code.
    pub(crate) fn by_code(&self, arguments: &[&str]) -> Program {
        self.by_code_with(arguments, &[], "")
    }

    /// Likewise, with variables, and with this on standard input.
    pub(crate) fn by_code_with(
        &self,
        arguments: &[&str],
        more: &[(&str, &str)],
        input: &str,
    ) -> Program {
        let usual = [("RENDEZVOUS_SERVICE_URL", self.url.as_str()), ("STUN_SERVERS", &self.stun)];
        let arguments = [arguments, &["--no-port-mapping"]].concat();
        Program::run_with_input(&arguments, &[&usual, more].concat(), input)
    }

    /// The same as a command.
    pub(crate) fn command_by_code(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holepunch"));
        command.args(arguments).arg("--no-port-mapping").env_clear();
        command.env("RENDEZVOUS_SERVICE_URL", &self.url).env("STUN_SERVERS", &self.stun);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    /// The same as a command whose input and output are the test's; standard error can be read.
    pub(crate) fn command(&self, arguments: &[&str], room: &str) -> Command {
        self.usual(Command::new(env!("CARGO_BIN_EXE_holepunch")), arguments, room)
    }

    /// The same under limits of its own, as `ulimit` takes them.
    pub(crate) fn command_under(&self, limits: &str, arguments: &[&str], room: &str) -> Command {
        let mut command = Command::new("sh");
        let script = format!("ulimit {limits}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_holepunch")]);
        self.usual(command, arguments, room)
    }

    fn usual(&self, mut command: Command, arguments: &[&str], room: &str) -> Command {
        let usual = ["--room", room, "--no-port-mapping", "--rendezvous-url", &self.url];
        command.args(arguments).args(usual).env_clear().env("STUN_SERVERS", &self.stun);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}

/// `holepunch worker` as a process, with free ports and all that it talks to.
pub(crate) struct Scene {
    pub(crate) rendezvous: Rendezvous,
    pub(crate) stun: StunServer,
    pub(crate) worker: Program,
}

impl Scene {
    pub(crate) async fn start(more: &[(&str, &str)]) -> Self {
        Self::with(&["worker"], more).await
    }

    /// With a command line of its own, and variables beside those of the scene.
    pub(crate) async fn with(arguments: &[&str], more: &[(&str, &str)]) -> Self {
        let rendezvous = Rendezvous::bind();
        let stun = StunServer::bind().await;
        let url = format!("http://{}", rendezvous.address);
        let servers = stun.address.to_string();
        let mut variables = vec![
            ("RENDEZVOUS_SERVICE_URL", url.as_str()),
            ("STUN_SERVERS", &servers),
            ("PORT", "0"),
            ("INTERNAL_UDP_PORT_ENV", "0"),
            ("IP_ECHO_URL", "none"),
        ];
        variables.extend_from_slice(more);
        let worker = Program::run(arguments, &variables);
        Self { rendezvous, stun, worker }
    }

    /// Lets the worker register and report; its session, and its UDP address.
    pub(crate) async fn report(&self) -> (Session, SocketAddr) {
        let mut session = self.rendezvous.accept().await;
        let udp = self.stun.answer_next(MAPPED).await;
        assert_eq!(session.report().await, MAPPED);
        (session, udp)
    }
}
