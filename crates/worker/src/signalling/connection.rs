//! One WebSocket to the rendezvous.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use holepunch_wire::reason::CloseReason;
use holepunch_wire::signal::v1::ServerV1;
use holepunch_wire::signal::{FRAME_BYTES_MAX, FromServer, WorkerMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, protocol::CloseFrame};

use super::handshake::{self, Asking, CONNECT_TIMEOUT, Opened, Way};
use super::hint::{self, Registered};
use super::stream::Stream;
use super::{Settings, Signal};
use crate::config::SettingNames;
use crate::failure::RendezvousError;
use crate::url::without_brackets;

/// TCP may take so long, less than all together: a failure names the addresses. Its third retransmission is sent after 7 s
/// (RFC 6298 §5).
const TCP_WITHIN: Duration = Duration::from_secs(9);
const _: () = assert!(TCP_WITHIN.as_secs() < CONNECT_TIMEOUT.as_secs());
/// A frame that the kernel does not take for so long means that the connection is dead.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a close handshake; a worker that ends has a second in all.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);
const BUFFER_BYTES: usize = 4 * 1024;
/// Most bytes that wait for a rendezvous that reads nothing; without it, answers to its pings would
/// pile up.
const WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Connection {
    /// Whether the rendezvous speaks `holepunch.v1`.
    pub(super) is_v1: bool,
    socket: WebSocketStream<Stream>,
    /// The host of its URL, which a worker signs.
    host: String,
    /// The rendezvous' address, where it is known.
    server: Option<IpAddr>,
    names: SettingNames,
    ping_interval: Duration,
    ping_timeout: Duration,
    ping_at: Instant,
    /// When the ping that is out has to be answered.
    pong_by: Option<Instant>,
    /// Why the rendezvous is about to close it.
    closing: Option<CloseReason>,
}

/// What a connection woke up for.
enum Woken {
    ToSend(Option<WorkerMessage>),
    Frame(Option<Result<Message, Error>>),
    PingDue,
    PongOverdue,
}

