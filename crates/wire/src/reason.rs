//! Why something ends, or is refused: the code is for programs, and the text for people follows from it.

use crate::close_code::{CLOSE_REASON_BYTES_MAX, CloseCode};
use crate::signal::v1::ErrorCode;

/// Makes an enum of reasons, each with its code (small letters and underscores) and its text. What a later version may say
/// is [`Unknown`](EndReason::Unknown).
#[macro_export]
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
        #[derive(::serde::Serialize, ::serde::Deserialize)]
        pub enum $name {
            $(#[doc = $text] #[serde(rename = $code)] $variant,)*
            /// Something else, or a code of a later version.
            #[default]
            #[serde(rename = "unknown", other)]
            Unknown,
        }

        impl $name {
            /// All that are known.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as a text.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown => "unknown",
                }
            }

            /// The text for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown => "no reason given",
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

reasons! {
    /// Why a session has ended.
    EndReason {
        PeerLeft = "peer_left", "the peer has left";
        PathLost = "path_lost", "the path is lost";
        ConnectionEnded = "connection_ended", "the peer's connection has ended";
        NotComeBack = "not_come_back", "the peer has not come back";
        BegunAnew = "begun_anew", "the peer has begun anew";
        // Told to nobody: the two talk directly.
        Outlived = "outlived", "its worker has not come back";
        // Of the worker's side.
        OwnLeave = "own_leave", "this worker has left";
        OfferedAnew = "offered_anew", "the rendezvous has begun it anew";
        InVain = "in_vain", "no direct path came about";
    }
}

impl EndReason {
    /// What an older rendezvous means, which tells the text alone.
    #[must_use]
    pub fn of_older(text: &str) -> Self {
        Self::ALL.iter().copied().find(|known| known.text() == text).unwrap_or_default()
    }
}

reasons! {
    /// Why a worker is not brought together with the one that it calls.
    CallError {
        NotRegistered = "not_registered", "it is not registered here";
        OwnId = "own_id", "that is the caller itself";
        NoId = "no_id", "that is not a worker's id";
        Baseline = "baseline", "it does not speak holepunch.v1";
        TooManySessions = "too_many_sessions", "one of the two has as many sessions as it may have";
        HasSession = "has_session", "the two have a session already";
        JustParted = "just_parted", "the two have parted only seconds ago";
        TooManyCallers = "too_many_callers", "too many others call it at the moment";
        NotAllowed = "not_allowed", "the caller's token does not allow it";
        InLine = "in_line", "others have called it before, and this call is in line behind theirs";
    }
}

impl CallError {
    /// What stands in an `error`, where older workers look.
    #[must_use]
    pub fn error_code(self) -> ErrorCode {
        if self == Self::NotRegistered { ErrorCode::NotRegistered } else { ErrorCode::NotCallable }
    }
}

/// How the reason begins with which a connection is closed whose signature is not over what the server expects; what that
/// is follows.
pub const NOT_PROVED: &str = "the signature does not prove the key: it must be over";
/// How a rendezvous of any generation begins the reason with which it closes a connection whose id has connected anew.
const REPLACED: &str = "New connection from same";

reasons! {
    /// Why a rendezvous closes the WebSocket of a worker, or refuses to register it.
    CloseReason {
        Replaced = "replaced", "New connection from same worker ID";
        ShuttingDown = "shutting_down", "server is shutting down";
        Moving = "moving", "this server is shutting down: another one takes its workers";
        Full = "full", "too many workers";
        ShareOfAddress = "share_of_address", "too many workers from this address";
        ShareOfSite = "share_of_site", "too many workers from this IPv6 site (/48)";
        ShareOfTenant = "share_of_tenant", "too many workers of this tenant";
        TooSlow = "too_slow", "this client reads too slowly";
        PingTimeout = "ping_timeout", "keepalive ping timeout";
        NeedsV1 = "needs_v1", "this id is bound to a key, which only a worker of holepunch.v1 can prove";
        ProofLate = "proof_late", "this id is bound to a key, and a hello with its proof did not come within 10 s";
        Unsigned = "unsigned", "the signature does not prove the key: there is none";
        NotProved = "not_proved", "the signature does not prove the key: it must be over this server's host, this \
                                   welcome's challenge, id and room";
        KeyOfOtherId = "key_of_other_id", "the key does not belong to the id: the id is made from another one";
        OtherKey = "other_key", "this id is bound to another key";
        TokenExpired = "token_expired", "the token that let this worker in has expired: it needs a new one";
        TokenRevoked = "token_revoked", "the token that let this worker in is revoked, or its key is: it needs another one";
        RoomNotAllowed = "room_not_allowed", "the worker's token does not allow this room";
        ModeNotAllowed = "mode_not_allowed", "the worker's token does not allow rooms of this mode";
    }
}

const _: () = {
    let mut number = 0;
    while number < CloseReason::ALL.len() {
        assert!(CloseReason::ALL[number].text().len() <= CLOSE_REASON_BYTES_MAX);
        number += 1;
    }
};

impl CloseReason {
    /// The code of the close frame.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Replaced | Self::Unknown => CloseCode::Normal,
            Self::ShuttingDown => CloseCode::GoingAway,
            Self::Moving => CloseCode::Restart,
            Self::Full
            | Self::ShareOfAddress
            | Self::ShareOfSite
            | Self::ShareOfTenant
            | Self::TooSlow => CloseCode::TryAgain,
            Self::PingTimeout => CloseCode::Internal,
            Self::NeedsV1
            | Self::ProofLate
            | Self::Unsigned
            | Self::NotProved
            | Self::KeyOfOtherId
            | Self::OtherKey
            | Self::TokenExpired
            | Self::TokenRevoked
            | Self::RoomNotAllowed
            | Self::ModeNotAllowed => CloseCode::Policy,
        }
    }

    /// What a rendezvous means that has closed a connection and has not told a code before: one of the baseline, or older.
    #[must_use]
    pub fn of_older(text: &str) -> Self {
        if text.starts_with(REPLACED) {
            Self::Replaced
        } else if text.starts_with(NOT_PROVED) {
            Self::NotProved
        } else {
            Self::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_older_versions_have_their_codes() {
        for text in ["New connection from same ID", "New connection from same worker ID"] {
            assert_eq!(CloseReason::of_older(text), CloseReason::Replaced);
        }
        let host = format!("{NOT_PROVED} host \"a\", this challenge, id and room");
        assert_eq!(CloseReason::of_older(&host), CloseReason::NotProved);
        assert_eq!(CloseReason::of_older(CloseReason::NotProved.text()), CloseReason::NotProved);
        assert_eq!(CloseReason::of_older("bye"), CloseReason::Unknown);
        assert_eq!(EndReason::of_older("the peer has left"), EndReason::PeerLeft);
        assert_eq!(EndReason::of_older("enough"), EndReason::Unknown);
    }

    #[test]
    fn a_code_crosses_as_its_word_and_one_of_a_later_version_is_unknown() {
        for reason in CloseReason::ALL {
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.code()));
            assert_eq!(serde_json::from_str::<CloseReason>(&json).unwrap(), *reason);
        }
        assert_eq!(serde_json::from_str::<EndReason>("\"later\"").unwrap(), EndReason::Unknown);
    }
}
