//! What this program's settings are called, where the worker's library says what to do.

use holepunch_worker::{SettingNames, StartError};

use crate::exit::Failure;

/// Flags and environment variables.
pub(crate) const NAMES: SettingNames = SettingNames {
    worker_id: "WORKER_ID",
    identity: "the same --identity or WORKER_ID",
    udp_port: "INTERNAL_UDP_PORT_ENV (--internal-udp-port)",
    stun_servers: "--stun-servers, STUN_SERVERS",
    stun_retries: "STUN_MAX_RETRIES",
    relay: "no --no-relay, NO_RELAY",
    host_candidates: "no --no-host-candidates",
    token: "--token, HOLEPUNCH_TOKEN",
    public_host: "--public-host",
    trusted_proxy: "--trusted-proxy",
};

/// Why a worker does not start, and which setting that is about.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn not_started(error: StartError) -> Failure {
    let hint = match &error {
        StartError::HealthPort { .. } => {
            "; set PORT (--port) to another port, or to 0 for any free one"
        }
        StartError::WorkerId(_) | StartError::WorkerIdTooLong(_) | StartError::NotOwnId(_) => {
            " (WORKER_ID, --worker-id)"
        }
        StartError::Url(_)
        | StartError::Room(_)
        | StartError::StunServer(_)
        | StartError::Token(_)
        | StartError::Protocols(_)
        | StartError::Identity(_)
        | StartError::IdentityFile(_)
        | _ => "",
    };
    Failure::failed(format!("{error}{hint}"))
}
