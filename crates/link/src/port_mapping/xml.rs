//! What is read of a router's XML. The reader expands no entity but the five that XML knows, and needs no more stack for
//! elements within elements; the length of a text is bounded by whoever has read it.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use url::{Host, Url};

use super::route::Route;

/// The services that open ports. The second version of the first one chooses a free port itself.
pub(super) const CHOOSING: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";
const KINDS: [&str; 3] = [
    CHOOSING,
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// The service that opens ports in the description of a device at `location`: its kind, and where it is asked, which is the
/// router itself.
pub(super) fn service(
    description: &str,
    location: &Url,
    route: Route,
) -> Option<(&'static str, Url)> {
    let (mut base, mut kind, mut path) = (location.clone(), None, None);
    let found = texts(description, |name, text| {
        match name {
            "URLBase" => base = Url::parse(text).unwrap_or_else(|_| location.clone()),
            "service" => (kind, path) = (None, None),
            "serviceType" => kind = KINDS.into_iter().find(|known| *known == text),
            "controlURL" => path = Some(text.to_owned()),
            _ => {}
        }
        Some((kind?, path.take()?))
    });
    let (kind, path) = found?;
    let control = base.join(&path).ok().filter(|control| is_at_the_router(control, route))?;
    Some((kind, control))
}

/// Where the device is described that has answered a search.
pub(super) fn location(answer: &str, route: Route) -> Option<Url> {
    let value = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("location").then(|| value.trim())
    });
    Url::parse(value?).ok().filter(|location| is_at_the_router(location, route))
}

/// Nobody else is asked, whatever an answer says.
fn is_at_the_router(url: &Url, route: Route) -> bool {
    url.scheme() == "http" && url.host() == Some(Host::Ipv4(route.router))
}

/// The text of the first element of this name.
pub(super) fn text_of(xml: &str, wanted: &str) -> Option<String> {
    texts(xml, |name, text| (name == wanted).then(|| text.to_owned()))
}

/// Goes through the elements that end, each with the text before its end, until one gives a result.
fn texts<T>(xml: &str, mut look: impl FnMut(&str, &str) -> Option<T>) -> Option<T> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut text = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(_) => text.clear(),
            Event::Text(part) => text.push_str(&part.xml10_content()),
            Event::CData(part) => text.push_str(&part.xml10_content()),
            Event::GeneralRef(entity) => match entity.resolve_char_ref().ok()? {
                Some(character) => text.push(character),
                None => text.push_str(resolve_predefined_entity(&entity.xml10_content())?),
            },
            Event::End(end) => {
                if let Some(result) = look(end.local_name().as_ref(), text.trim()) {
                    return Some(result);
                }
                text.clear();
            }
            Event::Eof => return None,
            Event::Empty(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ROUTE: Route =
        Route { router: Ipv4Addr::new(192, 168, 1, 1), own: Ipv4Addr::new(192, 168, 1, 9) };

    fn at(description: &str) -> Option<(&'static str, String)> {
        let location = Url::parse("http://192.168.1.1:5000/desc/root.xml").unwrap();
        let (kind, control) = service(description, &location, ROUTE)?;
        Some((kind, control.into()))
    }

    fn described(service: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device><serviceList><service>
            <serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType>
            <controlURL>/other</controlURL></service></serviceList><deviceList><device><serviceList>
            {service}</serviceList></device></deviceList></device></root>"
        )
    }

    fn connection(control: &str) -> String {
        described(&format!(
            "<service><controlURL>{control}</controlURL><SCPDURL>/x</SCPDURL><serviceType> {CHOOSING}\n</serviceType></service>"
        ))
    }

    #[test]
    fn the_service_of_a_connection_is_found_wherever_it_stands() {
        for (control, expected) in [
            ("/ctl/IPConn", "http://192.168.1.1:5000/ctl/IPConn"),
            ("ctl?a=1&amp;b=&#50;", "http://192.168.1.1:5000/desc/ctl?a=1&b=2"),
            ("<![CDATA[/ctl]]>", "http://192.168.1.1:5000/ctl"),
            ("http://192.168.1.1:49000/ctl", "http://192.168.1.1:49000/ctl"),
        ] {
            assert_eq!(
                at(&connection(control)),
                Some((CHOOSING, expected.to_owned())),
                "{control}"
            );
        }
        let based = connection("ctl")
            .replace("<device>", "<URLBase>http://192.168.1.1/a/</URLBase><device>");
        assert_eq!(at(&based), Some((CHOOSING, "http://192.168.1.1/a/ctl".to_owned())));
    }

    #[test]
    fn a_router_leads_to_nobody_else() {
        for control in [
            "http://192.168.1.2/ctl",
            "http://[::ffff:192.168.1.1]/ctl",
            "//192.0.2.1/ctl",
            "http://router.example/ctl",
            "http://192.168.1.1@192.0.2.1/ctl",
            "https://192.168.1.1/ctl",
            "file:///etc/passwd",
        ] {
            assert_eq!(at(&connection(control)), None, "{control}");
            let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: {control}\r\n\r\n");
            assert_eq!(location(&answer, ROUTE), None, "{control}");
        }
    }

    #[test]
    fn the_answer_to_a_search_tells_where_the_device_is_described() {
        let at = |answer: &str| location(answer, ROUTE).map(String::from);
        let answer =
            "HTTP/1.1 200 OK\r\nST: x\r\nLocation:http://192.168.1.1:5000/root.xml \r\n\r\n";
        assert_eq!(at(answer).as_deref(), Some("http://192.168.1.1:5000/root.xml"));
        assert_eq!(at(&answer[..60]).as_deref(), Some("http://192.168.1.1:5000/roo"));
        for odd in
            ["", "Location", "Location:", "X-Location: http://192.168.1.1/", "Location: /root.xml"]
        {
            assert_eq!(at(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn odd_descriptions_have_no_service() {
        let good = connection("/ctl");
        for end in 0..good.find("</serviceType></service></serviceList></device>").unwrap() {
            assert_eq!(at(&good[..end]), None, "{}", &good[..end]);
        }
        for odd in [
            good.replace("WANIPConnection:2", "WANIPConnection:9"),
            good.replace("</controlURL><SCPDURL>", "</controlURL></service><service><SCPDURL>"),
            good.replace("/ctl", "&unknown;"),
            good.replace("/ctl", "&#xffffffff;"),
            good.replace("</SCPDURL>", "</wrong>"),
        ] {
            assert_ne!(odd, good);
            assert_eq!(at(&odd), None, "{odd}");
        }
    }

    #[test]
    fn elements_within_elements_take_no_stack() {
        let deep = "<a>".repeat(1_000_000);
        assert_eq!(text_of(&deep, "b"), None);
        assert_eq!(text_of(&format!("{deep}<b>1</b>"), "b").as_deref(), Some("1"));
    }

    #[test]
    fn entities_of_a_document_are_not_expanded() {
        let bomb =
            "<!DOCTYPE b [<!ENTITY a \"1234567890\"><!ENTITY b \"&a;&a;&a;&a;\">]><b>&b;</b>";
        assert_eq!(text_of(bomb, "b"), None);
        let file = "<!DOCTYPE b [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><b>&a;</b>";
        assert_eq!(text_of(file, "b"), None);
        assert_eq!(text_of("<x:b>&lt;1&gt;</x:b>", "b").as_deref(), Some("<1>"));
    }
}
