//! Requests that are not answered as they wish, counted by the reason.

use crate::metrics::{ByWord, by_reason};

holepunch_wire::reasons! {
    /// Why a request is refused.
    Refused {
        Full = "full", "as many workers as there may be";
        ShareOfAddress = "share_of_address", "as many workers of one address as there may be";
        ShareOfSite = "share_of_site", "as many workers of one IPv6 site (/48) as there may be";
        ShareOfTenant = "share_of_tenant", "as many workers of one tenant as there may be";
        StoreAway = "store_away", "the store does not answer";
        OpenFiles = "open_files", "the limit of open files is reached";
        Origin = "origin", "a web page of another site";
        Proxy = "proxy", "no header of the PROXY protocol from a proxy that has to send one";
        Listings = "listings", "too many listings at once, or in too short a time";
        Token = "token", "no admin token, or a wrong one";
        NotLocal = "not_local", "no client of this machine asks for what is for those alone";
    }
}

/// How many for each.
#[derive(Debug)]
pub(crate) struct Refusals(ByWord);

impl Default for Refusals {
    fn default() -> Self {
        Self(by_reason!(Refused))
    }
}

impl Refusals {
    /// One more.
    pub(crate) fn count(&self, why: Refused) {
        self.0.add(why as usize, 1);
    }

    pub(crate) fn words(&self) -> &ByWord {
        &self.0
    }
}
