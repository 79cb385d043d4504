//! What the tests share: everything that a worker talks to, played by the test on loopback. Nothing
//! here takes anything from the code under test but [`subject`], which runs it.

#![allow(dead_code, unused_imports, reason = "each crate of tests uses other parts of this")]

mod patience;
pub(crate) mod peer;
pub(crate) mod rendezvous;
pub(crate) mod stun;
pub(crate) mod subject;
pub(crate) mod web;

pub(crate) use patience::within;
pub(crate) use peer::Peer;
pub(crate) use rendezvous::{Absent, Rendezvous, Session, loopback};
pub(crate) use stun::StunServer;
pub(crate) use subject::{Scene, Subject};
