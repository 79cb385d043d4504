//! Both sides say which program they run.

use std::time::Duration;

use holepunch_link::{Link, LinkError, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::messages::{MessageError, read_message, write_message};

/// A peer that has not greeted by then runs no program of ours, whatever the line is like.
const GREETING_WITHIN: Duration = Duration::from_secs(20);
/// One whose QUIC answers has greeted within so many rounds: two round trips are what it takes, and one more round is for
/// what was lost.
const ROUNDS_ANSWERED: u32 = 4;
/// How long a round is, in which the peer is asked once whether it is there.
const ROUND: Duration = Duration::from_secs(1);
/// On a slow line, a round takes so many round trips at least.
const ROUND_TRIPS: u32 = 2;

/// A greeting that the peer needs in order to know what is wrong arrives in so long, or not at all.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// What a side says at first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The program: `chat`, `bench`, …
    pub program: String,
    /// The part in it, where the two sides have different ones: `send` or `receive`, say.
    #[serde(default)]
    pub part: String,
    /// The version of what the program says.
    pub version: u32,
    /// What this side understands beyond the version. A peer that does not know one of these goes without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<String>,
}

impl Greeting {
    /// A greeting without anything beyond the version.
    #[must_use]
    pub fn new(program: &str, part: &str, version: u32) -> Self {
        let (program, part) = (program.to_owned(), part.to_owned());
        Self { program, part, version, extras: Vec::new() }
    }

    /// The same of a side that understands `extra` as well.
    #[must_use]
    pub fn with(mut self, extra: &str) -> Self {
        self.extras.push(extra.to_owned());
        self
    }

    /// Whether the side that has sent it understands `extra`.
    #[must_use]
    pub fn has(&self, extra: &str) -> bool {
        self.extras.iter().any(|it| it == extra)
    }
}

/// Why the two cannot go on together.
#[derive(Debug, thiserror::Error)]
pub enum AgreeError {
    /// The peer runs another program.
    #[error("the peer runs `holepunch {0}`, this side `holepunch {1}`: both sides need to match")]
    OtherProgram(String, String),
    /// The peer runs another version of the program.
    #[error(
        "the peer speaks version {theirs} of {program}, this side version {own}: update the older one"
    )]
    OtherVersion {
        /// The program.
        program: String,
        /// The peer's version.
        theirs: u32,
        /// The own version.
        own: u32,
    },
    /// The peer says nothing.
    #[error(
        "the peer is linked and does not say which program it runs: it may be a bare `holepunch worker`, or somebody \
         else's program; this side runs `holepunch {0}`"
    )]
    Silent(String),
    /// The peer's greeting is none.
    #[error("the peer's greeting: {0}")]
    Message(#[from] MessageError),
    /// The link has ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// The stream on which the two have greeted each other, and what the peer has said.
#[derive(Debug)]
pub struct Agreed {
    /// To the peer.
    pub send: SendStream,
    /// From the peer.
    pub recv: RecvStream,
    /// What the peer has said.
    pub peer: Greeting,
}

/// Greets the peer, on the first stream that the initiator opens. The parts are compared by the caller.
///
/// # Errors
/// The peer runs another program or version, or none, or the link has ended.
pub async fn agree(link: &Link, own: &Greeting) -> Result<Agreed, AgreeError> {
    agree_with(link, own, Patience::Usual).await
}

/// Likewise, with this patience.
pub(crate) async fn agree_with(
    link: &Link,
    own: &Greeting,
    patience: Patience,
) -> Result<Agreed, AgreeError> {
    let (mut send, mut recv) = patience.wait(link, own, open(link, own)).await?;
    match patience.wait(link, own, listen(&mut recv, own)).await {
        Ok(peer) => Ok(Agreed { send, recv, peer }),
        Err(error) => {
            if error.is_mutual() {
                arrived(&mut send).await;
            }
            Err(error)
        }
    }
}

/// Gives the own greeting the time to arrive where the two do not go on together: whoever ends the link at once
/// leaves the peer without the reason.
pub(crate) async fn arrived(send: &mut SendStream) {
    let _unless_stopped = send.finish();
    let _in_time = timeout(HEARD_WITHIN, send.stopped()).await;
}

impl AgreeError {
    /// Whether the peer learns the same from this side's greeting.
    pub(crate) fn is_mutual(&self) -> bool {
        matches!(self, Self::OtherProgram(..) | Self::OtherVersion { .. })
    }
}

/// How long a peer's greeting is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as the peer may not be there; not much longer where it is.
    Usual,
    /// As long as the greeting of any program may take: some wait for something before.
    Long,
}

impl Patience {
    /// Waits for what the peer says.
    async fn wait<T>(
        self,
        link: &Link,
        own: &Greeting,
        said: impl Future<Output = Result<T, AgreeError>>,
    ) -> Result<T, AgreeError> {
        let silent = async {
            match self {
                Self::Usual => timeout(GREETING_WITHIN, has_answered(link)).await.unwrap_or(()),
                Self::Long => sleep(GREETING_WITHIN).await,
            }
        };
        tokio::select! {
            // What has come counts, however late it is looked at.
            biased;
            said = said => said,
            () = silent => Err(AgreeError::Silent(shown(own))),
        }
    }
}

