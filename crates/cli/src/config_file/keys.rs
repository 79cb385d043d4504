//! The settings of the services that a settings file may hold.

/// A setting of `rendezvous`, `relay` or `worker`: its flag's name, with `_` in place of `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceKey {
    /// Its name in the file.
    pub name: &'static str,
    /// The variable that means the same.
    pub variable: &'static str,
    /// Whether its value is nobody else's.
    pub is_secret: bool,
}

const fn key(name: &'static str, variable: &'static str) -> ServiceKey {
    ServiceKey { name, variable, is_secret: false }
}

const fn secret(name: &'static str, variable: &'static str) -> ServiceKey {
    ServiceKey { name, variable, is_secret: true }
}

/// All of them.
pub const SERVICE_KEYS: &[ServiceKey] = &[
    key("accept", "ACCEPT"),
    #[cfg(feature = "acme")]
    key("acme_cache", "ACME_CACHE"),
    #[cfg(feature = "acme")]
    key("acme_contact", "ACME_CONTACT"),
    #[cfg(feature = "acme")]
    key("acme_directory", "ACME_DIRECTORY"),
    #[cfg(feature = "acme")]
    key("acme_domain", "ACME_DOMAIN"),
    key("admin_listen", "ADMIN_LISTEN"),
    secret("admin_token", "ADMIN_TOKEN"),
    key("allow_private", "ALLOW_PRIVATE"),
    key("auth", "AUTH"),
    key("baseline", "BASELINE"),
    key("internal_udp_port", "INTERNAL_UDP_PORT_ENV"),
    key("ip_echo_url", "IP_ECHO_URL"),
    key("listen", "LISTEN"),
    key("log", "RUST_LOG"),
    key("log_format", "LOG_FORMAT"),
    key("max_workers", "MAX_WORKERS"),
    key("max_workers_per_ip", "MAX_WORKERS_PER_IP"),
    key("max_workers_per_tenant", "MAX_WORKERS_PER_TENANT"),
    key("no_host_candidates", "NO_HOST_CANDIDATES"),
    key("no_listing", "NO_LISTING"),
    key("no_port_mapping", "NO_PORT_MAPPING"),
    key("no_relay", "NO_RELAY"),
    #[cfg(feature = "otel")]
    key("otlp_endpoint", "OTLP_ENDPOINT"),
    key("peer", "PEER"),
    key("ping_interval_sec", "PING_INTERVAL_SEC"),
    key("ping_timeout_sec", "PING_TIMEOUT_SEC"),
    key("port", "PORT"),
    key("proxy_protocol", "PROXY_PROTOCOL"),
    key("public_host", "HOLEPUNCH_PUBLIC_HOST"),
    secret("relay_key", "RELAY_KEY"),
    key("relay_key_file", "RELAY_KEY_FILE"),
    key("relay_quota", "RELAY_QUOTA"),
    key("relay_quota_per_ip", "RELAY_QUOTA_PER_IP"),
    key("relay_rate", "RELAY_RATE"),
    key("relay_rate_per_ip", "RELAY_RATE_PER_IP"),
    key("relay_rate_total", "RELAY_RATE_TOTAL"),
    key("relay_sessions_max", "RELAY_SESSIONS_MAX"),
    key("relay_udp", "RELAY_UDP"),
    key("relay_url", "RELAY_URL"),
    key("room", "ROOM"),
    key("room_mode", "ROOM_MODE"),
    secret("room_secret", "ROOM_SECRET"),
    key("search", "SEARCH"),
    // Its URL may hold a password.
    secret("store", "STORE"),
    key("store_prefix", "STORE_PREFIX"),
    key("stun_advertise", "STUN_ADVERTISE"),
    key("stun_answers_max", "STUN_ANSWERS_MAX"),
    key("stun_host", "STUN_HOST_ENV"),
    key("stun_listen", "STUN_LISTEN"),
    key("stun_max_retries", "STUN_MAX_RETRIES"),
    key("stun_port", "STUN_PORT_ENV"),
    key("stun_retry_delay_sec", "STUN_RETRY_DELAY_SEC"),
    key("tls_cert", "TLS_CERT"),
    key("tls_key", "TLS_KEY"),
    key("token_file", "HOLEPUNCH_TOKEN_FILE"),
    key("token_keys", "TOKEN_KEYS"),
    key("trusted_proxy", "TRUSTED_PROXY"),
    key("turn", "TURN_URLS"),
    secret("turn_secret", "TURN_SECRET"),
    key("udp_listen", "RELAY_UDP_LISTEN"),
    key("worker_id", "WORKER_ID"),
];
