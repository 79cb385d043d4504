//! What rooms and workers are called: each name counts within its tenant alone.

use holepunch_wire::WorkerId;
use holepunch_wire::session::RoomName;
use holepunch_wire::tenant::InTenant;

/// A room of a tenant. Halls, their owners and all that is said to them go by it, so that no two tenants have a hall in common.
pub type Room = InTenant<RoomName>;
/// A worker of a tenant: the registry knows an id, its key and its place by it. (In a hall, all are of one tenant.)
pub type Member = InTenant<WorkerId>;
