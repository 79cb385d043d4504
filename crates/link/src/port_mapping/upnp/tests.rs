use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const LOCAL: NonZeroU16 = NonZeroU16::new(8081).unwrap();
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const FIRST: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
const ROUTE: Route = Route { router: Ipv4Addr::LOCALHOST, own: Ipv4Addr::new(127, 0, 0, 9) };

/// A device that answers each request, of which it is given the action or the target, and hands the requests on.
struct Device {
    root: Url,
    asked: UnboundedReceiver<String>,
    _serving: JoinSet<()>,
}

impl Device {
    async fn new(mut answer: impl FnMut(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind((ROUTE.router, 0)).await.unwrap();
        let root = format!("http://{}/root.xml", listener.local_addr().unwrap());
        let (told, asked) = unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) {
                    assert_ne!(
                        stream.read_buf(&mut request).await.unwrap(),
                        0,
                        "the whole request"
                    );
                }
                let request = String::from_utf8(request).unwrap();
                let action = request.split_once('#').map(|(_, rest)| rest.split('"').next());
                let target = request.split(' ').nth(1);
                let answer = answer(action.flatten().or(target).unwrap());
                told.send(request).unwrap();
                // A client that has read enough closes the connection.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { root: root.parse().unwrap(), asked, _serving: serving }
    }

    fn connection(&self, kind: &'static str) -> Connection {
        Connection { route: ROUTE, kind, control: self.root.join("/ctl").unwrap() }
    }

    /// The actions that it was called for.
    fn actions(&mut self) -> Vec<String> {
        let mut actions = Vec::new();
        while let Ok(request) = self.asked.try_recv() {
            let action = request.split_once('#').unwrap().1.split('"').next();
            actions.push(action.unwrap().to_owned());
        }
        actions
    }
}

fn is_whole(request: &[u8]) -> bool {
    let ends = if request.starts_with(b"GET") { &b"\r\n\r\n"[..] } else { b"</s:Envelope>" };
    request.ends_with(ends)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn done(action: &str, content: &str) -> String {
    http(
        "200 OK",
        &format!(
            "<s:Envelope xmlns:s=\"s\"><s:Body><u:{action}Response xmlns:u=\"u\">{content}</u:{action}Response></s:Body></s:Envelope>"
        ),
    )
}

fn address(ip: Ipv4Addr) -> String {
    done("GetExternalIPAddress", &format!("<NewExternalIPAddress>{ip}</NewExternalIPAddress>"))
}

fn refused(code: u16) -> String {
    let fault = format!(
        "<s:Envelope xmlns:s=\"s\"><s:Body><s:Fault><detail><UPnPError><errorCode>{code}</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    );
    http("500 Internal Server Error", &fault)
}

#[tokio::test]
async fn a_device_is_asked_where_it_says() {
    let description = format!(
        "<root><service><serviceType>{FIRST}</serviceType><controlURL>/a?b=1</controlURL></service></root>"
    );
    let mut device = Device::new(move |asked| match asked {
        "/root.xml" => http("200 OK", &description),
        "GetExternalIPAddress" => address(OUTSIDE),
        action => done(action, ""),
    })
    .await;
    let connection = Connection::described(&device.root, ROUTE).await.unwrap();
    let external = connection.open(LOCAL, None).await.unwrap();
    assert!(*external.ip() == OUTSIDE && PORTS.contains(&external.port()), "{external}");
    let description = device.asked.recv().await.unwrap();
    assert!(description.starts_with("GET /root.xml HTTP/1.1\r\n"), "{description}");
    device.asked.recv().await.unwrap();
    let request = device.asked.recv().await.unwrap();
    assert!(request.starts_with("POST /a?b=1 HTTP/1.1\r\n"), "{request}");
    let told = format!(
        "<u:AddPortMapping xmlns:u=\"{FIRST}\"><NewRemoteHost></NewRemoteHost><NewExternalPort>{}</NewExternalPort>\
         <NewProtocol>UDP</NewProtocol><NewInternalPort>8081</NewInternalPort><NewInternalClient>127.0.0.9</NewInternalClient>\
         <NewEnabled>1</NewEnabled>",
        external.port()
    );
    assert!(request.contains(&told), "{request}");
    assert!(request.contains("<NewLeaseDuration>3600</NewLeaseDuration>"), "{request}");
}

#[tokio::test]
async fn a_device_that_chooses_a_port_tells_which() {
    let mut device = Device::new(|action| match action {
        "GetExternalIPAddress" => address(OUTSIDE),
        "AddAnyPortMapping" => done(action, "<NewReservedPort>1234</NewReservedPort>"),
        action => done(action, ""),
    })
    .await;
    let connection = device.connection(xml::CHOOSING);
    let external = connection.open(LOCAL, None).await.unwrap();
    assert_eq!(external, SocketAddrV4::new(OUTSIDE, 1234));
    let again = connection.open(LOCAL, Some(1234)).await.unwrap();
    assert_eq!(again, external);
    connection.close(1234).await.unwrap();
    let [ask, any, add, delete] =
        ["GetExternalIPAddress", "AddAnyPortMapping", "AddPortMapping", "DeletePortMapping"];
    assert_eq!(device.actions(), [ask, any, ask, add, delete]);
}

#[tokio::test]
async fn ports_that_are_taken_are_not_tried_for_ever() {
    let mut tries = 0;
    let mut device = Device::new(move |action| match action {
        "GetExternalIPAddress" => address(OUTSIDE),
        "AddPortMapping" => {
            tries += 1;
            if tries == PORTS_TRIED + 1 { done(action, "") } else { refused(718) }
        }
        _ => refused(401),
    })
    .await;
    let connection = device.connection(xml::CHOOSING);
    let external = connection.open(LOCAL, None).await.unwrap();
    assert_eq!(external.port(), LOCAL.get(), "the last one that is tried");
    let failure = connection.open(LOCAL, None).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused(718)), "{failure}");
    assert_eq!(device.actions().len(), 2 * (1 + 1 + PORTS_TRIED + 1));
}

