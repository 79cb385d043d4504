//! Whether UDP gets out by IPv6, and from which address: asked of the STUN servers that have an IPv6 address,
//! and of the first such that the rendezvous names.
//!
//! Most networks do not translate IPv6, so an answer usually repeats an address of an interface, and nothing
//! has to be kept alive. An address that is no own one is a translator's (NAT66, NPTv6): the server that has
//! shown it is asked again and again. Behind a NAT64 (RFC 6146) a server that is asked by IPv6 sees an IPv4
//! address: UDP gets out, which says nothing of the way to other hosts by IPv6.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holepunch_wire::address::AddressKind;
use holepunch_wire::stun::{BindingOutcome, BindingResponse, TransactionId, binding_request};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::doors::{Event, Out, SocketId, StunServer, Transmit, Turn};
use crate::schedule;

/// When the question is sent again; then it has no answer.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(2000)];
/// Most servers asked that are configured; further ones are left out. (One is named by the rendezvous.)
const CONFIGURED_MAX: usize = 8;

/// What a server has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It sees the worker there.
    Mapped(SocketAddr),
    /// It has answered without an address that could be a host's.
    NoAddress,
}

/// A question to one server.
#[derive(Debug)]
struct Question {
    server: StunServer,
    is_named: bool,
    transaction: TransactionId,
    /// Requests sent of this transaction.
    sent: usize,
    /// When the next request leaves, or the last one is given up; `None`: nothing is due.
    next_at: Option<Instant>,
    answer: Option<Answer>,
}

/// What is known of IPv6 beyond the addresses of the interfaces.
#[derive(Debug, Default)]
pub(crate) struct Ipv6 {
    questions: Vec<Question>,
    /// Where the worker is seen, and the server that sees it there.
    mapped: Option<(SocketAddr, SocketAddr)>,
    /// Whether packets get out and back; `None` as long as that is open, and where nobody can be asked.
    pub(crate) gets_out: Option<bool>,
    /// Whether a server has seen the worker at an IPv6 address; `None` as long as that is open, and where nobody
    /// can be asked, or a NAT64 alone shows that packets get out.
    pub(crate) works: Option<bool>,
    pub(crate) out: Out,
}

impl Ipv6 {
    /// Asks the configured servers, of which these have been found. One that has answered in this network, or
    /// may still do so, is not asked anew.
    pub(crate) fn configure(&mut self, mut servers: Vec<StunServer>, (now, rng): Turn<'_>) {
        servers.truncate(CONFIGURED_MAX);
        let is_kept = |question: &Question| {
            question.is_named || servers.iter().any(|server| server.address == question.address())
        };
        self.questions.retain(is_kept);
        self.look_for_source((now, rng));
        for server in servers {
            self.ask(server, false, (now, rng));
        }
        self.conclude();
    }

    /// Asks the first of `servers` that has IPv6, if there is one.
    pub(crate) fn ask_named(&mut self, servers: &[SocketAddr], (now, rng): Turn<'_>) {
        let named = servers.iter().find(|server| server.is_ipv6());
        self.questions.retain(|it| !it.is_named || Some(&it.address()) == named);
        self.look_for_source((now, rng));
        if let Some(address) = named {
            let (name, address) = (address.to_string(), *address);
            self.ask(StunServer::at(name, address), true, (now, rng));
        }
        self.conclude();
    }

    fn ask(&mut self, server: StunServer, is_named: bool, (now, rng): Turn<'_>) {
        let known = self.questions.iter_mut().find(|it| it.address() == server.address);
        if let Some(question) = known {
            if question.is_silent() {
                question.begin((now, rng));
                self.out.events.push_back(Event::StunAsked(question.server.clone()));
            }
            return;
        }
        self.out.events.push_back(Event::StunAsked(server.clone()));
        self.questions.push(Question::new(server, is_named, (now, rng)));
    }

    /// The network has changed: nothing is known any more. The same servers are asked.
    pub(crate) fn restart(&mut self, (now, rng): Turn<'_>) {
        (self.mapped, self.gets_out, self.works) = (None, None, None);
        for question in &mut self.questions {
            question.answer = None;
            question.begin((now, rng));
        }
    }

    /// Whether the first answers may still come.
    pub(crate) fn is_open(&self) -> bool {
        self.gets_out.is_none() && self.is_asking()
    }

    /// Whether a server may still answer that has not done so in this network.
    pub(crate) fn is_asking(&self) -> bool {
        self.questions.iter().any(|it| it.answer.is_none() && it.next_at.is_some())
    }

    pub(crate) fn mapped(&self) -> Option<SocketAddr> {
        self.mapped.map(|(mapped, _)| mapped)
    }

