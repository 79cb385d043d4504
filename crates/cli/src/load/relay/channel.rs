//! A channel of the relay on UDP.

use std::time::Duration;

use holepunch_link::{DatagramLine, DatagramReads};
use holepunch_wire::relay::udp::{Bind, Channel, FromRelay, PAYLOAD_BYTES_MAX, Ping, ToRelay};
use holepunch_wire::signal::v1::SessionDetails;
use holepunch_wire::stun::proof::ProofNonce;

use super::super::client::Target;
use super::NoRelay;

/// A question without an answer is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const TRIES: usize = 10;

/// One worker's way to the relay by UDP.
pub(super) struct ByUdp {
    pub(super) line: DatagramLine,
    pub(super) channel: Channel,
}

impl ByUdp {
    /// Opens the channel of a session that was offered.
    pub(super) async fn open(target: &Target, offer: &SessionDetails) -> Result<Self, NoRelay> {
        let (Some(address), Some(token)) = (offer.relay_udp.first(), &offer.relay_token) else {
            return Err(NoRelay::NotOffered);
        };
        let line = DatagramLine::open_of_host(*address, target.url.host()).await;
        let line = line.map_err(|error| error.to_string())?;
        let nonce =
            ProofNonce(offer.session.0.to_be_bytes().repeat(2).try_into().unwrap_or([7; 16]));
        let challenge = |answer: &FromRelay<'_>| {
            let FromRelay::Challenge(echo, cookie) = answer else { return None };
            (*echo == FromRelay::echo_of(nonce)).then_some(Ok(*cookie))
        };
        let cookie = ask(&line, &ToRelay::Hello(nonce), challenge).await?;
        let bind = Bind::new(nonce, cookie, offer.session, token);
        let echo = bind.echo();
        let bound = |answer: &FromRelay<'_>| {
            if let FromRelay::Refused(why, of) = answer {
                return (*of == echo).then(|| Err(format!("refused: {why:?}")));
            }
            let FromRelay::Bound(channel, of) = answer else { return None };
            (*of == echo).then_some(Ok(*channel))
        };
        let channel = ask(&line, &ToRelay::Bind(bind), bound).await?;
        // What is longer than is proved goes by the WebSocket.
        let padding = vec![0; Ping::padding_for(PAYLOAD_BYTES_MAX)];
        let proved = u16::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u16::MAX);
        let ping = Ping { channel, number: 1, proved, padding: &padding };
        let pong = |answer: &FromRelay<'_>| (*answer == FromRelay::Pong(ping)).then_some(Ok(()));
        ask(&line, &ToRelay::Ping(ping), pong).await?;
        // It is sent to by the way that it has spoken by.
        let first = ToRelay::Data(channel, b"x").to_bytes();
        line.send(&first, first.len()).await.map_err(|error| error.to_string())?;
        Ok(Self { line, channel })
    }
}

/// Asks until there is an answer that means something.
async fn ask<T>(
    line: &DatagramLine,
    question: &ToRelay<'_>,
    read: impl Fn(&FromRelay<'_>) -> Option<Result<T, String>>,
) -> Result<T, String> {
    let (question, mut reads) = (question.to_bytes(), DatagramReads::of(1));
    for _ in 0..TRIES {
        line.send(&question, question.len()).await.map_err(|error| error.to_string())?;
        let answered = tokio::time::timeout(AGAIN_AFTER, line.read(&mut reads)).await;
        if !matches!(answered, Ok(Ok(()))) {
            continue;
        }
        let answers = reads.datagrams().filter_map(FromRelay::parse);
        if let Some(answer) = answers.filter_map(|it| read(&it)).next() {
            return answer;
        }
    }
    Err("the relay does not answer by UDP".to_owned())
}
