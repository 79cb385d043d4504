//! The first stream of a connection: which of several becomes the link, and whether both know the
//! room's secret.
//!
//! The side that connects opens it with `[version, flags]`. The other one takes the connection on which
//! that comes for the session's link. Where both have a secret, each proves that it knows it, the side
//! that accepts first; [`proof`] says how. Neither takes the connection for a link before: the last that the side
//! that connects says, its proof or what it opens with, is what decides.

mod last_word;
mod proof;
mod secret;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use holepunch_wire::session::SessionId;
use ring::hmac;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::link::{CloseCode, LinkError, REFUSED_HERE, REFUSED_THERE};
pub(crate) use last_word::LastWord;
pub(crate) use proof::PROOF_BYTES;
use proof::{Binding, EXPORTER_BYTES, MESSAGE_BYTES, Proof, Proofs, Role};
pub use secret::RoomSecret;

/// The version of what is said here.
const VERSION: u8 = 1;
/// The flag of a side that has a room secret.
const HAS_SECRET: u8 = 1;
/// Everything here takes at most so long.
const WITHIN: Duration = Duration::from_secs(10);
/// The label of the exporter (RFC 8446 §7.5) that binds a proof to its connection.
const EXPORTER: &[u8] = b"EXPORTER-holepunch-room";
/// How often the side that accepts shows its proof in one session. Each time the peer learns whether one
/// guess was right, and can go away without showing any. An honest peer makes five connections in the
/// time that a session has, and goes away from all but one.
pub const SESSION_GUESSES_MAX: u32 = 6;

/// How many guesses at the secret all peers have together, in sessions at the same time, one after the other or begun
/// anew. Clones share what is left.
#[derive(Debug, Clone)]
pub struct Guesses(Arc<AtomicU32>);

impl Guesses {
    /// So many; without a bound where there is none: for a secret that cannot be guessed.
    #[must_use]
    pub fn new(most: Option<u32>) -> Self {
        Self(Arc::new(AtomicU32::new(most.unwrap_or(u32::MAX))))
    }

