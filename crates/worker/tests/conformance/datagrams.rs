//! What a worker answers to whom, and what it does not.

use tokio::time::{Duration, Instant, sleep, timeout};

use crate::common::{Peer, Scene, within};

#[tokio::test]
async fn a_ping_of_anybody_is_answered_as_the_baseline_says() {
    let stranger = Peer::bind("stranger").await;
    let scene = Scene::ready().await;
    let id = &scene.id;
    for (question, to, number) in [
        ("P2P_PING_FROM_stranger_NUM_1", "stranger", "1"),
        ("P2P_PING_FROM_stranger", "stranger", "UNKNOWN"),
        ("P2P_PING_FROM__NUM_3", "", "3"),
        ("P2P_PING_FROM_", "", "UNKNOWN"),
        ("P2P_PING_FROM_a_NUM_b_NUM_4", "a_NUM_b", "4"),
    ] {
        stranger.send(question, scene.udp).await;
        let answer = format!("P2P_PONG_FROM_{id}_TO_{to}_ACK_YOUR_PING_NUM_{number}");
        assert_eq!(stranger.receive().await, (answer, scene.udp), "{question}");
    }
}

#[tokio::test]
async fn whatever_is_no_ping_gets_no_answer_and_does_no_harm() {
    let stranger = Peer::bind("stranger").await;
    let mut scene = Scene::ready().await;
    let long_id = format!("P2P_PING_FROM_{}_NUM_1", "x".repeat(129));
    let long_number = format!("P2P_PING_FROM_x_NUM_{}", "1".repeat(21));
    let huge = vec![b'P'; 60_000];
    let huge_ping = format!("P2P_PING_FROM_{}_NUM_1", "x".repeat(10_000));
    let half_stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    for datagram in [
        &b""[..],
        b"\0",
        b"hello",
        b"P2P_PING",
        b"p2p_ping_from_x_NUM_1",
        b" P2P_PING_FROM_x_NUM_1",
        b"P2P_PING_FROM_\xff\xfe_NUM_1",
        b"\xff\xff\xff\xff",
        b"P2P_PONG_FROM_x_TO_y_ACK_YOUR_PING_NUM_1",
        b"{\"type\":\"p2p_connection_offer\"}",
        &half_stun,
        &[0; 1400],
        long_id.as_bytes(),
        long_number.as_bytes(),
        &huge,
        huge_ping.as_bytes(),
    ] {
        stranger.send(datagram, scene.udp).await;
    }
    stranger.send_ping(7, scene.udp).await;
    let (text, _) = stranger.receive().await;
    assert!(text.ends_with("_TO_stranger_ACK_YOUR_PING_NUM_7"), "the first answer: {text}");
    scene.worker.catches_up_with(&mut scene.session).await;
    scene.session.is_told_nothing_yet().await;
}

#[tokio::test]
async fn strangers_together_get_a_few_short_answers_a_second() {
    let strangers = [Peer::bind("a").await, Peer::bind(&"b".repeat(128)).await];
    let scene = Scene::ready().await;
    let start = Instant::now();
    for number in 0..50 {
        for stranger in &strangers {
            stranger.send_ping(number, scene.udp).await;
        }
    }
    let mut answers = vec![(&strangers[0], strangers[0].receive().await.0)];
    for stranger in &strangers {
        while let Ok((text, _)) = timeout(Duration::from_millis(200), stranger.receive()).await {
            answers.push((stranger, text));
        }
    }
    let allowed = 5 + 5 * (start.elapsed().as_secs() + 1);
    let count = u64::try_from(answers.len()).unwrap();
    assert!(count <= allowed, "{count} answers in {:?}", start.elapsed());
    for (stranger, answer) in answers {
        let number = answer.rsplit('_').next().unwrap();
        let question = format!("P2P_PING_FROM_{}_NUM_{number}", stranger.id);
        let bound = question.len() + stranger.id.len() + scene.id.len() + 30;
        assert!(answer.len() <= bound, "{} bytes for {}", answer.len(), question.len());
    }
    within("an answer after a while", async {
        while strangers[0].arrived().is_empty() {
            strangers[0].send_ping(100, scene.udp).await;
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_strangers_does_not_keep_the_peer_from_linking() {
    let stranger = Peer::bind("stranger").await;
    let peer = Peer::bind("peer").await;
    let mut scene = Scene::ready().await;
    for number in 0..100 {
        stranger.send_ping(number, scene.udp).await;
    }
    scene.session.offer(&peer.id, peer.address).await;
    peer.link_with(&scene.id).await;
    assert_eq!(scene.worker.until_linked().await.address, peer.address);
}
