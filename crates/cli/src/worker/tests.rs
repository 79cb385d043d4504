use clap::Parser;

use super::*;
use std::time::Duration;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

const URL: (&str, &str) = ("RENDEZVOUS_SERVICE_URL", "https://r.example");

fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Failure> {
    let line = Line::try_parse_from(["x"].iter().chain(flags)).unwrap();
    config(line.args, &Environment::of(variables))
}

fn servers(variables: &[(&str, &str)]) -> Vec<String> {
    let mut all = vec![URL];
    all.extend_from_slice(variables);
    read(&[], &all).unwrap().stun_servers.iter().map(ToString::to_string).collect()
}

#[test]
fn the_defaults_are_those_of_the_baseline() {
    let config = read(&[], &[URL]).unwrap();
    assert_eq!(config.rendezvous.to_string(), "wss://r.example");
    assert_eq!(config.health_port, Some(8080));
    assert_eq!(config.udp_port, 8081);
    assert_eq!(config.stun_servers, [ServerName::new("stun.l.google.com", 19302).unwrap()]);
    assert_eq!(
        (config.ping_interval, config.ping_timeout),
        (Duration::from_secs(25), Duration::from_secs(25))
    );
    assert_eq!(config.ip_echo_url.unwrap().as_str(), "https://api.ipify.org/");
    assert_eq!((config.stun_retries_max, config.stun_retry_delay), (None, None));
}

#[test]
fn every_variable_of_the_baseline_counts() {
    let config = read(
        &[],
        &[
            ("RENDEZVOUS_SERVICE_URL", "http://r.example:1/"),
            ("PORT", "0"),
            ("STUN_HOST_ENV", "s.example"),
            ("STUN_PORT_ENV", "3478"),
            ("STUN_MAX_RETRIES", "3"),
            ("STUN_RETRY_DELAY_SEC", "1.5"),
            ("INTERNAL_UDP_PORT_ENV", "0"),
            ("PING_INTERVAL_SEC", "0.5"),
            ("PING_TIMEOUT_SEC", "2"),
            ("IP_ECHO_URL", "none"),
            ("WORKER_ID", "me"),
        ],
    )
    .unwrap();
    assert_eq!(config.rendezvous.to_string(), "ws://r.example:1");
    assert_eq!((config.health_port, config.udp_port), (Some(0), 0));
    assert_eq!(config.stun_servers, [ServerName::new("s.example", 3478).unwrap()]);
    assert_eq!(config.stun_retries_max, Some(3));
    assert_eq!(config.stun_retry_delay, Some(Duration::from_millis(1500)));
    assert_eq!(config.ping_interval, Duration::from_millis(500));
    assert_eq!(config.ping_timeout, Duration::from_secs(2));
    assert!(config.ip_echo_url.is_none());
    assert_eq!(config.worker_id.unwrap().as_str(), "me");
}

#[test]
fn the_newer_name_of_the_stun_variables_wins() {
    let all = [
        ("STUN_HOST", "old"),
        ("STUN_HOST_ENV", "new"),
        ("STUN_PORT", "1"),
        ("STUN_PORT_ENV", "2"),
    ];
    assert_eq!(servers(&all), ["new:2"]);
    assert_eq!(servers(&[all[0], all[2]]), ["old:1"]);
    assert_eq!(servers(&[("STUN_HOST_ENV", ""), all[0]]), ["old:19302"]);
    let service_link = ("STUN_PORT", "tcp://10.0.0.1:3478");
    assert_eq!(servers(&[service_link, all[0]]), ["old:19302"]);
}

#[test]
fn more_servers_stand_beside_a_named_one_and_instead_of_the_default() {
    let more = ("STUN_SERVERS", "a:1, b, a:1");
    assert_eq!(servers(&[more]), ["a:1", "b:3478"]);
    assert_eq!(servers(&[more, ("STUN_HOST", "c")]), ["c:19302", "a:1", "b:3478"]);
}

#[test]
fn a_url_that_is_missing_or_can_never_work_is_a_usage_error_that_names_the_variable() {
    for variables in
        [&[][..], &[("RENDEZVOUS_SERVICE_URL", "")], &[("RENDEZVOUS_SERVICE_URL", "ftp://x")]]
    {
        let failure = read(&[], variables).unwrap_err();
        assert!(format!("{failure:?}").contains("RENDEZVOUS_SERVICE_URL"), "{failure:?}");
    }
}

#[test]
fn the_network_s_proxy_counts_and_one_that_is_not_supported_is_a_usage_error() {
    let proxy = |value| {
        read(&[], &[("RENDEZVOUS_SERVICE_URL", "https://r.example"), ("HTTPS_PROXY", value)])
    };
    assert!(proxy("http://proxy.example:3128").unwrap().proxy.is_some());
    let failure = proxy("socks5://user:secret@proxy.example").unwrap_err();
    let text = format!("{failure:?}");
    assert!(
        failure.is_usage() && text.contains("HTTPS_PROXY") && text.contains("http://"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn flags_mean_the_same_as_the_variables() {
    let flags = [
        "--rendezvous-url",
        "ws://f.example",
        "--port",
        "1",
        "--stun-host",
        "f",
        "--stun-port",
        "2",
        "--internal-udp-port",
        "3",
        "--ip-echo-url",
        "none",
        "--worker-id",
        "f",
    ];
    let config = read(&flags, &[URL, ("PORT", "9"), ("STUN_HOST_ENV", "e")]).unwrap();
    assert_eq!(config.rendezvous.to_string(), "ws://f.example");
    assert_eq!((config.health_port, config.udp_port), (Some(1), 3));
    assert_eq!(config.stun_servers[0].to_string(), "f:2");
}
