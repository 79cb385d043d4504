//! The public IP, as an HTTP echo service sees it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holepunch_wire::address::AddressKind;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use crate::tls::{self, Tls};

/// The whole look-up may take so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A connection may take so long. The HTTP library gives each address of a family the same share of it, and begins with
/// the other family after 0.3 s: so one that swallows packets leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes; an IPv6 address has at most 45.
const ANSWER_BYTES_MAX: usize = 256;

/// Asks `url`; the answer is an IP address and nothing else.
///
/// # Errors
/// In words, for the log: no connection, another status than 2xx, or no IP address.
pub(crate) async fn look_up(url: Url, tls: Tls) -> Result<IpAddr, String> {
    let names = Names::default();
    let client = client(&tls).await?.dns_resolver(names.clone()).build();
    let client = client.map_err(|error| chain(&error))?;
    ask(&client, url).await.map_err(|why| names.beside(why))
}

/// Looks names up, and remembers where they have led: the HTTP library tells what the last address has said, and not which
/// ones there were.
#[derive(Debug, Clone, Default)]
struct Names(Arc<Mutex<Vec<IpAddr>>>);

impl Names {
    /// A failure with the addresses that were there to be tried.
    fn beside(&self, why: String) -> String {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_empty() {
            return why;
        }
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        format!("{why} (at {})", found.join(", "))
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found = Arc::clone(&self.0);
        Box::pin(async move {
            // The library puts the port of the URL in the place of this one.
            let addresses: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            *found.lock().unwrap_or_else(PoisonError::into_inner) =
                addresses.iter().map(SocketAddr::ip).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

async fn client(tls: &Tls) -> Result<reqwest::ClientBuilder, String> {
    let tls = tls.config().await.map_err(|error| error.to_string())?;
    Ok(reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        // What the service sees of a proxy is the proxy's address.
        .no_proxy()
        // An echo service has no reason to send a worker elsewhere, least of all into its own network.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured((*tls).clone()))
}

async fn ask(client: &reqwest::Client, url: Url) -> Result<IpAddr, String> {
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(|error| chain(&error))?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| chain(&error))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(format!("expected an IP address, got over {ANSWER_BYTES_MAX} bytes"));
        }
    }
    let text = String::from_utf8_lossy(&body);
    let ip = text.trim().parse::<IpAddr>();
    let ip = ip
        .map_err(|_| format!("expected an IP address, got {} other bytes", body.len()))?
        .to_canonical();
    if !AddressKind::of(ip).is_reachable_unicast() {
        return Err(format!("{ip} is a{}", AddressKind::of(ip).describe()));
    }
    Ok(ip)
}

/// An error with its causes: the outermost alone says little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(error) = tls::of(error) {
        return tls::words(error, None);
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use holepunch_link::testing::Swallowing;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_of_the_service_that_swallows_packets_does_not_end_the_look_up() {
        let silent = Swallowing::new().await;
        // The HTTP library takes one port for all addresses of a name.
        let good = TcpListener::bind(("127.0.0.2", silent.address.port())).await.unwrap();
        let addresses = [silent.address, good.local_addr().unwrap()];
        let answering = tokio::spawn(async move {
            let (mut stream, _) = good.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n192.0.2.7";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = client(&Tls::default()).await.unwrap();
        let client = client.resolve_to_addrs("echo.example", &addresses).build().unwrap();
        let url = format!("http://echo.example:{}/", silent.address.port());
        let found = ask(&client, url.parse().unwrap()).await;
        assert_eq!(found, Ok(IpAddr::from([192, 0, 2, 7])));
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_names_the_addresses_of_the_service() {
        let url = |host: &str| format!("http://{host}:1/").parse().unwrap();
        let by_name = look_up(url("localhost"), Tls::default()).await.unwrap_err();
        assert!(by_name.contains("127.0.0.1"), "{by_name}");
        let by_address = look_up(url("127.0.0.1"), Tls::default()).await.unwrap_err();
        assert!(by_address.contains("127.0.0.1:1"), "{by_address}");
    }
}
