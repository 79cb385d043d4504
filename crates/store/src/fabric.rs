//! The way to other rendezvous: a stream for each, from which only its owner reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holepunch_rendezvous::{Fabric, InstanceId, Later, Packet, Parcel};
use redis::streams::StreamMaxlen;
use redis::{RedisResult, Value, cmd, from_redis_value, pipe};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::connection::Connector;

/// Packets that wait to be sent, and batches of them in one stream. What has no room is sent again by its sender.
const PACKETS_MAX: usize = 65_536;
/// Packets in one entry of a stream.
const BATCH_MAX: usize = 512;
/// Entries that are read at once.
const READ_MAX: usize = 256;
/// A reader looks whether the server is still the right one this often.
const BLOCKED_FOR: Duration = Duration::from_secs(1);
/// Time for the answer to a question that takes as long as that.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// Before a connection is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// The stream of a process that is gone goes after this.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// It is told anew this often that it is to stay, and what has been read goes.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// Ids, and the fields of each: bytes, since the library's own reply is none at all where one name is no UTF-8, and the reader
/// would be at that entry for ever.
type Entries = Vec<(String, Vec<(Vec<u8>, Vec<u8>)>)>;

/// One entry of a stream. Its fields stay what they are, whatever a packet holds: by them, one of another version is known.
#[derive(Debug, Serialize, Deserialize)]
struct Entry<P = Packet> {
    /// Who has sent it.
    from: InstanceId,
    /// To whom: another number of the same process knows nothing of what was said to this one.
    to: InstanceId,
    packets: Vec<P>,
}

/// What can be read of a packet of another version.
#[derive(Deserialize)]
struct Numbered {
    sent: Option<(u64, IgnoredAny)>,
    received: u64,
}

/// An entry, with nothing in the place of what this version cannot read.
fn entry(text: &[u8]) -> serde_json::Result<Entry> {
    // Almost always: it is read once.
    serde_json::from_slice(text).or_else(|_| {
        let Entry { from, to, packets } = serde_json::from_slice::<Entry<&RawValue>>(text)?;
        let packets = packets.into_iter().map(|text| packet(text.get()));
        Ok(Entry { from, to, packets: packets.collect::<serde_json::Result<_>>()? })
    })
}

fn packet(text: &str) -> serde_json::Result<Packet> {
    serde_json::from_str(text).or_else(|_| {
        let Numbered { sent, received } = serde_json::from_str(text)?;
        Ok(Packet { sent: sent.map(|(number, _)| (number, None)), received })
    })
}

#[derive(Debug)]
pub(crate) struct RedisFabric {
    outgoing: mpsc::Sender<Parcel>,
    incoming: Mutex<mpsc::Receiver<Parcel>>,
    _tasks: JoinSet<()>,
}

impl RedisFabric {
    pub(crate) fn new(connector: Arc<Connector>, base: String, own: InstanceId) -> Self {
        let (outgoing, to_send) = mpsc::channel(PACKETS_MAX);
        let (came, incoming) = mpsc::channel(PACKETS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(send_all(Arc::clone(&connector), base.clone(), to_send));
        let reader = Reader { connector, inbox: inbox(&base, own), last: "0-0".to_owned(), came };
        tasks.spawn(reader.run());
        Self { outgoing, incoming: Mutex::new(incoming), _tasks: tasks }
    }
}

impl Fabric for RedisFabric {
    fn send(&self, from: InstanceId, to: InstanceId, packet: Packet) {
        let _is_taken = self.outgoing.try_send((from, to, packet));
    }

    fn next(&self) -> Later<'_, Parcel> {
        Box::pin(async {
            match self.incoming.lock().await.recv().await {
                Some(packet) => packet,
                None => std::future::pending().await,
            }
        })
    }
}

fn inbox(base: &str, of: InstanceId) -> String {
    format!("{base}:inbox:{}", of.process())
}

/// Sends what there is, all that waits for one process in one entry.
async fn send_all(connector: Arc<Connector>, base: String, mut to_send: mpsc::Receiver<Parcel>) {
    let mut waiting = Vec::new();
    while to_send.recv_many(&mut waiting, BATCH_MAX).await > 0 {
        let mut entries: BTreeMap<(InstanceId, InstanceId), Entry> = BTreeMap::new();
        for (from, to, packet) in waiting.drain(..) {
            let new = || Entry { from, to, packets: Vec::new() };
            entries.entry((to, from)).or_insert_with(new).packets.push(packet);
        }
        let mut all = pipe();
        for entry in entries.values() {
            let inbox = inbox(&base, entry.to);
            let Ok(text) = serde_json::to_vec(entry) else { continue };
            let length = StreamMaxlen::Approx(PACKETS_MAX);
            all.xadd_maxlen(&inbox, length, "*", &[("p", text)]);
            // That of a process which is gone is none's to end.
            all.pexpire(&inbox, KEPT_FOR.as_millis() as i64);
        }
        all.ignore_errors();
        // What is lost here is sent again by the trunk.
        let sent = connector
            .with(async |connection| all.query_async::<Vec<RedisResult<Value>>>(connection).await);
        let refusal = sent.await.into_iter().flatten().find_map(Result::err);
        refusal.iter().for_each(|error| connector.refused(error));
    }
}

