//! `holepunch forward` as processes: either side is started again while the other one stays, and many peers.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;

use common::{Program, Served, within};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Duration, sleep, timeout};

/// Sends back what comes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = tcp.into_split();
                let _copied = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// A side that listens: where.
async fn listening(
    served: &Served,
    room: &str,
    form: &str,
    more: &[&str],
) -> (Program, SocketAddr) {
    let mut program = served.program(&["forward", "--json", "-L", form], room, more);
    let line = program.out.line("listening").await;
    (program, event(&line)["address"].as_str().unwrap().parse().unwrap())
}

/// Whether a word comes back.
async fn comes_back(entry: SocketAddr) -> bool {
    let mut tcp = TcpStream::connect(entry).await.unwrap();
    let mut back = [0; 4];
    let round = async {
        tcp.write_all(b"word").await?;
        tcp.read_exact(&mut back).await
    };
    within("an answer or a reset", round).await.is_ok() && &back == b"word"
}

/// Tries until a word comes back: each try waits for a link by itself.
async fn until_comes_back(entry: SocketAddr) {
    within("a connection", async {
        while !comes_back(entry).await {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn either_side_may_be_killed_and_started_again_while_the_listener_stays_open() {
    let served = Served::start().await;
    let target = echo().await.to_string();
    let allow = ["forward", "--allow", &target];
    let far = served.program(&allow, "again", &[]);
    let (near, entry) = listening(&served, "again", &format!("0:{target}"), &[]).await;
    assert!(comes_back(entry).await, "a connection waits for the link");
    far.signal("KILL").await;
    far.end().await;
    let far = served.program(&allow, "again", &[]);
    until_comes_back(entry).await;
    near.signal("KILL").await;
    near.end().await;
    let (near, entry) = listening(&served, "again", &format!("0:{target}"), &[]).await;
    until_comes_back(entry).await;
    // An orderly end is none of the other side either.
    far.signal("INT").await;
    assert_eq!(far.end().await.code, Some(130));
    let far = served.program(&allow, "again", &[]);
    until_comes_back(entry).await;
    for side in [near, far] {
        side.signal("INT").await;
        let ended = side.end().await;
        assert_eq!(ended.code, Some(130), "{ended:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_link_is_told_before_the_link_that_takes_its_place() {
    let mut served = Served::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (mut near, _entry) = listening(&served, "anew", "0:127.0.0.1:9", &[]).await;
    let id = near.log.line("worker ").await.replace("worker ", "");
    let key = folder.path().join("key");
    let own = ["--identity", key.to_str().unwrap(), "--peer", &id];
    let allow = ["forward", "--allow", "127.0.0.1:9"];
    let far = served.program(&allow, "anew", &own);
    near.out.line("linked").await;
    far.signal("KILL").await;
    far.end().await;
    // A rendezvous that knows of the first link would have ended it by itself.
    served.restart().await;
    let far = served.program(&allow, "anew", &own);
    let ended = event(&near.out.line("linked").await);
    assert_eq!(ended["type"], "unlinked", "{ended}");
    let again = event(&near.out.line("linked").await);
    assert_eq!((&again["type"], &again["peer"]), (&"linked".into(), &ended["peer"]));
    drop(far);
}

#[tokio::test]
async fn what_cannot_be_forwarded_is_said_before_anybody_is_called() {
    let udp = Program::run(&["forward", "--room", "x", "-R", "53:127.0.0.1:53/udp"], &[]);
    let udp = udp.end().await;
    assert_eq!(udp.code, Some(2), "{udp:?}");
    assert!(udp.err.contains("the other side listens for TCP alone"), "{}", udp.err);
}

#[tokio::test]
async fn without_a_link_it_is_told_what_is_missing() {
    let served = Served::start().await;
    let (mut near, entry) = listening(&served, "alone", "0:127.0.0.1:9", &[]).await;
    near.log.line("waiting for the peer in the room \"alone\"").await;
    assert!(!comes_back(entry).await);
    let told = event(&near.out.line("not_made").await);
    assert_eq!(
        (&told["code"], &told["asked_by"]),
        (&"no_peer".into(), &"this_side".into()),
        "{told}"
    );
    let nowhere = ["forward", "--json", "--room", "x", "-L", "0:127.0.0.1:9", "--rendezvous-url"];
    let mut lost = Program::run(&[&nowhere[..], &["http://127.0.0.1:9"]].concat(), &[]);
    let entry = event(&lost.out.line("listening").await)["address"].as_str().unwrap().to_owned();
    assert!(!comes_back(entry.parse().unwrap()).await);
    assert_eq!(event(&lost.out.line("not_made").await)["code"], "no_rendezvous");
}

#[tokio::test]
async fn one_side_serves_many_peers_of_a_mesh_by_themselves() {
    let served = Served::start().await;
    let target = echo().await.to_string();
    let mut far =
        served.program(&["forward", "--allow", &target], "mesh", &["--room-mode", "mesh"]);
    far.log.line("waiting for the peer").await;
    let form = format!("0:{target}");
    let mut sides = Vec::new();
    for _ in 0..3 {
        sides.push(listening(&served, "mesh", &form, &[]).await);
    }
    for (_, entry) in &sides {
        until_comes_back(*entry).await;
    }
    let (gone, _) = sides.remove(0);
    gone.signal("KILL").await;
    gone.end().await;
    for (_, entry) in &sides {
        assert!(comes_back(*entry).await, "another peer has gone");
    }
    far.signal("INT").await;
    let far = far.end().await;
    assert_eq!(far.code, Some(130), "{far:?}");
    assert!(far.err.contains("for the peer"), "{}", far.err);
}

#[tokio::test]
async fn udp_goes_through_and_the_summary_counts_it() {
    let served = Served::start().await;
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = target.recv_from(&mut buffer).await.unwrap();
            target.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let allow = format!("{address}/udp");
    let far = served.program(&["forward", "--json", "--allow", &allow], "udp", &[]);
    let form = format!("0:{address}/udp");
    let (mut near, entry) = listening(&served, "udp", &form, &[]).await;
    near.out.line("linked").await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (sent, mut back) = ([7; 1452], [0; 2048]);
    let again = Duration::from_millis(500);
    within("two datagrams", async {
        // A datagram is counted when it has been handed on: the first one, before the second one is taken.
        let mut echoed = 0;
        while echoed < 2 {
            client.send_to(&sent, entry).await.unwrap();
            if let Ok(Ok(length)) = timeout(again, client.recv(&mut back)).await {
                assert!(back[..length] == sent);
                echoed += 1;
            }
        }
    })
    .await;
    for (side, flows) in [(near, "udp_opened"), (far, "udp_served")] {
        side.signal("INT").await;
        let ended = side.end().await;
        let summary = event(ended.out.lines().last().unwrap());
        assert_eq!(summary["summary"][flows], 1, "{summary}");
        assert!(summary["summary"]["udp_received"].as_u64() > Some(0), "{summary}");
    }
}

#[tokio::test]
async fn by_a_code_it_ends_with_the_peer_and_the_peer_may_listen_where_it_is_allowed() {
    let served = Served::start().await;
    let target = echo().await;
    let listen = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        free.local_addr().unwrap()
    };
    let port = listen.port().to_string();
    let mut far = served.by_code(&["forward", "--json", "--allow-listen", &port]);
    let code = event(&far.out.line("\"code\"").await)["code"].as_str().unwrap().to_owned();
    let (allowed, forbidden) = (format!("{port}:{target}"), format!("22:{target}"));
    let near = ["forward", &code, "--json", "-R", &allowed, "-R", &forbidden];
    let mut near = served.by_code(&near);
    let refused = event(&near.out.line("remote_not_listening").await);
    assert_eq!(
        (&refused["code"], &refused["listen"]),
        (&"not_allowed".into(), &"127.0.0.1:22".into())
    );
    far.out.line("listens_for_peer").await;
    assert!(comes_back(listen).await);
    near.signal("INT").await;
    assert_eq!(near.end().await.code, Some(130));
    let far = far.end().await;
    assert_eq!(far.code, Some(0), "{far:?}");
    assert_eq!(event(far.out.lines().last().unwrap())["type"], "ended", "{far:?}");
}
