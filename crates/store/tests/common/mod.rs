//! A Redis server of the test's own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use holepunch_store::StoreUrl;
use tempfile::TempDir;

/// A server that keeps nothing, and ends with the test.
pub(crate) struct Redis {
    process: Child,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_at(free())
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::with(address, "")
    }

    /// With further lines in its settings.
    pub(crate) fn with(address: SocketAddr, further: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("redis.conf");
        let (port, dir) = (address.port(), folder.path().display());
        let own = format!("bind 127.0.0.1\nport {port}\ndir {dir}\nsave \"\"\nappendonly no\n");
        std::fs::write(&settings, own + further).unwrap();
        let kind = further.contains("sentinel monitor").then_some("--sentinel");
        let process = Command::new("redis-server")
            .arg(settings)
            .args(kind)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        let server = Self { process, address, _folder: folder };
        while std::net::TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        server
    }

    pub(crate) fn url(&self) -> StoreUrl {
        format!("redis://{}", self.address).parse().unwrap()
    }
}

/// An address that is freed at once, and nobody else's for as long as a test takes to take it again.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
