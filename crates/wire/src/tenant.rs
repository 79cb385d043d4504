//! Tenants: who shares a rendezvous with others, and sees nothing of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of a tenant, in bytes: as of a label in DNS, and it stands before each id in the store.
pub const TENANT_BYTES_MAX: usize = 63;

/// Whose rooms and ids these are. Those of two tenants are never the same, whatever they are called.
///
/// A name holds letters, digits and `-_.` alone, so that it means the same in a log line, a URL and a key of a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Option<String>", into = "Option<String>")]
pub enum Tenant {
    /// One with a name.
    Named(Arc<str>),
    /// The one that all are of who name none. (The last in order: see [`InTenant`].)
    #[default]
    Unnamed,
}

/// Why a text is not the name of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a tenant is 1 to {TENANT_BYTES_MAX} letters of a-z, A-Z, digits and -_.")]
pub struct TenantError;

impl Tenant {
    /// Checks a text and takes it as a name.
    ///
    /// # Errors
    /// It is empty, too long, or holds something else than letters, digits and `-_.`.
    pub fn new(text: &str) -> Result<Self, TenantError> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > TENANT_BYTES_MAX || !text.bytes().all(is_good) {
            return Err(TenantError);
        }
        Ok(Self::Named(text.into()))
    }

    /// Whether it is the one that all are of who name none.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        *self == Self::Unnamed
    }

    /// The name, where there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Unnamed => None,
        }
    }
}

impl TryFrom<Option<String>> for Tenant {
    type Error = TenantError;

    fn try_from(name: Option<String>) -> Result<Self, TenantError> {
        name.map_or(Ok(Self::Unnamed), |name| Self::new(&name))
    }
}

impl From<Tenant> for Option<String> {
    fn from(tenant: Tenant) -> Self {
        tenant.name().map(str::to_owned)
    }
}

impl FromStr for Tenant {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Self, TenantError> {
        Self::new(text)
    }
}

/// Stands before and behind a tenant's name in the text of what is the tenant's: no id and no room holds it.
const MARK: char = '\u{1f}';

/// A name that means something within its tenant alone.
///
/// In order, what is of the unnamed tenant stands behind all else, as the texts do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InTenant<T> {
    /// Whose it is.
    pub tenant: Tenant,
    /// The name.
    pub name: T,
}

impl<T: AsRef<str>> InTenant<T> {
    /// It as one text, for a key of a store: without a tenant, the name alone.
    #[must_use]
    pub fn to_text(&self) -> String {
        let name = self.name.as_ref();
        match &self.tenant {
            Tenant::Unnamed => name.to_owned(),
            Tenant::Named(tenant) => format!("{MARK}{tenant}{MARK}{name}"),
        }
    }
}

impl<T: FromStr> InTenant<T> {
    /// What [`to_text`](Self::to_text) has made; `None`: nothing that it makes.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let (tenant, name) = match text.strip_prefix(MARK) {
            None => (Tenant::Unnamed, text),
            Some(rest) => {
                let (tenant, name) = rest.split_once(MARK)?;
                (Tenant::new(tenant).ok()?, name)
            }
        };
        Some(Self { tenant, name: name.parse().ok()? })
    }
}

impl<T> InTenant<T> {
    /// One of the tenant that all are of who name none.
    pub fn unnamed(name: T) -> Self {
        Self { tenant: Tenant::Unnamed, name }
    }
}

/// For people.
impl<T: fmt::Display> fmt::Display for InTenant<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tenant {
            Tenant::Unnamed => self.name.fmt(f),
            Tenant::Named(tenant) => write!(f, "{tenant}/{}", self.name),
        }
    }
}

impl<T: AsRef<str>> Serialize for InTenant<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de, T: FromStr> Deserialize<'de> for InTenant<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::of_text(&text).ok_or_else(|| serde::de::Error::custom("not a name in a tenant"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerId;
    use crate::session::RoomName;

    #[test]
    fn a_name_is_short_and_plain() {
        for good in ["a", "Team-7", "example.com", "a_b", &"x".repeat(TENANT_BYTES_MAX)] {
            assert_eq!(Tenant::new(good).unwrap().name(), Some(good));
        }
        let long = "x".repeat(TENANT_BYTES_MAX + 1);
        for bad in ["", " ", "a/b", "a\u{1f}b", "a\nb", "ü", "a:b", "*", "a b", &long] {
            assert_eq!(Tenant::new(bad), Err(TenantError), "{bad:?}");
        }
    }

    #[test]
    fn no_two_names_of_two_tenants_have_one_text() {
        let of = |tenant: Option<&str>, name: &str| InTenant {
            tenant: tenant.map(|it| Tenant::new(it).unwrap()).unwrap_or_default(),
            name: RoomName::new(name).unwrap(),
        };
        let all = [
            of(Some("a"), ""),
            of(Some("a"), "b"),
            of(Some("a"), "ü"),
            of(Some("ab"), ""),
            of(Some("b"), "a"),
            of(None, "a"),
            of(None, "a/b"),
        ];
        // (No id is empty, so that of rooms alone the order is another one.)
        for room in all.iter().chain([&of(None, "")]) {
            assert_eq!(InTenant::of_text(&room.to_text()).as_ref(), Some(room));
            let json = serde_json::to_string(room).unwrap();
            assert_eq!(serde_json::from_str::<InTenant<RoomName>>(&json).unwrap(), *room);
        }
        assert!(all.is_sorted() && all.iter().map(InTenant::to_text).is_sorted(), "in one order");
        assert_eq!(all[6].to_text(), "a/b", "without a tenant it is as it was");
    }

    #[test]
    fn what_nobody_has_made_is_none() {
        for text in ["\u{1f}a", "\u{1f}\u{1f}x", "\u{1f}a/b\u{1f}x", "a\u{1f}x", "\u{1f}a\u{1f}"] {
            assert_eq!(InTenant::<WorkerId>::of_text(text), None, "{text:?}");
        }
    }
}