    fn take(&self) -> bool {
        let less = |left: u32| match left {
            // Without a bound.
            u32::MAX => Some(left),
            left => left.checked_sub(1),
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self, count: u32) {
        let more = |left: u32| (left < u32::MAX).then(|| left + count);
        let _unless_unbounded = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

impl Default for Guesses {
    fn default() -> Self {
        Self::new(None)
    }
}

/// What a session asks of its peer. Clones share what the peer has used up.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    session: SessionId,
    secret: Option<RoomSecret>,
    guesses: Arc<AtomicU32>,
    of_all: Guesses,
}

impl Terms {
    pub(super) fn new(session: SessionId, secret: Option<RoomSecret>, of_all: Guesses) -> Self {
        Self { session, secret, guesses: Arc::default(), of_all }
    }

    /// Whether there is one more guess for the peer; it is used up.
    fn allow_guess(&self) -> bool {
        let more = |made: u32| (made < SESSION_GUESSES_MAX).then_some(made + 1);
        self.of_all.take()
            && self.guesses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// The peer knows the words: what it has seen on the way to the link was no guess.
    pub(super) fn was_right(&self) {
        self.of_all.give_back(self.guesses.swap(0, Ordering::Relaxed));
    }

    /// Whether the peer has seen this side's proof, and so whether a guess of its was right.
    pub(super) fn was_guessed(&self) -> bool {
        self.guesses.load(Ordering::Relaxed) > 0
    }

    fn proofs(
        &self,
        connection: &noq::Connection,
        proof: Proof,
        message: &[u8],
    ) -> Result<Proofs, LinkError> {
        let mut exporter = [0; EXPORTER_BYTES];
        connection
            .export_keying_material(&mut exporter, EXPORTER, b"")
            .map_err(|_| protocol("TLS gives no key for the proof of the room's secret"))?;
        let binding = Binding { exporter, session: self.session };
        proof
            .finish(message, &binding)
            .ok_or_else(|| protocol("what should begin the proof of the room's secret does not"))
    }
}

fn protocol(what: &str) -> LinkError {
    LinkError::Protocol(what.to_owned())
}

/// Closes the connection with the code by which the peer knows why.
fn refuse(connection: &noq::Connection, error: LinkError) -> LinkError {
    connection.close(error.close_code().into(), error.to_string().as_bytes());
    error
}

async fn write(send: &mut noq::SendStream, bytes: &[u8]) -> Result<(), LinkError> {
    send.write_all(bytes).await.map_err(|error| match error {
        noq::WriteError::ConnectionLost(error) => LinkError::from_connection(&error),
        noq::WriteError::Stopped(_)
        | noq::WriteError::ClosedStream
        | noq::WriteError::ZeroRttRejected => protocol("the first stream was refused"),
    })
}

fn broken(error: &noq::ReadError) -> LinkError {
    match error {
        noq::ReadError::ConnectionLost(error) => LinkError::from_connection(error),
        noq::ReadError::Reset(_)
        | noq::ReadError::ClosedStream
        | noq::ReadError::ZeroRttRejected => protocol("the first stream was given up"),
    }
}

async fn read<const N: usize>(recv: &mut noq::RecvStream) -> Result<[u8; N], LinkError> {
    let mut bytes = [0; N];
    recv.read_exact(&mut bytes).await.map_err(|error| match error {
        noq::ReadExactError::FinishedEarly(_) => protocol("the first stream ended early"),
        noq::ReadExactError::ReadError(error) => broken(&error),
    })?;
    Ok(bytes)
}

/// The peer's proof, with which its half of the stream ends.
async fn read_proof(recv: &mut noq::RecvStream) -> Result<[u8; PROOF_BYTES], LinkError> {
    let shown = read(recv).await?;
    match recv.read(&mut [0]).await {
        Ok(None) => Ok(shown),
        Ok(Some(_)) => Err(protocol("the first stream goes on after the proof")),
        Err(error) => Err(broken(&error)),
    }
}

/// Writes the last that this side says on the stream.
async fn write_last(send: &mut noq::SendStream, bytes: &[u8]) -> Result<(), LinkError> {
    write(send, bytes).await?;
    send.finish().map_err(|_| protocol("the first stream was refused"))
}

/// Which of a session's connections says what decides: one alone.
pub(super) fn turn() -> Semaphore {
    Semaphore::new(1)
}

/// What decides is said in the connection's turn. The turn is kept for ever unless that fails; nothing is awaited
/// of the peer meanwhile, whose route may be cut while another one is through.
async fn in_turn(
    turn: &Semaphore,
    decide: impl Future<Output = Result<(), LinkError>>,
) -> Result<(), LinkError> {
    let own = turn.acquire().await.map_err(|error| LinkError::Protocol(error.to_string()))?;
    decide.await?;
    own.forget();
    Ok(())
}

/// Opens the first stream. The connection is the link where it has had the turn; what was said last then.
pub(super) async fn connect(
    connection: &noq::Connection,
    terms: &Terms,
    turn: &Semaphore,
) -> Result<LastWord, LinkError> {
    let hello = async {
        let opened = connection.open_bi().await;
        let (mut send, recv) = opened.map_err(|error| LinkError::from_connection(&error))?;
        match &terms.secret {
            // Whatever the other side says, it says by closing the connection.
            None => {
                in_turn(turn, write(&mut send, &[VERSION, 0])).await?;
                Ok(LastWord::default())
            }
            Some(secret) => {
                let own = prove_connecting(connection, terms, secret, (&mut send, recv)).await?;
                let proof =
                    own.as_ref().try_into().map_err(|_| protocol("a proof has 32 bytes"))?;
                in_turn(turn, write_last(&mut send, own.as_ref())).await?;
                Ok(LastWord::of(proof, &send))
            }
        }
    };
    timeout(WITHIN, hello).await.unwrap_or_else(|_| Err(protocol("no answer on the first stream")))
}

/// Hears the peer's half; the own proof, which the peer is to have next.
async fn prove_connecting(
    connection: &noq::Connection,
    terms: &Terms,
    secret: &RoomSecret,
    (send, mut recv): (&mut noq::SendStream, noq::RecvStream),
) -> Result<hmac::Tag, LinkError> {
    let (proof, message) = Proof::begin(secret, Role::Connecting);
    write(send, &[&[VERSION, HAS_SECRET][..], &message].concat()).await?;
    let message: [u8; MESSAGE_BYTES] = read(&mut recv).await?;
    let proofs = terms.proofs(connection, proof, &message)?;
    let shown = read_proof(&mut recv).await?;
    // Taken before the answer is known, so that no two connections have the last one.
    if !terms.of_all.take() || !proofs.fits(&shown) {
        return Err(refuse(connection, LinkError::WrongSecret));
    }
    terms.of_all.give_back(1);
    Ok(proofs.own())
}

/// What the side that connects says first, to one with this secret: the secret that each is to prove next,
/// where both have one.
fn understood<S>([version, flags]: [u8; 2], secret: Option<S>) -> Result<Option<S>, LinkError> {
    if version != VERSION {
        return Err(LinkError::Protocol(format!("version {version}, expected {VERSION}")));
    }
    match (flags & HAS_SECRET != 0, secret) {
        (false, None) => Ok(None),
        (true, None) => Err(REFUSED_THERE),
        (false, Some(_)) => Err(REFUSED_HERE),
        (true, Some(secret)) => Ok(Some(secret)),
    }
}

/// Takes the first stream.
pub(super) async fn accept(connection: &noq::Connection, terms: &Terms) -> Result<(), LinkError> {
    let hello = async {
        let accepted = connection.accept_bi().await;
        let (send, mut recv) = accepted.map_err(|error| LinkError::from_connection(&error))?;
        let first = read(&mut recv).await?;
        match understood(first, terms.secret.as_ref()) {
            Ok(None) => Ok(()),
            Ok(Some(secret)) => prove_accepting(connection, terms, secret, (send, recv)).await,
            Err(error @ LinkError::Protocol(_)) => Err(error),
            Err(error) => Err(refuse(connection, error)),
        }
    };
    timeout(WITHIN, hello)
        .await
        .unwrap_or_else(|_| Err(protocol("nothing came on the first stream")))
}

async fn prove_accepting(
    connection: &noq::Connection,
    terms: &Terms,
    secret: &RoomSecret,
    (mut send, mut recv): (noq::SendStream, noq::RecvStream),
) -> Result<(), LinkError> {
    let theirs: [u8; MESSAGE_BYTES] = read(&mut recv).await?;
    let (proof, own) = Proof::begin(secret, Role::Accepting);
    let proofs = terms.proofs(connection, proof, &theirs)?;
    if !terms.allow_guess() {
        return Err(refuse(connection, LinkError::WrongSecret));
    }
    write_last(&mut send, &[&own, proofs.own().as_ref()].concat()).await?;
    let shown = match read_proof(&mut recv).await {
        Ok(shown) => shown,
        Err(error) => return Err(proved_by_close(connection, terms, &proofs).unwrap_or(error)),
    };
    if proofs.fits(&shown) { Ok(()) } else { Err(refuse(connection, LinkError::WrongSecret)) }
}

/// Why there is no link with a peer that has closed the connection at once and knows the words all the same.
fn proved_by_close(
    connection: &noq::Connection,
    terms: &Terms,
    proofs: &Proofs,
) -> Option<LinkError> {
    let Some(error @ noq::ConnectionError::ApplicationClosed(close)) = &connection.close_reason()
    else {
        return None;
    };
    let (shown, _reason) = close.reason.split_at_checked(PROOF_BYTES)?;
    if close.error_code != CloseCode::Proved.into() || !proofs.fits(shown) {
        return None;
    }
    terms.was_right();
    Some(LinkError::from_connection(error))
}
