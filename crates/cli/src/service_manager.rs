//! What a service manager is told of a service (`Type=notify` of systemd, sd_notify(3)): a datagram to the socket that
//! it names, and nothing where it names none.

use std::os::unix::net::{SocketAddr, UnixDatagram};

/// It serves.
pub(crate) fn ready() {
    tell("READY=1");
}

/// It reads its settings anew; [`ready`] ends that.
pub(crate) fn reloading() {
    // systemd 253 and later (`Type=notify-reload`) tells by the time which of two reloads it is.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// It ends.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

fn tell(what: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").and_then(|name| name.into_string().ok())
    else {
        return;
    };
    let sent = address(&name).and_then(|address| {
        UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address).map(drop)
    });
    if let Err(error) = sent {
        tracing::debug!(name, %error, "the service manager cannot be told");
    }
}

/// A path, or a name of Linux that is none and begins with `@`.
fn address(name: &str) -> std::io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}
