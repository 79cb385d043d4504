use holepunch_wire::session::SessionId;
use holepunch_wire::stun::proof::ProofNonce;

use super::super::RelayLimits;
use super::*;
use crate::stun::open_sockets;
use holepunch_wire::relay::RelayKey;

const SESSION: SessionId = SessionId(7);
const NONCE: ProofNonce = ProofNonce([3; 16]);

fn key() -> RelayKey {
    RelayKey::new([1; 32])
}

/// A relay, and the sockets by which it answers.
fn relay() -> (Relay, Arc<[Socket]>) {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let sockets = Arc::clone(&open_sockets(&[loopback]).unwrap()[0]);
    (Relay::new(RelayLimits::default(), key()), sockets)
}

/// Opens the channel of one end, at that port of this machine.
fn open(relay: &Relay, sockets: &Arc<[Socket]>, (side, port): (usize, u16), now: Instant) {
    let mut meta = RecvMeta::default();
    meta.addr = SocketAddr::from(([127, 0, 0, 1], port));
    let (cookies, clock) = &relay.channels.cookies;
    let cookie = cookies.prove(NONCE, meta.addr, clock.expiry(now));
    let token = key().token(SESSION, side, u32::MAX.into());
    let bind = Bind::new(NONCE, cookie, SESSION, &token);
    let mut bytes = ToRelay::Bind(bind).to_bytes();
    (meta.len, meta.stride) = (bytes.len(), bytes.len());
    let arrival = Arrival { sockets, own: 0, meta: &meta, now };
    assert_eq!(relay.take(&mut bytes, &arrival, |_| false), meta.len);
}

fn open_channels(relay: &Relay) -> usize {
    relay.channels.all().len()
}

#[tokio::test]
async fn a_channel_of_which_nothing_comes_ends_and_nothing_is_left_of_its_session() {
    let ((relay, sockets), start) = (relay(), Instant::now());
    open(&relay, &sockets, (0, 9001), start);
    open(&relay, &sockets, (1, 9002), start + CHANNEL_LIFETIME / 2);
    relay.sweep_once(start + CHANNEL_LIFETIME - Duration::from_millis(1));
    assert_eq!(open_channels(&relay), 2);
    relay.sweep_once(start + CHANNEL_LIFETIME);
    assert_eq!(open_channels(&relay), 1);
    relay.sweep_once(start + 2 * CHANNEL_LIFETIME);
    assert_eq!(open_channels(&relay), 0);
    assert!(relay.with_table(|table| table.pairs.is_empty()));
    let never = Instant::now();
    let payer = Payer { session: SESSION, source: None, way: Way::Udp, quota: None };
    let mut budgets = relay.budgets.lock().unwrap();
    assert!(budgets.enter(payer, never).is_ok());
}

#[tokio::test]
async fn a_worker_that_comes_from_many_ports_has_one_channel() {
    let ((relay, sockets), start) = (relay(), Instant::now());
    for port in 9001..9101 {
        open(&relay, &sockets, (0, port), start);
        assert_eq!(open_channels(&relay), 1, "each takes the place of the one before");
    }
}
