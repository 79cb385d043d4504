//! Sockets that come and go.

use std::net::SocketAddr;
use std::time::Instant;

use holepunch_wire::session::SessionId;

use super::{Owner, SOCKETS_MAX};
use crate::doors::{Event, SocketId};
use crate::machine::Traversal;

impl Traversal {
    /// Opens a socket for a session's search, or tells it that there are enough: those of a search that
    /// has just ended count as well.
    pub(super) fn open_socket_for(&mut self, id: SessionId, now: Instant) {
        if self.sockets.len() < SOCKETS_MAX {
            self.open_socket(Owner::Session(id));
        } else if let Some(session) = self.sessions.get_mut(&id) {
            session.socket_failed(now, &mut self.rng);
        }
    }

    pub(super) fn open_socket(&mut self, owner: Owner) {
        let socket = self.next_socket;
        self.next_socket = SocketId(socket.0.wrapping_add(1).max(SocketId::FRESH_FIRST.0));
        self.sockets.insert(socket, (owner, false));
        self.events.push_back(Event::OpenSocket(socket));
    }

    pub(super) fn close_socket(&mut self, socket: SocketId) {
        if let Some((owner, _)) = self.sockets.remove(&socket) {
            if let Owner::Session(id) = owner
                && let Some(session) = self.sessions.get_mut(&id)
            {
                session.socket_closed(socket);
            }
            self.events.push_back(Event::CloseSocket(socket));
        }
    }

    pub(crate) fn socket_opened(&mut self, socket: SocketId, local: SocketAddr, now: Instant) {
        let Some((owner, open)) = self.sockets.get_mut(&socket) else { return };
        *open = true;
        match *owner {
            Owner::Profiler => self.profiler.socket_opened(socket, local, now, &mut self.rng),
            Owner::Session(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.socket_opened(socket, local, now, &mut self.rng);
                }
            }
        }
    }

    pub(crate) fn socket_failed(&mut self, socket: SocketId, now: Instant) {
        let Some((owner, _)) = self.sockets.remove(&socket) else { return };
        match owner {
            Owner::Profiler => self.profiler.socket_failed(now, &mut self.rng),
            Owner::Session(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.socket_failed(now, &mut self.rng);
                }
            }
        }
    }
}
