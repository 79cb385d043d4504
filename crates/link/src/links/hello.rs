//! The first stream of a connection: which of several becomes the link, and whether both know the
//! room's secret.
//!
//! The side that connects opens it with `[version, flags]`. The other one takes the connection on which
//! that comes for the session's link.

use std::fmt;
use std::time::Duration;

use tokio::time::timeout;

use crate::link::LinkError;

/// The version of what is said here.
const VERSION: u8 = 1;
/// The flag of a side that has a room secret.
const HAS_SECRET: u8 = 1;
/// Everything here takes at most so long.
const WITHIN: Duration = Duration::from_secs(10);

/// The code with which a connection is refused for want of a secret.
const CODE_SECRET: u32 = 2;

const SECRET_HERE: &str = "this side has a room secret (--room-secret), and the peer has none";
const SECRET_THERE: &str = "the peer has a room secret, and this side has none: give --room-secret";

/// Words that both sides of a room know and the rendezvous does not. `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomSecret(String);

impl RoomSecret {
    /// Takes words as they are typed: case and the number of blanks between them do not count.
    #[must_use]
    pub fn new(words: &str) -> Self {
        let words: Vec<&str> = words.split_whitespace().collect();
        Self(words.join(" ").to_lowercase())
    }

    /// The words: a secret.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomSecret(hidden)")
    }
}

fn lost(error: &noq::ConnectionError) -> LinkError {
    match error {
        noq::ConnectionError::ApplicationClosed(close)
            if close.error_code == CODE_SECRET.into() =>
        {
            LinkError::SecretMissing(SECRET_THERE)
        }
        noq::ConnectionError::VersionMismatch
        | noq::ConnectionError::TransportError(_)
        | noq::ConnectionError::ConnectionClosed(_)
        | noq::ConnectionError::ApplicationClosed(_)
        | noq::ConnectionError::Reset
        | noq::ConnectionError::TimedOut
        | noq::ConnectionError::LocallyClosed
        | noq::ConnectionError::CidsExhausted => LinkError::from_connection(error),
    }
}

fn protocol(what: &str) -> LinkError {
    LinkError::Protocol(what.to_owned())
}

fn refuse(connection: &noq::Connection, error: LinkError) -> LinkError {
    connection.close(CODE_SECRET.into(), error.to_string().as_bytes());
    error
}

/// Opens the first stream, on the connection that is to be the link.
pub(super) async fn connect(
    connection: &noq::Connection,
    secret: Option<&RoomSecret>,
) -> Result<(), LinkError> {
    let hello = async {
        let (mut send, recv) = connection.open_bi().await.map_err(|error| lost(&error))?;
        let flags = if secret.is_some() { HAS_SECRET } else { 0 };
        send.write_all(&[VERSION, flags])
            .await
            .map_err(|_| protocol("the first stream was refused"))?;
        match secret {
            // Whatever the other side says, it says by closing the connection.
            None => {
                drop((send, recv));
                Ok(())
            }
            Some(_) => Err(refuse(connection, LinkError::SecretMissing(SECRET_HERE))),
        }
    };
    timeout(WITHIN, hello).await.unwrap_or_else(|_| Err(protocol("no answer on the first stream")))
}

/// Takes the first stream.
pub(super) async fn accept(
    connection: &noq::Connection,
    secret: Option<&RoomSecret>,
) -> Result<(), LinkError> {
    let hello = async {
        let (send, mut recv) = connection.accept_bi().await.map_err(|error| lost(&error))?;
        let mut said = [0; 2];
        recv.read_exact(&mut said).await.map_err(|_| protocol("the first stream ended early"))?;
        let [version, flags] = said;
        if version != VERSION {
            return Err(LinkError::Protocol(format!("version {version}, expected {VERSION}")));
        }
        match (flags & HAS_SECRET != 0, secret) {
            (false, None) => {
                drop((send, recv));
                Ok(())
            }
            (true, None) => Err(refuse(connection, LinkError::SecretMissing(SECRET_THERE))),
            (_, Some(_)) => Err(refuse(connection, LinkError::SecretMissing(SECRET_HERE))),
        }
    };
    timeout(WITHIN, hello)
        .await
        .unwrap_or_else(|_| Err(protocol("nothing came on the first stream")))
}
