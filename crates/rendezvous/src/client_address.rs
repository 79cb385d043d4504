//! Who a client is: the address of its TCP connection, or the one that a trusted proxy forwards.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use holepunch_matchmaker::Observed;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address. `X-Forwarded-For` counts only where the connection comes from a trusted
/// proxy; then the rightmost hop that is not itself trusted is the client, since everything further
/// left is whatever the client wrote.
pub(crate) fn client_address(
    connection: SocketAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Observed {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(&ip));
    let own = connection.ip().to_canonical();
    let direct = Observed { ip: own, port: Some(connection.port()) };
    if !is_trusted(own) {
        return direct;
    }
    let mut client = direct;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for hop in value.to_str().unwrap_or_default().rsplit(',') {
            let Some(ip) = hop_address(hop.trim()) else { return client };
            client = Observed { ip, port: None };
            if !is_trusted(ip) {
                return client;
            }
        }
    }
    client
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bracketed = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let plain = bracketed.unwrap_or(hop).parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    plain.or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(connection: &str, forwarded: &[&str]) -> (String, Option<u16>) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted = ["169.254.0.0/16".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let observed = client_address(connection.parse().unwrap(), &headers, &trusted);
        (observed.ip.to_string(), observed.port)
    }

    #[test]
    fn without_a_trusted_proxy_the_header_says_nothing() {
        let expected = ("203.0.113.5".to_owned(), Some(9));
        assert_eq!(observed("203.0.113.5:9", &["8.8.8.8"]), expected);
        assert_eq!(observed("[::ffff:203.0.113.5]:9", &["8.8.8.8"]), expected);
    }

    #[test]
    fn the_rightmost_hop_that_is_not_trusted_is_the_client() {
        let client = ("198.51.100.7".to_owned(), None);
        let proxy = "169.254.1.1:9";
        assert_eq!(observed(proxy, &["198.51.100.7"]), client);
        assert_eq!(observed(proxy, &["127.0.0.1, 198.51.100.7"]), client);
        assert_eq!(observed(proxy, &["127.0.0.1", "198.51.100.7, 10.1.1.1"]), client);
        assert_eq!(observed(proxy, &["198.51.100.7:4711"]), client);
        assert_eq!(observed(proxy, &["[2001:db8::1]:5"]).0, "2001:db8::1");
        assert_eq!(observed(proxy, &["::ffff:198.51.100.7"]), client);
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk_at_the_last_known_hop() {
        assert_eq!(observed("169.254.1.1:9", &[]), ("169.254.1.1".to_owned(), Some(9)));
        assert_eq!(observed("169.254.1.1:9", &["nonsense"]), ("169.254.1.1".to_owned(), Some(9)));
        assert_eq!(observed("169.254.1.1:9", &["8.8.8.8, x, 10.0.0.1"]).0, "10.0.0.1");
    }
}
