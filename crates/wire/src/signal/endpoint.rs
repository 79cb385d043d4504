//! The two fields that carry a UDP endpoint, in a report and in an offer.

use std::net::{IpAddr, SocketAddr};

use serde_json::value::RawValue;

/// Longest piece of a bad value that an error repeats, in bytes.
const QUOTE_BYTES_MAX: usize = 48;

/// Why two fields are not a UDP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// One of the two is absent, `null` or empty.
    #[error("Missing UDP IP/Port")]
    Missing,
    /// The address is not a text that holds an IP address.
    #[error("expected an IPv4 or IPv6 address as the UDP IP, got {0}")]
    NotAnIp(String),
    /// The port is neither a whole number nor a text of digits, or it is out of range.
    #[error("expected a UDP port from 1 to 65535, got {0}")]
    NotAPort(String),
}

/// Reads an endpoint. IPv4-mapped IPv6 addresses come out as IPv4.
pub(super) fn endpoint(
    ip: Option<&RawValue>,
    port: Option<&RawValue>,
) -> Result<SocketAddr, EndpointError> {
    let (Some(ip), Some(port)) = (present(ip), present(port)) else {
        return Err(EndpointError::Missing);
    };
    Ok(SocketAddr::new(read_ip(ip)?, read_port(port)?))
}

/// The raw text of a field, unless the field is absent, `null` or an empty text.
fn present(field: Option<&RawValue>) -> Option<&str> {
    field.map(RawValue::get).filter(|raw| !matches!(*raw, "null" | "\"\""))
}

fn read_ip(raw: &str) -> Result<IpAddr, EndpointError> {
    let text: Option<String> = serde_json::from_str(raw).ok();
    text.and_then(|text| text.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .ok_or_else(|| EndpointError::NotAnIp(quote(raw)))
}

fn read_port(raw: &str) -> Result<u16, EndpointError> {
    let text: Option<String> = serde_json::from_str(raw).ok();
    let digits = text.as_deref().unwrap_or(raw);
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = if all_digits { digits.parse::<u16>().ok() } else { None };
    port.filter(|port| *port != 0).ok_or_else(|| EndpointError::NotAPort(quote(raw)))
}

/// The start of a bad value, for an error text.
fn quote(raw: &str) -> String {
    let start = &raw[..raw.floor_char_boundary(QUOTE_BYTES_MAX)];
    if start.len() < raw.len() { format!("{start}…") } else { raw.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ip: &str, port: &str) -> Result<SocketAddr, EndpointError> {
        let ip: Box<RawValue> = serde_json::from_str(ip).expect("test JSON");
        let port: Box<RawValue> = serde_json::from_str(port).expect("test JSON");
        endpoint(Some(&ip), Some(&port))
    }

    #[test]
    fn a_port_may_be_a_number_or_a_text_of_digits() {
        let expected = Ok("203.0.113.5:4000".parse().unwrap());
        assert_eq!(read("\"203.0.113.5\"", "4000"), expected);
        assert_eq!(read("\"203.0.113.5\"", "\"4000\""), expected);
        assert_eq!(read("\"::ffff:203.0.113.5\"", "\"04000\""), expected);
    }

    #[test]
    fn bad_ports_say_what_came() {
        let long = format!("\"{}\"", "9".repeat(99));
        for port in
            ["0", "65536", "-1", "1.5", "4e3", "true", "[1]", "\"+80\"", "\" 80\"", "\"x\"", &long]
        {
            let error = read("\"203.0.113.5\"", port).unwrap_err();
            assert!(matches!(error, EndpointError::NotAPort(_)), "{port}: {error}");
            assert!(error.to_string().len() < 120, "{error}");
        }
    }

    #[test]
    fn bad_addresses_say_what_came() {
        for ip in ["\"host\"", "\"1.2.3\"", "1", "{}", "\"1.2.3.4:5\"", "\"fe80::1%eth0\"", "\"ü\""]
        {
            assert!(matches!(read(ip, "1"), Err(EndpointError::NotAnIp(_))), "{ip}");
        }
    }

    #[test]
    fn an_absent_null_or_empty_field_is_missing() {
        for (ip, port) in
            [("null", "1"), ("\"1.2.3.4\"", "null"), ("\"\"", "1"), ("\"1.2.3.4\"", "\"\"")]
        {
            assert_eq!(read(ip, port), Err(EndpointError::Missing), "{ip} {port}");
        }
        assert_eq!(endpoint(None, None), Err(EndpointError::Missing));
        assert_eq!(EndpointError::Missing.to_string(), "Missing UDP IP/Port");
    }
}
