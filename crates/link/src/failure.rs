//! Who is to blame for a failure, and its code for programs.

/// Who can do something about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// Whoever has started this worker or has called it: the settings, the URL, the id.
    Caller,
    /// The peer.
    Peer,
    /// The rendezvous, or a server in front of it.
    Rendezvous,
    /// What is in between.
    Network,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $blame:ident;)*) => {
        /// What has failed. Texts are for people and may change; these stay.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FailureCode {
            $($(#[$doc])* $name,)*
        }

        impl FailureCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as a text: small letters and underscores.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Who can do something about it.
            #[must_use]
            pub fn blame(self) -> Blame {
                match self {
                    $(Self::$name => Blame::$blame,)*
                }
            }
        }
    };
}

codes! {
    /// The host name of the rendezvous is not known.
    NameUnknown = "name_unknown", Network;
    /// Nothing listens where the rendezvous should be.
    ConnectionRefused = "connection_refused", Network;
    /// The rendezvous has not answered in time.
    TimedOut = "timed_out", Network;
    /// The proxy is not reached, or does not let the connection through.
    Proxy = "proxy", Network;
    /// There is no TLS with the rendezvous: its certificate is not good, say.
    Tls = "tls", Rendezvous;
    /// What answers is no rendezvous, or has it at another path.
    NotARendezvous = "not_a_rendezvous", Caller;
    /// A server in front of the rendezvous wants another name and password.
    LoginWanted = "login_wanted", Caller;
    /// The rendezvous, or a server in front of it, is out of order or full.
    Unavailable = "unavailable", Rendezvous;
    /// The rendezvous does not take this worker: its id belongs to another key, say.
    NotAdmitted = "not_admitted", Caller;
    /// The rendezvous does not let this worker in with its token, or without one, and the token stays as it is.
    TokenRefused = "token_refused", Caller;
    /// The token is good, and does not allow what this worker asks for: its id, its room, or the room's mode.
    NotAllowed = "not_allowed", Caller;
    /// Another worker has registered with this id.
    Replaced = "replaced", Caller;
    /// The connection to the rendezvous has ended.
    ConnectionLost = "connection_lost", Network;
    /// The rendezvous, or this worker by its settings, makes no links.
    NoLinks = "no_links", Caller;
    /// No worker with this id is registered in this room.
    NotRegistered = "not_registered", Peer;
    /// The rendezvous does not bring the two together.
    NotCallable = "not_callable", Peer;
    /// There is a link with this peer.
    AlreadyLinked = "already_linked", Caller;
    /// This peer is being called.
    AlreadyCalling = "already_calling", Caller;
    /// As many peers are being called as may be.
    TooManyCalls = "too_many_calls", Caller;
    /// The worker that is called is this one.
    OwnId = "own_id", Caller;
    /// This side has closed the link.
    Closed = "closed", Caller;
    /// The peer has closed the link.
    ClosedByPeer = "closed_by_peer", Peer;
    /// The peer shows another key than it should.
    WrongKey = "wrong_key", Peer;
    /// The rendezvous names a key that the peer's id does not belong to.
    Impostor = "impostor", Rendezvous;
    /// The peer does not know the room's secret.
    WrongSecret = "wrong_secret", Peer;
    /// Only one of the two has a room secret.
    SecretMissing = "secret_missing", Peer;
    /// The two speak no protocol in common.
    NoProtocol = "no_protocol", Peer;
    /// There is no way to the peer.
    NoPath = "no_path", Network;
    /// The peer breaks the protocol of links.
    Protocol = "protocol", Peer;
    /// The worker has ended.
    WorkerEnded = "worker_ended", Caller;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_word_of_its_own() {
        let mut words: Vec<&str> = FailureCode::ALL.iter().map(|code| code.as_str()).collect();
        assert!(
            words.iter().all(|word| word.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'))
        );
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FailureCode::ALL.len());
    }
}