/// Returns when the peer's QUIC has answered for so long without a pause that a greeting would be here.
async fn has_answered(link: &Link) {
    let mut rounds = 0;
    while rounds < ROUNDS_ANSWERED {
        let before = link.traffic();
        link.ping();
        sleep(ROUND.max(before.rtt.unwrap_or_default() * ROUND_TRIPS)).await;
        // After an outage, what was lost may take as long to be sent again as the outage has taken.
        let is_heard = link.traffic().received_datagrams > before.received_datagrams;
        rounds = if is_heard { rounds + 1 } else { 0 };
    }
}

/// The first half of [`agree`]: the stream, on which this side's greeting is sent. What follows it is on its
/// way a round trip earlier than behind the peer's greeting; a peer that runs something else does not look at
/// it.
///
/// # Errors
/// The peer says nothing, or the link has ended.
pub async fn greet(link: &Link, own: &Greeting) -> Result<(SendStream, RecvStream), AgreeError> {
    Patience::Usual.wait(link, own, open(link, own)).await
}

async fn open(link: &Link, own: &Greeting) -> Result<(SendStream, RecvStream), AgreeError> {
    let (mut send, recv) =
        if link.is_initiator() { link.open_bi().await? } else { link.accept_bi().await? };
    write_message(&mut send, own).await?;
    Ok((send, recv))
}

/// The second half: what the peer says.
///
/// # Errors
/// The peer runs another program or version, or none, or the link has ended.
pub async fn hear(
    link: &Link,
    recv: &mut RecvStream,
    own: &Greeting,
) -> Result<Greeting, AgreeError> {
    Patience::Usual.wait(link, own, listen(recv, own)).await
}

async fn listen(recv: &mut RecvStream, own: &Greeting) -> Result<Greeting, AgreeError> {
    let peer: Option<Greeting> = read_message(recv).await?;
    let peer = peer.ok_or_else(|| AgreeError::Silent(shown(own)))?;
    if peer.program != own.program {
        return Err(AgreeError::OtherProgram(shown(&peer), shown(own)));
    }
    if peer.version != own.version {
        let program = own.program.clone();
        return Err(AgreeError::OtherVersion { program, theirs: peer.version, own: own.version });
    }
    Ok(peer)
}

/// The command that a greeting stands for. The peer's is somebody else's text.
fn shown(greeting: &Greeting) -> String {
    let name = if greeting.part.is_empty() { &greeting.program } else { &greeting.part };
    name.chars().filter(|c| c.is_ascii_alphanumeric()).take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_link::testing;

    fn greeting(program: &str, version: u32) -> Greeting {
        Greeting::new(program, "", version)
    }

    #[tokio::test]
    async fn two_of_a_kind_agree_and_share_a_stream() {
        let (a, b, _sockets) = testing::pair().await;
        let chat = greeting("chat", 1);
        let (first, second) = tokio::join!(agree(&a, &chat), agree(&b, &chat));
        let (mut first, mut second) = (first.unwrap(), second.unwrap());
        write_message(&mut first.send, &"hello").await.unwrap();
        assert_eq!(
            read_message::<String>(&mut second.recv).await.unwrap().as_deref(),
            Some("hello")
        );
    }

    #[tokio::test]
    async fn another_program_or_version_is_told_to_both() {
        let (a, b, _sockets) = testing::pair().await;
        let (chat, send) = (greeting("chat", 1), greeting("send", 1));
        let (first, second) = tokio::join!(agree(&a, &chat), agree(&b, &send));
        assert!(first.unwrap_err().to_string().contains("runs `holepunch send`"));
        assert!(matches!(second.unwrap_err(), AgreeError::OtherProgram(..)));
        let (a, b, _sockets) = testing::pair().await;
        let (old, new) = (greeting("chat", 1), greeting("chat", 2));
        let (first, second) = tokio::join!(agree(&a, &old), agree(&b, &new));
        assert!(matches!(first.unwrap_err(), AgreeError::OtherVersion { theirs: 2, .. }));
        assert!(matches!(second.unwrap_err(), AgreeError::OtherVersion { theirs: 1, .. }));
    }

    #[tokio::test]
    async fn whoever_leaves_at_once_has_told_why() {
        for _ in 0..20 {
            let (a, b, _sockets) = testing::pair().await;
            let leaving = async |link: Link, program: &str| {
                let outcome = agree(&link, &greeting(program, 1)).await;
                link.close("something went wrong");
                outcome
            };
            let (first, second) = tokio::join!(leaving(a, "chat"), leaving(b, "send"));
            for outcome in [first, second] {
                assert!(matches!(outcome, Err(AgreeError::OtherProgram(..))), "{outcome:?}");
            }
        }
    }
}
