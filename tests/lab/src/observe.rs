//! Observes a NAT and its line with the prober, and compares them with what they claim.

use std::fmt;
use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use holepunch_sim::nat::{Filtering, Mapping};

use crate::behaviour::{Behaviour, Ports, Unsolicited};
use crate::conditions::Conditions;
use crate::error::LabError;
use crate::nat::NatKind;
use crate::prober::places::{
    ASKING_PORT, CLOSED_PORT, POKED_PORT, asked, other_address, other_port,
};
use crate::prober::{self, Measured};
use crate::process::Process;
use crate::tool::{TOOL_WITHIN, run};
use crate::topology::{Lab, Side};

/// What the shortest of many packets may take longer than the line claims, in each direction: the
/// kernel, two programs, and timers that count whole milliseconds.
const DELAY_TOLERANCE: Duration = Duration::from_millis(10);
/// The clocks of two programs are read with this much in between.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(1);
/// The share of packets lost is within so many standard deviations of the claim: outside by chance
/// once in a million times.
const LOSS_DEVIATIONS: f64 = 5.0;

/// What the prober has seen of a side.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The host's own address and port.
    own: SocketAddrV4,
    /// The address under which packets should appear outside.
    public: SocketAddrV4,
    /// What was seen; `None` when nothing got through.
    seen: Option<Seen>,
    /// What became of unsolicited packets to a port that nobody had opened.
    unsolicited: Unsolicited,
}

#[derive(Debug, Clone)]
struct Seen {
    /// The source that each of some destinations saw: one, another address, other ports of the first one.
    mapped: Vec<SocketAddrV4>,
    /// The source of a port that had been poked before, as its poker saw it.
    poked: SocketAddrV4,
    other_port_gets_in: bool,
    other_address_gets_in: bool,
    /// Local ports opened one after the other, and their sources.
    sockets: Vec<(u16, SocketAddrV4)>,
    /// The sources that many destinations saw of one port.
    crowd: Vec<SocketAddrV4>,
    line: Measured,
}

impl Lab {
    /// Observes the NAT and the line of each side, all at the same time.
    ///
    /// # Errors
    /// The prober could not be run, or got no clear answers.
    pub fn observe_all(&self) -> Result<Vec<Observed>, LabError> {
        let mut reflect = self.wan.own_program(prober::ENTRY)?;
        reflect.arg("reflect");
        // Before the hosts have sent anything. The reflector is not there yet, since it has the
        // addresses that this comes from.
        let unsolicited: Result<Vec<_>, _> =
            self.sides().iter().map(|side| self.knock_first(side)).collect();
        let reflector = Process::start("the reflector", reflect)?;
        reflector.wait_for("its sockets are bound", TOOL_WITHIN, |lines| {
            lines.iter().any(|line| line.text() == prober::READY).then_some(())
        })?;
        let answers = self.at_each_side(|side| {
            run(side.host.own_program(prober::ENTRY)?.arg("ask"), "", TOOL_WITHIN)
        })?;
        let observed = self.sides().iter().zip(unsolicited?).zip(answers);
        observed
            .map(|((side, unsolicited), answers)| side.observed(unsolicited, &answers))
            .collect()
    }

    /// What becomes of unsolicited packets to one port that nobody opens. And the first destination
    /// that will be asked pokes the very port that will ask it.
    fn knock_first(&self, side: &Side) -> Result<Unsolicited, LabError> {
        let public = |port| SocketAddrV4::new(side.public_ip(), port);
        self.poke("knock", asked()[0], public(POKED_PORT))?;
        // From another address, since a host refuses few packets of one address in a second.
        let answer = self.poke("poke", other_address(), public(CLOSED_PORT))?;
        match answer.trim() {
            "silent" => Ok(Unsolicited::Silent),
            "refused" => Ok(Unsolicited::Refused),
            other => Err(LabError::output("the prober's poke", other)),
        }
    }

    fn poke(&self, how: &str, from: SocketAddrV4, to: SocketAddrV4) -> Result<String, LabError> {
        let mut poke = self.wan.own_program(prober::ENTRY)?;
        run(poke.args([how, &from.to_string(), &to.to_string()]), "", TOOL_WITHIN)
    }