    /// The names of the servers that have not answered.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &str> {
        let unanswered = self.questions.iter().filter(|question| question.answer.is_none());
        unanswered.map(|question| question.server.name.as_str())
    }

    /// Takes an answer; `false` when it is none to a question. `is_own` says whether the address that it names
    /// is one of the worker's own socket.
    pub(crate) fn handle_response(
        &mut self,
        (socket, from): (SocketId, SocketAddr),
        response: &BindingResponse,
        is_own: impl Fn(SocketAddr) -> bool,
        (now, rng): Turn<'_>,
    ) -> bool {
        let question = self.questions.iter_mut().find(|question| {
            question.address() == from && question.transaction == response.transaction
        });
        let Some(question) = question.filter(|it| socket == SocketId::MAIN_V6 && it.sent > 0)
        else {
            return false;
        };
        let before = question.answer;
        let answer = Answer::of(&response.outcome);
        question.rest(answer, rng);
        let server = question.server.clone();
        let Answer::Mapped(mapped) = answer else {
            if before != Some(answer) {
                let code = match response.outcome {
                    BindingOutcome::Refused { code } => Some(code),
                    BindingOutcome::Mapped(_) | BindingOutcome::NoAddress => None,
                };
                self.out.events.push_back(Event::StunRefused(server, code));
            }
            self.conclude();
            return true;
        };
        let is_first = self.mapped.is_none_or(|(_, source)| source == from);
        let is_candidate = mapped.is_ipv6() && is_first;
        let is_translated = !is_own(mapped);
        if is_candidate {
            self.mapped = Some((mapped, from));
            question.next_at = is_translated.then(|| now + schedule::keep_alive(rng));
        }
        if before != Some(answer) {
            let told = Event::MappedV6 { server, mapped, is_candidate, is_translated };
            self.out.events.push_back(told);
        }
        self.conclude();
        true
    }

    /// Sends what is due, and draws the conclusion from silence.
    pub(crate) fn handle_timeout(&mut self, (now, rng): Turn<'_>) {
        for question in &mut self.questions {
            let Some(due) = question.next_at.filter(|at| *at <= now) else { continue };
            let Some(after) = AGAIN_AFTER.get(question.sent) else {
                (question.next_at, question.answer) = (None, None);
                continue;
            };
            question.sent += 1;
            // The last one is waited for as long as it is to be, however late it was.
            question.next_at = Some(if question.sent < AGAIN_AFTER.len() {
                schedule::apart(schedule::next_due(due, *after, now), now)
            } else {
                now + *after
            });
            let payload = binding_request(question.transaction);
            let (socket, to) = (SocketId::MAIN_V6, question.address());
            self.out.transmits.push_back(Transmit { socket, to, payload, ttl: None });
        }
        if self.look_for_source((now, rng)) {
            return self.handle_timeout((now, rng));
        }
        self.conclude();
    }

    /// Where the server that has shown the address answers no more, or is not asked any longer, the others are
    /// asked anew: a translator may have forgotten. Whether that is so.
    fn look_for_source(&mut self, (now, rng): Turn<'_>) -> bool {
        let answers = |it: &&Question| it.answer.is_some();
        let is_source =
            |source| self.questions.iter().filter(answers).any(|it| it.address() == source);
        let is_lost = self.mapped.is_some_and(|(_, source)| !is_source(source));
        if is_lost {
            self.mapped = None;
            for question in self.questions.iter_mut().filter(|it| it.answer.is_some()) {
                question.answer = None;
                question.begin((now, rng));
            }
        }
        is_lost
    }

    /// What was known counts as long as a server may still answer.
    fn conclude(&mut self) {
        let mut answers = self.questions.iter().filter_map(|question| question.answer);
        let has_answer = answers.clone().next().is_some();
        let is_seen = answers.any(|it| matches!(it, Answer::Mapped(mapped) if mapped.is_ipv6()));
        let (is_asking, is_asked) = (self.is_asking(), !self.questions.is_empty());
        if has_answer || !is_asking {
            self.gets_out = is_asked.then_some(has_answer);
        }
        if is_seen || !is_asking {
            self.works = (is_asked && (is_seen || !has_answer)).then_some(is_seen);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.questions.iter().filter_map(|question| question.next_at).min()
    }

    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        let named = self.questions.iter().filter(|question| question.is_named).count();
        let configured = self.questions.len() - named;
        assert!(named <= 1 && configured <= CONFIGURED_MAX, "{named} and {configured} servers");
        assert!(
            self.out.transmits.is_empty() && self.out.events.is_empty(),
            "IPv6 has something to say"
        );
        assert!(self.mapped.is_none() || self.works == Some(true), "seen, and it does not work");
    }
}

impl Question {
    fn new(server: StunServer, is_named: bool, (now, rng): Turn<'_>) -> Self {
        let transaction = TransactionId::from(rng.random::<u128>());
        Self { server, is_named, transaction, sent: 0, next_at: Some(now), answer: None }
    }

    fn address(&self) -> SocketAddr {
        self.server.address
    }

    fn is_silent(&self) -> bool {
        self.answer.is_none() && self.next_at.is_none()
    }

    fn begin(&mut self, (now, rng): Turn<'_>) {
        self.transaction = TransactionId::from(rng.random::<u128>());
        (self.sent, self.next_at) = (0, Some(now));
    }

    /// It is answered, and nothing more is due. The next request is of another transaction.
    fn rest(&mut self, answer: Answer, rng: &mut StdRng) {
        self.transaction = TransactionId::from(rng.random::<u128>());
        (self.sent, self.next_at, self.answer) = (0, None, Some(answer));
    }
}

impl Answer {
    /// Servers are not trusted to name a host's address.
    fn of(outcome: &BindingOutcome) -> Self {
        match outcome {
            BindingOutcome::Mapped(mapped)
                if mapped.port() != 0 && AddressKind::of(mapped.ip()).is_reachable_unicast() =>
            {
                Self::Mapped(*mapped)
            }
            BindingOutcome::Mapped(_)
            | BindingOutcome::NoAddress
            | BindingOutcome::Refused { .. } => Self::NoAddress,
        }
    }
}
