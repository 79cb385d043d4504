//! Strangers and bad peers: they get nothing, and cost little.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use holepunch_worker::{DatagramError, Link, LinkError, ReadError};
use noq::crypto::rustls::QuicClientConfig;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::flow::{MIB, flows_both_ways};
use crate::within;
use crate::world::World;

/// What a side holds of a peer's unread bytes, and what a side holds of its own unsent ones.
const WINDOWS_BYTES: usize = (12 + 16) * MIB;

/// Streams that a peer may have open at once.
const STREAMS_MAX: usize = 2048;

/// The first datagram of a QUIC connection, as a client with any key writes it.
async fn initial() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"holepunch/1".to_vec()];
    let tls = QuicClientConfig::try_from(tls).unwrap();
    let catcher = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let client = noq::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = noq::ClientConfig::new(Arc::new(tls));
    let to = catcher.local_addr().unwrap();
    let _connecting = client.connect_with(config, to, "holepunch").unwrap();
    let mut bytes = vec![0; 2048];
    let (length, _) = within("a first datagram", catcher.recv_from(&mut bytes)).await.unwrap();
    bytes.truncate(length);
    bytes
}

/// A datagram with a long header of some version.
fn long_header(version: u32) -> Vec<u8> {
    let mut datagram = vec![0xc0];
    datagram.extend_from_slice(&version.to_be_bytes());
    datagram.push(20);
    datagram.extend_from_slice(&[7; 20]);
    datagram.push(8);
    datagram.resize(1200, 9);
    datagram
}

/// A stranger that has been heard out: all it has sent was read by the worker.
async fn is_told_nothing(stranger: &UdpSocket, links: &[Link; 2]) {
    // What came before it has been read by then.
    flows_both_ways(links, 1).await;
    let mut bytes = [0; 2048];
    if let Ok((length, _)) = stranger.try_recv_from(&mut bytes) {
        panic!("an answer of {length} bytes: {:02x?}", &bytes[..length.min(48)]);
    }
}

async fn stranger_says(datagrams: impl IntoIterator<Item = Vec<u8>>) {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    let own: SocketAddr = world.nat.own(0).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // So that an answer would be seen.
    stranger.writable().await.unwrap();
    for datagram in datagrams {
        stranger.send_to(&datagram, own).await.unwrap();
        stranger.send_to(&datagram, world.nat.own(1).await).await.unwrap();
    }
    is_told_nothing(&stranger, &links).await;
}

#[tokio::test]
async fn a_strangers_handshake_gets_no_answer() {
    let initial = initial().await;
    assert!(initial.len() >= 1200 && initial[0] >= 0xc0, "a full first datagram");
    stranger_says(vec![initial; 50]).await;
}

#[tokio::test]
async fn a_strangers_long_headers_of_any_version_get_no_answer() {
    let versions = [0, 1, 2, 0x6b33_43cf, 0x0a0a_0a0a, u32::MAX];
    stranger_says(versions.map(long_header)).await;
}

