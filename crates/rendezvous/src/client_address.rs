//! Who a client is: the address of its TCP connection, or the one that a trusted proxy forwards.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use holepunch_matchmaker::Observed;
use ipnet::IpNet;

use crate::forwarded::{FORWARDED_FOR, listed, parameter};

/// The client's address. `X-Forwarded-For` counts only where the connection comes from a trusted
/// proxy; then the rightmost hop that is not itself trusted is the client, since everything further
/// left is whatever the client wrote. `Forwarded` counts only without it: a proxy that writes one of the two may pass
/// on the other as the client has written it.
pub(crate) fn client_address(
    connection: SocketAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Observed {
    let own = connection.ip().to_canonical();
    let mut client = Observed { ip: own, port: Some(connection.port()) };
    if !is_trusted(own, trusted) {
        return client;
    }
    let hops: Vec<Option<IpAddr>> = if headers.contains_key(FORWARDED_FOR) {
        listed(headers, FORWARDED_FOR).into_iter().map(hop_address).collect()
    } else {
        let hops = parameter(headers, "for").into_iter();
        hops.map(|hop| hop.as_deref().and_then(hop_address)).collect()
    };
    for hop in hops.into_iter().rev() {
        let Some(ip) = hop else { return client };
        client = Observed { ip, port: None };
        if !is_trusted(ip, trusted) {
            return client;
        }
    }
    client
}

/// Whether a proxy there is believed.
pub(crate) fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    trusted.iter().any(|network| network.contains(&ip))
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

    #[test]
    fn forwarded_counts_where_there_is_no_x_forwarded_for() {
        let read = |forwarded: &str, x_forwarded_for: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("forwarded", forwarded.parse().unwrap());
            if let Some(value) = x_forwarded_for {
                headers.insert(FORWARDED_FOR, value.parse().unwrap());
            }
            let trusted = ["10.0.0.0/8".parse().unwrap()];
            client_address("10.0.0.1:9".parse().unwrap(), &headers, &trusted).ip.to_string()
        };
        assert_eq!(read("for=8.8.8.8, for=198.51.100.7;proto=https", None), "198.51.100.7");
        assert_eq!(read("for=\"[2001:db8::1]:5\", for=10.0.0.2", None), "2001:db8::1");
        assert_eq!(read("for=unknown", None), "10.0.0.1");
        assert_eq!(read("for=8.8.8.8", Some("198.51.100.7")), "198.51.100.7");
    }
}
