//! The route of a link on which datagrams leave one by one.

use std::sync::Arc;

use crate::mux::{Mux, Route};

/// What a link has in the table of such routes: the last one that it asked for. It goes with this value, and with the next
/// one: whoever comes by the route again finds out anew what the network takes.
#[derive(Debug)]
pub(super) struct Single {
    mux: Arc<Mux>,
    route: Option<Route>,
}

impl Single {
    pub(super) fn new(mux: &Arc<Mux>) -> Self {
        Self { mux: Arc::clone(mux), route: None }
    }

    /// From now on, datagrams leave one by one on this route. `false` when they did already, or when there are too many
    /// such routes.
    pub(super) fn unbatch(&mut self, route: Route) -> bool {
        if self.route == Some(route) {
            return false;
        }
        self.give_back();
        let is_new = self.mux.unbatch(route);
        self.route = Some(route).filter(|_| is_new);
        is_new
    }

    fn give_back(&mut self) {
        if let Some(route) = self.route.take() {
            self.mux.batch(route);
        }
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holepunch_traversal::SocketId;
    use tokio::net::UdpSocket;

    #[tokio::test]
    async fn a_link_has_one_such_route_and_none_when_it_is_over() {
        let main = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (mux, _quic, _arrived) = Mux::new(main).unwrap();
        let route = |port: u16| Route::Direct(SocketId::MAIN, ([192, 0, 2, 1], port).into());
        // More changes of the address than the table has room for.
        for _ in 0..3 {
            let mut single = Single::new(&mux);
            for port in 1..2000 {
                assert!(single.unbatch(route(port)) && !single.unbatch(route(port)), "{port}");
            }
        }
        let (mut first, mut second) = (Single::new(&mux), Single::new(&mux));
        assert!(first.unbatch(route(1)) && !second.unbatch(route(1)), "they share it");
        drop(second);
        assert!(!mux.unbatch(route(1)), "the first link still needs it");
    }
}