#[tokio::test]
async fn a_strangers_short_headers_get_no_answer() {
    stranger_says([40, 41, 100, 1200].map(|length| vec![0x41; length])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_that_nobody_takes_are_bounded_and_the_link_lives() {
    let mut world = World::new().await;
    let [bad, good] = world.linked_directly().await;
    let opened = Arc::new(AtomicUsize::new(0));
    let (counted, link) = (Arc::clone(&opened), bad.clone());
    let flood = tokio::spawn(async move {
        let mut kept = Vec::new();
        for _ in 0..10_000 {
            let Ok((mut send, recv)) = link.open_bi().await else { return };
            if send.write_all(&[1]).await.is_err() {
                return;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            kept.push((send, recv));
        }
    });
    // The good side answers datagrams all along.
    for number in 0..200_u32 {
        good.send_datagram(Bytes::copy_from_slice(&number.to_be_bytes())).unwrap();
        within("a datagram", bad.read_datagram()).await.unwrap();
    }
    let mut taken = Vec::new();
    for _ in 0..STREAMS_MAX - 8 {
        taken.push(within("a stream", good.accept_bi()).await.unwrap());
    }
    let count = opened.load(Ordering::Relaxed);
    assert!((STREAMS_MAX - 8..=STREAMS_MAX).contains(&count), "{count}");
    let (mut send, mut recv) = within("a stream", good.open_bi()).await.unwrap();
    send.write_all(b"still here").await.unwrap();
    let (_peers_send, mut peers_recv) = within("a stream", bad.accept_bi()).await.unwrap();
    let chunk = within("a word", peers_recv.read_chunk(100)).await.unwrap().unwrap();
    assert_eq!(&chunk[..], b"still here");
    flood.abort();
    bad.close("enough");
    let error = within("the end of a stream", recv.read_chunk(1)).await.unwrap_err();
    // Where the packet that says why is lost among so many, the rendezvous says that the peer has left.
    assert!(matches!(error, ReadError::Link(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_take_no_more_than_the_windows() {
    let mut world = World::new().await;
    let [bad, good] = world.linked_directly().await;
    let written = watch::Sender::new(0);
    let mut writers = JoinSet::new();
    for _ in 0..100 {
        let (link, written) = (bad.clone(), written.clone());
        writers.spawn(async move {
            let (mut send, _recv) = link.open_bi().await.unwrap();
            let chunk = Bytes::from(vec![0; 16 * 1024]);
            while send.write_chunk(chunk.clone()).await.is_ok() {
                written.send_modify(|count| *count += chunk.len());
            }
        });
    }
    let mut full = written.subscribe();
    within("full windows", full.wait_for(|count| *count >= 11 * MIB)).await.unwrap();
    for _ in 0..500 {
        good.send_datagram(Bytes::from_static(b"?")).unwrap();
        within("a datagram", bad.read_datagram()).await.unwrap();
    }
    let total = *written.borrow();
    assert!(total <= WINDOWS_BYTES + 100 * 16 * 1024, "{total}");
    good.close("nobody reads");
    let writers_end = async { while writers.join_next().await.is_some() {} };
    within("the end of all writers", writers_end).await;
}

#[tokio::test]
async fn a_flood_of_datagrams_that_nobody_reads_is_dropped_and_the_link_lives() {
    let mut world = World::new().await;
    let links = world.linked_directly().await;
    let datagram = Bytes::from(vec![5; 1000]);
    for _ in 0..20_000 {
        links[0].send_datagram(datagram.clone()).unwrap();
        tokio::task::yield_now().await;
    }
    let long = links[0].send_datagram(Bytes::from(vec![0; MIB]));
    assert!(matches!(long, Err(DatagramError::TooLong { .. })));
    flows_both_ways(&links, 1).await;
}

/// Closes the link at some moment of a conversation; what the other side reads.
async fn closed_at(moment: usize) {
    let mut world = World::new().await;
    let [bad, good] = world.linked().await;
    let reading = tokio::spawn({
        let good = good.clone();
        async move {
            loop {
                let (_send, mut recv) = match good.accept_bi().await {
                    Ok(stream) => stream,
                    Err(error) => return error,
                };
                loop {
                    match recv.read_chunk(64 * 1024).await {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(ReadError::Link(error)) => return error,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
    });
    if moment > 0 {
        let (mut send, _recv) = bad.open_bi().await.unwrap();
        for _ in 0..moment {
            send.write_all(&[3; 10_000]).await.unwrap();
        }
        if moment.is_multiple_of(2) {
            send.finish().unwrap();
        }
    }
    bad.close("gone");
    let error = within("the end", reading).await.unwrap();
    assert_eq!(error, LinkError::ClosedByPeer("gone".into()));
    assert_eq!(world.peers[1].until_ended().await, error);
    assert_eq!(good.open_bi().await.unwrap_err(), error);
}

#[tokio::test]
async fn a_peer_that_closes_at_any_moment_leaves_a_clear_error() {
    for moment in [0, 1, 2, 7, 50, 200] {
        closed_at(moment).await;
    }
}