#[tokio::test]
async fn no_port_is_opened_where_nobody_could_come_in() {
    for nowhere in [[0; 4], [192, 168, 1, 1], [127, 0, 0, 1], [239, 0, 0, 1], [255; 4]] {
        let mut device = Device::new(move |_| address(nowhere.into())).await;
        let opened = device.connection(FIRST).open(LOCAL, None).await;
        assert!(matches!(opened, Err(Failure::Unreachable(_))), "{opened:?}");
        assert_eq!(device.actions(), ["GetExternalIPAddress"]);
    }
}

#[tokio::test]
async fn odd_answers_open_no_port() {
    let odd = [
        String::new(),
        "HTTP/9\r\n\r\n".to_owned(),
        http("200 OK", ""),
        http("200 OK", "<html><body>Please log in.</body></html>"),
        "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        done("AddAnyPortMapping", "<NewReservedPort>0</NewReservedPort>"),
        done("AddAnyPortMapping", "<NewReservedPort>65536</NewReservedPort>"),
        done("AddAnyPortMapping", ""),
        done("AnyPortMapping", "<NewReservedPort>1234</NewReservedPort>"),
        http("200 OK", &format!("{}<errorCode>x</errorCode>", "<a>".repeat(10_000))),
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<".to_owned(),
    ];
    for odd in odd {
        let said = odd.clone();
        let device = Device::new(move |action| match action {
            "GetExternalIPAddress" => address(OUTSIDE),
            _ => said.clone(),
        })
        .await;
        let opened = device.connection(xml::CHOOSING).open(LOCAL, None).await;
        assert!(opened.is_err(), "{opened:?} by {odd}");
        let described = Connection::described(&device.root, ROUTE).await;
        assert!(described.is_err(), "{described:?} by {odd}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_to_it() {
    let answer = |bytes: usize| {
        let text = "x".repeat(bytes);
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{text}\r\n0\r\n\r\n"
        )
    };
    for (bytes, is_read) in [(ANSWER_BYTES_MAX, true), (ANSWER_BYTES_MAX + 1, false)] {
        let device = Device::new(move |_| answer(bytes)).await;
        let request = Request::get(target(&device.root));
        let body = exchange(&device.root, request, String::new()).await;
        assert_eq!(body.is_ok_and(|body| body.len() == bytes), is_read, "{bytes}");
    }
}
