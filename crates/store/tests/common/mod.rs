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
        // Freed at once, and nobody else's for as long as a test takes to take it again.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::start_at(address)
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
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

impl Drop for Redis {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
