//! A small internet under virtual time: NATs, firewalls, links and topology, without sockets and
//! without a clock. One seed makes one history.
//!
//! | module | what |
//! | --- | --- |
//! | [`nat`] | a NAT and a firewall, in the words of RFC 4787; knows addresses, ports and the time only |
//! | [`link`] | one direction of a link: delay, jitter, loss, reordering, rate |
//! | [`net`] | hosts, boxes and segments, and the queue of what is under way |
//! | [`stun`] | what a STUN server answers, with the real codec |
//! | [`lab`] | both real machines on the network, pair by pair and seed by seed |
//! | [`presets`] | kinds of NAT with names, and how to put them into a network |
//! | [`oracle`] | what is possible between two kinds, found apart from all of the above |
//! | [`report`] | many histories at once, and what is to be said of them: text, JSON, a page |
//!
//! The machines of `traversal` and `matchmaker` run on it: whoever drives them takes what they want
//! to send to [`net::Network::send`], what [`net::Network::poll_delivery`] gives to them, and the
//! earliest of all their time-outs as the next moment. Signalling is not UDP and goes round it.

pub mod cluster;
pub mod lab;
pub mod link;
pub mod nat;
pub mod net;
pub mod oracle;
pub mod presets;
pub mod report;
pub mod stun;
