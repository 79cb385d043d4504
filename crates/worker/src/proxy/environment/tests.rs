use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn found(url: &str, variables: &[(&str, &str)]) -> Result<Option<Proxy>, ProxyError> {
    let read = |name: &str| {
        let set = variables.iter().find(|(variable, _)| *variable == name);
        set.map(|(_, value)| (*value).to_owned())
    };
    Proxy::for_rendezvous(&url.parse().unwrap(), read)
}

fn host(url: &str, variables: &[(&str, &str)]) -> Option<String> {
    found(url, variables).unwrap().map(|proxy| format!("{}:{}", proxy.host, proxy.port))
}

#[test]
fn each_scheme_has_its_variable() {
    let all =
        [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://h:2"), ("ALL_PROXY", "http://a:3")];
    assert_eq!(host("https://r.example", &all).unwrap(), "s:1");
    assert_eq!(host("ws://r.example:8080", &all).unwrap(), "h:2");
    assert_eq!(host("ws://r.example", &all[2..]).unwrap(), "a:3");
    assert_eq!(host("wss://r.example", &all[1..]).unwrap(), "a:3");
    assert_eq!(host("wss://r.example", &all[1..2]), None);
    let small = [("https_proxy", "proxy"), all[0]];
    assert_eq!(host("wss://r.example", &small).unwrap(), "proxy:80");
    let empty = [("https_proxy", " "), ("HTTPS_PROXY", ""), all[2]];
    assert_eq!(host("wss://r.example", &empty).unwrap(), "a:3");
    assert_eq!(host("wss://r.example", &[("https_proxy", "http://[::1]:9")]).unwrap(), "::1:9");
}

#[test]
fn what_a_request_can_set_names_no_proxy() {
    let cgi = [("HTTP_PROXY", "http://evil"), ("REQUEST_METHOD", "GET")];
    assert_eq!(host("ws://r.example", &cgi), None);
    let small = [("http_proxy", "http://good:1"), cgi[0], cgi[1]];
    assert_eq!(host("ws://r.example", &small).unwrap(), "good:1");
}

#[test]
fn hosts_suffixes_and_networks_are_left_out_and_this_machine_always() {
    for (url, no, is_left_out) in [
        ("wss://r.example", "r.example", true),
        ("wss://a.r.example", "r.example", true),
        ("wss://a.r.example:444", "x, .r.example", true),
        ("wss://a.r.example", "x *.r.example", true),
        ("wss://bar.example", "r.example", false),
        ("wss://R.Example", "r.EXAMPLE", true),
        ("ws://10.1.2.3:80", "10.0.0.0/8", true),
        ("ws://11.1.2.3:80", "10.0.0.0/8", false),
        ("ws://[2001:db8::1]:80", "2001:db8::/32", true),
        ("ws://192.0.2.1", "192.0.2.1", true),
        ("wss://r.example", "*", true),
        ("wss://r.example", "", false),
        ("ws://r.example:8080", "r.example:8080", true),
        ("ws://a.r.example:8080", "x:1 *.r.example:8080", true),
        ("ws://r.example:8081", "r.example:8080", false),
        ("ws://r.example:8081", "r.example:8080,r.example:8081", true),
        ("wss://r.example", "r.example:443", true),
        ("ws://r.example", "r.example:443", false),
        ("ws://192.0.2.1:8080", "192.0.2.1:8080", true),
        ("ws://[2001:db8::1]:8080", "[2001:db8::1]:8080", true),
        ("ws://[2001:db8::1]:8081", "[2001:db8::1]:8080", false),
        ("ws://[2001:db8::1]:8080", "[2001:db8::1]", true),
        ("ws://[2001:db8::1]:8080", "2001:db8::1", true),
        ("ws://r.example:8080", "r.example:http", false),
        ("ws://[2001:db8::1]:8080", "[2001:db8::1]8080", false),
        ("wss://r.example", ":443", false),
        ("wss://r.example", "*:443", true),
        ("ws://127.0.0.2:8080", "", true),
        ("ws://0.0.0.0:8080", "", true),
        ("ws://localhost:8080", "", true),
        ("wss://a.localhost", "", true),
        ("ws://[::1]:8080", "", true),
    ] {
        let proxy = host(url, &[("ALL_PROXY", "http://p:1"), ("NO_PROXY", no)]);
        assert_eq!(proxy.is_none(), is_left_out, "{url} with {no:?}: {proxy:?}");
    }
}

#[test]
fn a_kind_that_is_not_spoken_is_an_error_and_repeats_no_password() {
    for value in
        ["socks5://u:secret@p:1", "https://u:secret@p:1", "ftp://u:secret@p", "http://u:sec ret@"]
    {
        let error = found("wss://r.example", &[("HTTPS_PROXY", value)]).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("HTTPS_PROXY") && text.contains("http://"), "{text}");
        assert!(!text.contains("secret") && !text.contains("sec ret"), "{text}");
    }
    let proxy = found("wss://r.example", &[("HTTPS_PROXY", "http://Aladdin:open%20sesame@p:1")]);
    let proxy = proxy.unwrap().unwrap();
    assert!(!format!("{proxy} {proxy:?}").contains("QWxh"));
    assert_eq!(proxy.login.unwrap().reveal(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

/// What comes of a proxy's answer, and what it was asked.
async fn asked(proxy: &str, answer: &'static str) -> (Result<(), String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    let proxy = found("wss://r.example", &[("HTTPS_PROXY", proxy)]).unwrap().unwrap();
    let answering = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(far.read_u8().await.unwrap());
        }
        far.write_all(answer.as_bytes()).await.unwrap();
        drop(far);
        String::from_utf8(head).unwrap()
    };
    let (outcome, head) = tokio::join!(proxy.tunnel(&mut stream, "r.example:443"), answering);
    (outcome.map_err(|error| error.to_string()), head)
}

#[tokio::test]
async fn a_tunnel_is_asked_for_and_a_refusal_says_who_refuses_and_what_to_do() {
    let (outcome, head) =
        asked("http://a:b@p:3128", "HTTP/1.0 200 Connection established\r\n\r\n").await;
    assert_eq!(outcome, Ok(()));
    let expected = "CONNECT r.example:443 HTTP/1.1\r\nHost: r.example:443\r\n\
                    Proxy-Authorization: Basic YTpi\r\n\r\n";
    assert_eq!(head, expected);
    for (proxy, answer, says) in [
        (
            "http://p:3128",
            "407 No\r\nProxy-Authenticate: Basic realm=x",
            "http://name:password@p:3128",
        ),
        ("http://a:b@p", "407 No\r\nProxy-Authenticate: Basic realm=x", "does not take the name"),
        ("http://a:b@p", "407 No\r\nProxy-Authenticate: NTLM", "NTLM alone"),
        ("http://a:b@p", "401 Unauthorized", "does not take the name"),
        ("http://p:3128", "403 No", "port 443 alone"),
        ("http://p:3128", "502 No", "does not reach r.example:443"),
    ] {
        let answer = format!("HTTP/1.1 {answer}\r\n\r\n");
        let (outcome, _) = asked(proxy, answer.leak()).await;
        let why = outcome.unwrap_err();
        assert!(why.contains("the proxy p:") && why.contains("(HTTPS_PROXY)"), "{why}");
        assert!(why.contains(says), "{why}");
    }
    let (outcome, _) = asked("http://p:3128", "SSH-2.0-OpenSSH_9.9\r\n").await;
    assert!(outcome.unwrap_err().contains("does not answer as an HTTP proxy"));
    // An alert that the first message was none of TLS.
    let (outcome, _) = asked("http://p:3128", "\x15\x03\x01\0\x02\x02\x0a").await;
    let why = outcome.unwrap_err();
    assert!(why.contains("the proxy p:3128") && why.contains("only proxies at http://"), "{why}");
    assert!(!why.contains("https://"), "{why}");
}
