//! Messages of the rendezvous that ask for nothing: they are noticed, and the connection stays up.

use holepunch_worker::{Complaint, FromServer, Notice, Signal};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::common::{Peer, Scene};

/// Sends a text; what the worker makes of it. The connection is up afterwards.
async fn noticed(scene: &mut Scene, text: &str) -> Signal {
    scene.session.send_text(text).await;
    let signal = signal(scene, text).await;
    scene.session.is_told_nothing_yet().await;
    signal
}

/// The next message that the worker notices, or its complaint about one.
async fn signal(scene: &mut Scene, what: &str) -> Signal {
    // The acknowledgement of the report that made the scene ready.
    let ack = Signal::Message(FromServer::UdpEndpointAck(Ok(())));
    let pick = |notice: &Notice| {
        let Notice::Signal(signal @ (Signal::Message(_) | Signal::Malformed(_))) = notice else {
            return None;
        };
        (*signal != ack).then(|| signal.clone())
    };
    scene.worker.until(what, pick).await
}

#[tokio::test]
async fn an_acknowledgement_an_echo_and_unknown_types_are_noticed() {
    let mut scene = Scene::ready().await;
    for (text, message) in [
        (
            r#"{"type":"udp_endpoint_ack","status":"error","detail":"Missing UDP IP/Port"}"#,
            FromServer::UdpEndpointAck(Err("Missing UDP IP/Port".to_owned())),
        ),
        (
            r#"{"type":"echo_response","original_payload":[1, {"a":null}],"processed_by_rendezvous":"x"}"#,
            FromServer::EchoResponse(r#"[1, {"a":null}]"#.to_owned()),
        ),
        (
            r#"{"type":"error","message":"no"}"#,
            FromServer::Error(Complaint { code: None, message: "no".to_owned() }),
        ),
        (r#"{"type":"chat","text":"hi"}"#, FromServer::Unknown("chat".to_owned())),
        (r#"{"type":""}"#, FromServer::Unknown(String::new())),
    ] {
        assert_eq!(noticed(&mut scene, text).await, Signal::Message(message));
    }
    let details = r#"{"type":"my_details_response","worker_id":"x","udp_port":null}"#;
    let signal = noticed(&mut scene, details).await;
    assert_eq!(signal, Signal::Message(FromServer::MyDetails(details.to_owned())));
}

#[tokio::test]
async fn broken_json_and_frames_that_are_no_message_are_noticed_and_do_no_harm() {
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    let deep = "[".repeat(50_000);
    for text in ["", "{", "nonsense", "[]", "null", "{}", r#"{"type":7}"#, "\u{1F573}", &deep] {
        let signal = noticed(&mut scene, text).await;
        assert!(matches!(signal, Signal::Malformed(_)), "{text:.20}: {signal:?}");
    }
    for bytes in [&b""[..], b"\xff\xfe", br#"{"type":"p2p_connection_offer"}"#] {
        let bytes = Bytes::copy_from_slice(bytes);
        scene.session.send_frame(Message::Binary(bytes)).await;
        let signal = signal(&mut scene, "a binary frame").await;
        assert!(matches!(signal, Signal::Malformed(_)), "{signal:?}");
        scene.session.is_told_nothing_yet().await;
    }
    scene.session.offer(&peer.id, peer.address).await;
    peer.link_with(&scene.id).await;
}