/// Reads the own stream, from a connection on which nobody else waits.
struct Reader {
    connector: Arc<Connector>,
    inbox: String,
    /// The entry that was read last.
    last: String,
    came: mpsc::Sender<Parcel>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.read_all().await {
                tracing::debug!(%error, "the inbox cannot be read");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads until the connection fails, or another one has: the master may be elsewhere by now.
    async fn read_all(&mut self) -> RedisResult<()> {
        let failures = self.connector.failures();
        let mut connection = self.connector.connect(ANSWERED_WITHIN).await?;
        self.begin(&mut connection).await?;
        let mut renewed_at: Option<Instant> = None;
        while self.connector.failures() == failures {
            if renewed_at.is_none_or(|at| at.elapsed() >= RENEWED_EVERY) {
                let mut all = pipe();
                all.cmd("PEXPIRE").arg(&self.inbox).arg(KEPT_FOR.as_millis() as u64).ignore();
                all.cmd("XTRIM").arg(&self.inbox).arg("MINID").arg("~").arg(&self.last).ignore();
                all.exec_async(&mut connection).await?;
                renewed_at = Some(Instant::now());
            }
            let mut read = cmd("XREAD");
            read.arg("BLOCK").arg(BLOCKED_FOR.as_millis() as u64).arg("COUNT").arg(READ_MAX);
            read.arg("STREAMS").arg(&self.inbox).arg(&self.last);
            let reply: Option<Vec<(Vec<u8>, Entries)>> = read.query_async(&mut connection).await?;
            for (id, fields) in reply.into_iter().flatten().flat_map(|(_, entries)| entries) {
                let text =
                    fields.into_iter().find_map(|(name, text)| (name == b"p").then_some(text));
                self.last = id;
                self.take(text.unwrap_or_default()).await;
            }
        }
        Ok(())
    }

    /// A server that has lost its newest writes may count from less than was read already.
    async fn begin(&mut self, connection: &mut crate::connection::Connection) -> RedisResult<()> {
        let exists: bool = cmd("EXISTS").arg(&self.inbox).query_async(connection).await?;
        let newest = if exists {
            let mut ask = cmd("XINFO");
            ask.arg("STREAM").arg(&self.inbox);
            // As with what is read: the library's own reply has the first entry and the last in it.
            let info: RedisResult<BTreeMap<String, Value>> = ask.query_async(connection).await;
            match info {
                Ok(mut info) => {
                    let newest = info.remove("last-generated-id");
                    let newest = newest.and_then(|it| from_redis_value(it).ok());
                    newest.unwrap_or_else(|| "0-0".to_owned())
                }
                // It is nobody else's, and whoever sends here would keep it as it is.
                Err(error) if error.code() == Some("WRONGTYPE") => {
                    self.connector.refused(&error);
                    cmd("DEL").arg(&self.inbox).exec_async(connection).await?;
                    "0-0".to_owned()
                }
                Err(error) => return Err(error),
            }
        } else {
            "0-0".to_owned()
        };
        if number(&newest) < number(&self.last) {
            self.last = newest;
        }
        Ok(())
    }

    async fn take(&self, text: Vec<u8>) {
        // No version sends this: it is as good as lost.
        let Ok(entry) = entry(&text) else {
            tracing::debug!("an entry of the inbox is none");
            return;
        };
        for packet in entry.packets {
            if self.came.send((entry.from, entry.to, packet)).await.is_err() {
                return;
            }
        }
    }
}

/// The two numbers of an id.
fn number(id: &str) -> Option<(u64, u64)> {
    let (milliseconds, count) = id.split_once('-')?;
    Some((milliseconds.parse().ok()?, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_says_is_read_as_far_as_it_is_known() {
        let text = r#"{"from":9,"to":1,"later":true,"packets":[
            {"sent":[1,{"room":"","epoch":0,"letter":"NotOwned","later":[1,{}]}],"received":4,"later":0},
            {"sent":[2,{"room":"","epoch":0,"letter":{"Later":{"x":"]}"}}}],"received":5},
            {"sent":[3,["another","envelope"]],"received":6},
            {"sent":null,"received":7}]}"#;
        let Entry { from, packets, .. } = entry(text.as_bytes()).unwrap();
        assert_eq!(from, InstanceId(9));
        let sent = packets.iter().map(|it| {
            let sent = it.sent.as_ref().map(|(number, envelope)| (*number, envelope.is_some()));
            (sent, it.received)
        });
        let expected =
            [(Some((1, true)), 4), (Some((2, false)), 5), (Some((3, false)), 6), (None, 7)];
        assert_eq!(sent.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_no_version_sends_is_no_entry() {
        for text in ["", "{}", r#"{"from":9,"to":1,"packets":[{"sent":[]}]}"#] {
            assert!(entry(text.as_bytes()).is_err(), "{text}");
        }
    }
}