impl Connection {
    /// Opens a connection, or says why not.
    pub(super) async fn open(settings: &Settings) -> Result<Self, RendezvousError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
            .max_message_size(Some(2 * FRAME_BYTES_MAX))
            .max_frame_size(Some(2 * FRAME_BYTES_MAX));
        let asking = if settings.ask_v1 { Asking::V1 } else { Asking::Baseline };
        let way = Way { known: None, tcp_within: TCP_WITHIN, within: CONNECT_TIMEOUT };
        let opening = async {
            let opened = handshake::open(&settings.url, &settings.access, way, asking, config);
            opened.await.map_err(|error| {
                let why = hint::on_handshake(&error, &settings.url);
                RendezvousError::new(hint::code_of_handshake(&error), why)
            })
        };
        // Beside it, so that a slow look-up keeps nobody from being registered. A failure waits for none.
        let looking_up = async { Ok(settings.access.own_address(&settings.url).await) };
        let (opened, looked_up) = tokio::try_join!(opening, looking_up)?;
        let Opened { socket, server, is_v1 } = opened;
        let is_direct = settings.access.proxy.is_none();
        let server = if is_direct { Some(server.ip().to_canonical()) } else { looked_up };
        Ok(Self {
            socket,
            host: without_brackets(settings.url.host()).to_owned(),
            server,
            is_v1,
            names: settings.names,
            ping_interval: settings.ping_interval,
            ping_timeout: settings.ping_timeout,
            ping_at: Instant::now() + settings.ping_interval,
            pong_by: None,
            closing: None,
        })
    }

    /// Carries messages both ways until the connection ends (why), or until the worker does (`None`).
    pub(super) async fn serve(
        &mut self,
        to_send: &mut mpsc::Receiver<WorkerMessage>,
        signals: &mpsc::Sender<Signal>,
    ) -> Option<RendezvousError> {
        loop {
            let outcome = match self.woken(to_send).await {
                Woken::ToSend(None) => return None,
                Woken::ToSend(Some(message)) => {
                    let sent = self.send(Message::Text(message.encode().into())).await;
                    sent.map_err(RendezvousError::lost)
                }
                Woken::Frame(frame) => match self.frame(frame) {
                    Ok(Some(signal)) => {
                        // The worker has ended when nobody takes the signal.
                        if signals.send(signal).await.is_err() {
                            return None;
                        }
                        Ok(())
                    }
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
                Woken::PingDue => {
                    let now = Instant::now();
                    self.ping_at = now + self.ping_interval;
                    self.pong_by.get_or_insert(now + self.ping_timeout);
                    self.send(Message::Ping(Bytes::new())).await.map_err(RendezvousError::lost)
                }
                Woken::PongOverdue => {
                    let within = self.ping_timeout;
                    Err(RendezvousError::lost(format!("a ping was not answered within {within:?}")))
                }
            };
            if let Err(error) = outcome {
                // The library's answer to a close frame (RFC 6455 §5.5.1) waits to be sent.
                let _in_time = timeout(CLOSE_TIMEOUT, self.socket.flush()).await;
                return Some(error);
            }
        }
    }

    async fn woken(&mut self, to_send: &mut mpsc::Receiver<WorkerMessage>) -> Woken {
        let pong_by = self.pong_by;
        let overdue = async {
            match pong_by {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = to_send.recv() => Woken::ToSend(message),
            frame = self.socket.next() => Woken::Frame(frame),
            () = sleep_until(self.ping_at) => Woken::PingDue,
            () = overdue => Woken::PongOverdue,
        }
    }

    fn frame(
        &mut self,
        frame: Option<Result<Message, Error>>,
    ) -> Result<Option<Signal>, RendezvousError> {
        match frame {
            Some(Ok(Message::Text(text))) => {
                let read = if self.is_v1 { FromServer::parse } else { FromServer::parse_baseline };
                let read = read(&text);
                if let Ok(FromServer::V1(Ok(message))) = &read
                    && let ServerV1::Closing { code } = **message
                {
                    self.closing = Some(code);
                    return Ok(None);
                }
                Ok(Some(match read {
                    Ok(message) => Signal::Message(with_own_host(message, self.server)),
                    Err(why) => Signal::Malformed(why.to_string()),
                }))
            }
            Some(Ok(Message::Pong(_))) => {
                self.pong_by = None;
                Ok(None)
            }
            Some(Ok(Message::Close(frame))) => {
                let text = frame.as_ref().map_or("", |frame| frame.reason.as_str());
                let reason = self.closing.unwrap_or_else(|| CloseReason::of_older(text));
                let registered = Registered { reason, host: &self.host, names: self.names };
                let why = hint::on_close(frame.as_ref(), Some(registered));
                Err(RendezvousError::new(hint::code_of_close(frame.as_ref(), reason), why))
            }
            Some(Ok(Message::Binary(bytes))) => {
                let why = format!("expected a text frame, got {} bytes of binary", bytes.len());
                Ok(Some(Signal::Malformed(why)))
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Ok(None),
            Some(Err(error)) => Err(RendezvousError::lost(error.to_string())),
            None => Err(RendezvousError::lost("the connection ended")),
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), String> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the connection took no data for {SEND_TIMEOUT:?}")),
        }
    }

    /// Ends the connection with a close frame and waits a moment for the answer.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            let frame = CloseFrame { code: CloseCode::Normal, reason: "worker ends".into() };
            if self.socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        let _in_time = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

/// A STUN address that is left open in a welcome means the host that the welcome comes from. Where that is not known,
/// behind a proxy, nobody can be asked there. A socket for all of IPv4 is none for IPv6.
fn with_own_host(mut message: FromServer, server: Option<IpAddr>) -> FromServer {
    if let FromServer::V1(Ok(message)) = &mut message
        && let ServerV1::Welcome(welcome) = &mut **message
    {
        match server {
            Some(server) => {
                let is_elsewhere =
                    |stun: &SocketAddr| stun.ip() == Ipv4Addr::UNSPECIFIED && server.is_ipv6();
                welcome.stun.retain(|stun| !is_elsewhere(stun));
                let open = welcome.stun.iter_mut().filter(|stun| stun.ip().is_unspecified());
                open.for_each(|stun| stun.set_ip(server));
            }
            None => welcome.stun.retain(|stun| !stun.ip().is_unspecified()),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_stun_address_is_the_host_s_own_and_never_that_of_a_proxy() {
        let text =
            r#"{"type":"welcome","observed_ip":"192.0.2.1","stun":["0.0.0.0:3478","192.0.2.9:1"]}"#;
        let stun = |server: Option<&str>| {
            let server = server.map(|ip| ip.parse().unwrap());
            let message = with_own_host(FromServer::parse(text).unwrap(), server);
            let FromServer::V1(Ok(message)) = message else { panic!("{message:?}") };
            let ServerV1::Welcome(welcome) = *message else { panic!("{message:?}") };
            welcome.stun
        };
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(stun(Some("192.0.2.5")), [address("192.0.2.5:3478"), address("192.0.2.9:1")]);
        assert_eq!(stun(None), [address("192.0.2.9:1")]);
        assert_eq!(stun(Some("2001:db8::5")), [address("192.0.2.9:1")], "nobody listens there");
    }
}
