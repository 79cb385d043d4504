//! The public IP, as an HTTP echo service sees it.

use std::net::IpAddr;
use std::time::Duration;

use holepunch_wire::address::AddressKind;
use url::Url;

use crate::tls::Tls;

/// The whole look-up may take so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes; an IPv6 address has at most 45.
const ANSWER_BYTES_MAX: usize = 256;

/// Asks `url`; the answer is an IP address and nothing else.
///
/// # Errors
/// In words, for the log: no connection, another status than 2xx, or no IP address.
pub(crate) async fn look_up(url: Url, tls: Tls) -> Result<IpAddr, String> {
    let tls = tls.config().await.map_err(|error| error.to_string())?;
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        // An echo service has no reason to send a worker elsewhere, least of all into its own network.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured((*tls).clone())
        .build()
        .map_err(|error| chain(&error))?;
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
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
