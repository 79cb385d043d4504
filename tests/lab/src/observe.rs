//! Observes a NAT with the prober, and compares it with what its kind claims.

use std::net::SocketAddrV4;

use crate::error::LabError;
use crate::nat::{Behaviour, Filtering, Mapping, NatKind, Unsolicited};
use crate::prober;
use crate::process::Process;
use crate::tool::{TOOL_WITHIN, run};
use crate::topology::{Lab, SERVICES};

/// Local port that is asked from, and one that nobody opens.
const ASKING_PORT: u16 = 4000;
const CLOSED_PORT: u16 = 4001;
/// Ports of the reflector: two that are asked, and one that is not.
const ASKED_PORT: u16 = 7000;
const ASKED_TOO_PORT: u16 = 7001;
const UNASKED_PORT: u16 = 7002;

/// What the prober has seen of a NAT.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The host's own address and port.
    pub own: SocketAddrV4,
    /// The address under which packets should appear outside.
    pub public: SocketAddrV4,
    /// Destinations, and the source that each saw: one, another port of the same address, another
    /// address.
    pub mapped: [(SocketAddrV4, SocketAddrV4); 3],
    /// Whether packets get in from another port of an address that was sent to.
    pub other_port_gets_in: bool,
    /// Whether packets get in from an address that was never sent to.
    pub other_address_gets_in: bool,
    /// What became of unsolicited packets to a port that nobody had opened.
    pub unsolicited: Unsolicited,
}

impl Lab {
    /// Observes the NAT of one side.
    ///
    /// # Errors
    /// The prober could not be run, or got no answers.
    ///
    /// # Panics
    /// There is no such side.
    pub fn observe(&self, side: usize) -> Result<Observed, LabError> {
        let side = self.side(side);
        let own = SocketAddrV4::new(side.host_ip(), ASKING_PORT);
        let public = SocketAddrV4::new(side.public_ip(), ASKING_PORT);
        let [one, two, three] = SERVICES;
        let asked = [
            SocketAddrV4::new(one, ASKED_PORT),
            SocketAddrV4::new(one, ASKED_TOO_PORT),
            SocketAddrV4::new(two, ASKED_PORT),
        ];
        let other_port = SocketAddrV4::new(one, UNASKED_PORT);
        let other_address = SocketAddrV4::new(three, ASKED_PORT);
        // Before the host has sent anything: the first of those that will be asked knocks at the very
        // port that the host will ask from.
        self.poke(asked[0], public)?;
        let closed = SocketAddrV4::new(public.ip().to_owned(), CLOSED_PORT);
        let unsolicited = self.poke(other_port, closed)?;

        let mut reflect = self.wan.own_program(prober::ENTRY)?;
        reflect.arg("reflect").args(asked.iter().map(SocketAddrV4::to_string));
        reflect.args([other_port.to_string(), other_address.to_string()]);
        let reflector = Process::start("the reflector", reflect)?;
        let ready =
            |lines: &[crate::logs::Line]| lines.iter().any(|line| line.text() == prober::READY);
        reflector
            .wait_for("its sockets are bound", TOOL_WITHIN, |lines| ready(lines).then_some(()))?;

        let mut ask = side.host.own_program(prober::ENTRY)?;
        ask.args(["ask", &ASKING_PORT.to_string()]);
        ask.args(asked.iter().map(SocketAddrV4::to_string)).arg("--");
        ask.args([other_port.to_string(), other_address.to_string()]);
        let answers = run(&mut ask, "", TOOL_WITHIN)?;
        let answer = Answers(&answers);
        Ok(Observed {
            own,
            public,
            mapped: [answer.mapped(asked[0])?, answer.mapped(asked[1])?, answer.mapped(asked[2])?],
            other_port_gets_in: answer.gets_in(other_port)?,
            other_address_gets_in: answer.gets_in(other_address)?,
            unsolicited,
        })
    }

    fn poke(&self, from: SocketAddrV4, to: SocketAddrV4) -> Result<Unsolicited, LabError> {
        let mut poke = self.wan.own_program(prober::ENTRY)?;
        poke.args(["poke", &from.to_string(), &to.to_string()]);
        match run(&mut poke, "", TOOL_WITHIN)?.trim() {
            "silent" => Ok(Unsolicited::Silent),
            "refused" => Ok(Unsolicited::Refused),
            other => Err(LabError::output("the prober's poke", other)),
        }
    }
}

/// What `prober ask` printed.
struct Answers<'a>(&'a str);

impl Answers<'_> {
    fn mapped(&self, to: SocketAddrV4) -> Result<(SocketAddrV4, SocketAddrV4), LabError> {
        let prefix = format!("mapped {to} ");
        let source = self.0.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok());
        source.map(|source| (to, source)).ok_or_else(|| self.unclear())
    }

    fn gets_in(&self, from: SocketAddrV4) -> Result<bool, LabError> {
        let says = |word: &str| self.0.lines().any(|line| line == format!("{word} {from}"));
        match (says("in"), says("out")) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => Err(self.unclear()),
        }
    }

    fn unclear(&self) -> LabError {
        LabError::output("the prober's answer", self.0)
    }
}

impl Observed {
    /// What kind of NAT this is.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        let [one, same_address, other_address] = self.mapped.map(|(_, source)| source);
        let mapping = if one != same_address {
            Mapping::AddressAndPortDependent
        } else if one != other_address {
            Mapping::AddressDependent
        } else {
            Mapping::EndpointIndependent
        };
        let filtering = if self.other_address_gets_in {
            Filtering::EndpointIndependent
        } else if self.other_port_gets_in {
            Filtering::AddressDependent
        } else {
            Filtering::AddressAndPortDependent
        };
        let sources = self.mapped.map(|(_, source)| source);
        Behaviour {
            translates: sources.iter().all(|source| source.ip() != self.own.ip()),
            mapping,
            keeps_port: sources.iter().all(|source| source.port() == self.own.port()),
            filtering,
            unsolicited: self.unsolicited,
        }
    }

    /// Compares with what `kind` claims; `side` is named in the error.
    ///
    /// # Errors
    /// It is something else.
    pub fn check(&self, side: usize, kind: NatKind) -> Result<(), LabError> {
        let (claim, seen) = (kind.claim(), self.behaviour());
        let is_public = self.mapped.iter().all(|(_, source)| source.ip() == self.public.ip());
        if claim == seen && is_public {
            return Ok(());
        }
        let mapped = self.mapped.map(|(to, source)| format!("{to} sees {source}")).join(", ");
        let why = format!(
            "\n  claimed ({kind}): {claim}, public address {}\n  observed: {seen}\n  from {}: {mapped}",
            self.public.ip(),
            self.own
        );
        Err(LabError::NotAsClaimed { side, why })
    }
}