    fn at_each_side<T: Send>(
        &self,
        work: impl Fn(&Side) -> Result<T, LabError> + Sync,
    ) -> Result<Vec<T>, LabError> {
        thread::scope(|scope| {
            let threads: Vec<_> =
                self.sides().iter().map(|side| scope.spawn(|| work(side))).collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        })
    }
}

impl Side {
    fn observed(&self, unsolicited: Unsolicited, answers: &str) -> Result<Observed, LabError> {
        let seen = Answers(answers).read().ok_or_else(|| {
            LabError::output("the prober's answer", &format!("{answers}\n{}", self.tails()))
        })?;
        Ok(Observed {
            own: SocketAddrV4::new(self.host_ip(), ASKING_PORT),
            public: SocketAddrV4::new(self.public_ip(), ASKING_PORT),
            seen,
            unsolicited,
        })
    }
}

/// What `prober ask` printed.
struct Answers<'a>(&'a str);

impl Answers<'_> {
    fn read(&self) -> Option<Option<Seen>> {
        if self.0.trim() == "blocked" {
            return Some(None);
        }
        let mapped: Option<Vec<SocketAddrV4>> =
            asked().iter().map(|to| self.one(&format!("mapped {to} "))?.parse().ok()).collect();
        let sockets = self.all("socket ").map(|line| {
            let (port, source) = line.split_once(' ')?;
            Some((port.parse().ok()?, source.parse().ok()?))
        });
        Some(Some(Seen {
            mapped: mapped?,
            poked: self.one("poked ")?.parse().ok()?,
            other_port_gets_in: self.gets_in(other_port())?,
            other_address_gets_in: self.gets_in(other_address())?,
            sockets: sockets.collect::<Option<_>>()?,
            crowd: self.all("crowd ").map(|source| source.parse().ok()).collect::<Option<_>>()?,
            line: Measured::parse(self.one("line ")?)?,
        }))
    }

    fn all(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(prefix))
    }

    fn one(&self, prefix: &str) -> Option<&str> {
        self.all(prefix).next()
    }

    fn gets_in(&self, from: SocketAddrV4) -> Option<bool> {
        let says = |word: &str| self.0.lines().any(|line| line == format!("{word} {from}"));
        match (says("in"), says("out")) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            (true, true) | (false, false) => None,
        }
    }
}

impl Seen {
    fn mapping(&self) -> Mapping {
        let mut mapped = self.mapped.iter();
        let (one, other_address) = (mapped.next(), mapped.next());
        let mut other_addresses = other_address.into_iter().chain(&self.crowd);
        if mapped.any(|same_address| Some(same_address) != one) {
            Mapping::AddressAndPortDependent
        } else if other_addresses.any(|other| Some(other) != one) {
            Mapping::AddressDependent
        } else {
            Mapping::EndpointIndependent
        }
    }

    fn filtering(&self) -> Filtering {
        if self.other_address_gets_in {
            Filtering::EndpointIndependent
        } else if self.other_port_gets_in {
            Filtering::AddressDependent
        } else {
            Filtering::AddressAndPortDependent
        }
    }

    fn ports(&self) -> Ports {
        let keeps_first = self.sockets.iter().all(|(own, source)| source.port() == *own);
        let sockets = self.sockets.iter().map(|(_, source)| source.port());
        let crowd = self.crowd.iter().map(SocketAddrV4::port);
        match (self.mapping(), keeps_first) {
            (Mapping::EndpointIndependent, true) => Ports::Kept,
            (Mapping::EndpointIndependent, false) => Ports::of_series(&sockets.collect::<Vec<_>>()),
            (Mapping::AddressDependent | Mapping::AddressAndPortDependent, true) => {
                Ports::KeptFirst
            }
            (Mapping::AddressDependent | Mapping::AddressAndPortDependent, false) => {
                Ports::of_series(&crowd.collect::<Vec<_>>())
            }
        }
    }

    fn sources(&self) -> impl Iterator<Item = &SocketAddrV4> {
        self.mapped.iter().chain(&self.crowd).chain(self.sockets.iter().map(|(_, source)| source))
    }
}

impl Observed {
    /// What kind of NAT this is; `None` when no UDP gets through.
    #[must_use]
    pub fn behaviour(&self) -> Option<Behaviour> {
        let seen = self.seen.as_ref()?;
        let ports = seen.ports();
        let keeps = matches!(ports, Ports::Kept | Ports::KeptFirst);
        Some(Behaviour {
            translates: seen.sources().all(|source| source.ip() != self.own.ip()),
            mapping: seen.mapping(),
            ports,
            remaps: keeps && seen.poked.port() != POKED_PORT,
            filtering: seen.filtering(),
            unsolicited: self.unsolicited,
        })
    }

    /// Compares with what `kind` and `conditions` claim; `side` is named in the error.
    ///
    /// # Errors
    /// It is something else.
    pub fn check(
        &self,
        side: usize,
        kind: NatKind,
        conditions: Conditions,
    ) -> Result<(), LabError> {
        let is_public = self.seen.iter().flat_map(Seen::sources);
        let is_public = is_public.map(SocketAddrV4::ip).all(|ip| ip == self.public.ip());
        let is_as_claimed = match (kind.claim(), self.behaviour()) {
            (None, None) => true,
            (Some(claim), Some(seen)) => claim == seen && is_public,
            (None, Some(_)) | (Some(_), None) => false,
        };
        let line = self.seen.as_ref().map_or(Ok(()), |seen| seen.line.check(conditions));
        let line_as_claimed = line.as_ref().err().map_or("as claimed", String::as_str);
        if is_as_claimed && line.is_ok() {
            return Ok(());
        }
        let claim = in_words(kind.claim());
        let why = format!(
            "\n  claimed ({kind}): {claim}, public address {}; line {conditions}\
             \n  observed: {self}\
             \n  line: {line_as_claimed}",
            self.public.ip(),
        );
        Err(LabError::NotAsClaimed { side, why })
    }
}

fn in_words(behaviour: Option<Behaviour>) -> String {
    behaviour.map_or_else(|| "no UDP gets through".to_owned(), |seen| seen.to_string())
}

impl Measured {
    /// Compares with what a line claims to do in each direction.
    fn check(&self, claim: Conditions) -> Result<(), String> {
        let trip = 2 * claim.delay;
        let times = [
            ("outward", claim.delay.saturating_sub(CLOCK_TOLERANCE), claim.delay, self.outward),
            ("inward", claim.delay.saturating_sub(CLOCK_TOLERANCE), claim.delay, self.inward),
            ("there and back", trip, trip + DELAY_TOLERANCE, self.round_trip),
        ];
        for (way, least, most, took) in times {
            let most = most + claim.jitter + DELAY_TOLERANCE;
            if took < least || took > most {
                return Err(format!("{way}: expected {least:?} to {most:?}, got {took:?}"));
            }
        }
        let lost = [("outward", self.sent, self.arrived), ("inward", self.arrived, self.returned)];
        for (way, sent, arrived) in lost {
            let sent = f64::from(sent);
            let share = 1.0 - f64::from(arrived) / sent;
            let deviation = (claim.loss * (1.0 - claim.loss) / sent).sqrt();
            if (share - claim.loss).abs() > LOSS_DEVIATIONS * deviation {
                let loss = claim.loss;
                return Err(format!("{way}: expected {loss:.3} to be lost, got {share:.3}"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(self.behaviour()))?;
        let Some(seen) = &self.seen else { return Ok(()) };
        let list = |ports: &mut dyn Iterator<Item = u16>| {
            ports.map(|port| port.to_string()).collect::<Vec<_>>().join(" ")
        };
        for (to, source) in asked().iter().zip(&seen.mapped) {
            write!(f, "\n    {} is {source} to {to}", self.own)?;
        }
        let crowd = list(&mut seen.crowd.iter().map(SocketAddrV4::port));
        write!(f, "\n    to {} other addresses: {crowd}", seen.crowd.len())?;
        let sockets = list(&mut seen.sockets.iter().map(|(_, source)| source.port()));
        write!(f, "\n    of {} further sockets: {sockets}", seen.sockets.len())?;
        let Measured { sent, arrived, returned, .. } = seen.line;
        let [outward, inward, round_trip] =
            [seen.line.outward, seen.line.inward, seen.line.round_trip]
                .map(|time| time.as_secs_f64() * 1000.0);
        write!(
            f,
            "\n    {sent} packets: {arrived} arrived, {returned} came back; {outward:.1} ms \
             outward, {inward:.1} ms inward, {round_trip:.1} ms there and back"
        )
    }
}
