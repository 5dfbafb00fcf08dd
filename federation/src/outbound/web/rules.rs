//! What of a URL can be judged before anybody is asked.

use http::{HeaderValue, StatusCode};
use reqwest::Url;

use super::{Schemes, WebError};
use crate::FederationConfig;

/// The longest URL. Those of object stores, which carry signatures and tokens, have up to three thousand.
const LONGEST: usize = 8 * 1024;

/// Ports on which something else than the web answers: a request there would be somebody else's mail or print job. All
/// others are open, as people do run web servers on them. It is the list that browsers go by
/// (<https://fetch.spec.whatwg.org/#port-blocking>), so whatever a reader can open can be visited here.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080,
];

/// Whether a URL may be visited, as far as it says so itself. It is the parsed URL that is asked, to which `127.1`,
/// `0x7f000001` and `2130706433` are addresses, too.
pub(super) fn check(
    url: &Url,
    schemes: Schemes,
    config: &FederationConfig,
) -> Result<(), WebError> {
    let refused = |why: &str| Err(WebError::Refused(why.to_owned()));
    match (url.scheme(), schemes) {
        ("https", _) | ("http", Schemes::Any) => {}
        (_, Schemes::Https) => return refused("it isn't https"),
        (_, Schemes::Any) => return refused("it is neither http nor https"),
    }
    if url.as_str().len() > LONGEST {
        return refused("it is too long");
    }
    // Who has to log in doesn't mean us, and a name before an `@` is made to be taken for the host.
    if !url.username().is_empty() || url.password().is_some() {
        return refused("it holds a user's name or password");
    }
    if url.port().is_some_and(|port| BAD_PORTS.contains(&port)) {
        return refused("its port isn't one of the web");
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return refused("it has no host");
    };
    match host.trim_matches(['[', ']']).parse() {
        Ok(ip) if !config.may_connect_to(ip) => {
            refused("its address is in a range that may not be connected to")
        }
        _ => Ok(()),
    }
}

/// Whether an answer sends on elsewhere.
pub(super) fn redirects(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where an answer sends on to; nothing is judged yet.
pub(super) fn redirect(from: &Url, location: Option<&HeaderValue>) -> Result<Url, WebError> {
    let answer = |why: &str| WebError::Answer(why.to_owned());
    let location = location.ok_or_else(|| answer("a redirect without Location"))?;
    let location = std::str::from_utf8(location.as_bytes())
        .map_err(|_| answer("a redirect to what isn't text"))?;
    from.join(location)
        .map_err(|_| answer("a redirect to what isn't a URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(url: &str, schemes: Schemes) -> Result<(), WebError> {
        let url = Url::parse(url).map_err(|error| WebError::Answer(error.to_string()))?;
        check(&url, schemes, &FederationConfig::default())
    }

    #[test]
    fn what_may_be_visited() {
        for url in [
            "https://a.example/",
            "http://a.example:81/x?y#z",
            "https://a.example:8448/",
            "http://a.example:8080/",
            "http://@a.example/",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
            // A name is judged by its addresses, when it is connected to.
            "http://localhost/",
        ] {
            assert_eq!(judge(url, Schemes::Any), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_may_not() {
        let long = format!("https://a.example/{}", "x".repeat(LONGEST));
        for url in [
            "file:///etc/passwd",
            "gopher://a.example/",
            "data:text/html,x",
            "ftp://a.example/",
            "javascript:alert(1)",
            "blob:https://a.example/1",
            "http://",
            "http:///",
            "http://user@a.example/",
            "http://user:password@a.example/",
            "http://:password@a.example/",
            "http://a.example@127.0.0.1/",
            "http://a.example%40b@127.0.0.1/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://0/",
            "http://１２７.０.０.１/",
            "http://127。0。0。1/",
            "http://%31%32%37.0.0.1/",
            "http://10.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[64:ff9b:1::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://a.example:25/",
            "http://a.example:6667/",
            "http://a.example:0/",
            long.as_str(),
        ] {
            assert!(judge(url, Schemes::Any).is_err(), "{url}");
        }
        assert!(judge("http://a.example/", Schemes::Https).is_err());
        assert_eq!(judge("https://a.example/", Schemes::Https), Ok(()));
    }

    #[test]
    fn redirects_lead_anywhere_and_are_judged_there() {
        let from = Url::parse("https://a.example/x/y?z").unwrap();
        let to = |location: &str| {
            let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
            redirect(&from, Some(&location)).map(|url| url.to_string())
        };
        for (location, url) in [
            ("/x?y", "https://a.example/x?y"),
            ("other", "https://a.example/x/other"),
            ("https://b.example:1/x", "https://b.example:1/x"),
            ("//b.example/x", "https://b.example/x"),
            ("\\\\127.0.0.1\\x", "https://127.0.0.1/x"),
            ("/ü", "https://a.example/%C3%BC"),
            ("file:///etc/passwd", "file:///etc/passwd"),
        ] {
            assert_eq!(to(location).unwrap(), url);
        }
        assert!(to("https://").is_err());
        assert!(redirect(&from, None).is_err());
        let odd = HeaderValue::from_bytes(b"/\xff").unwrap();
        assert!(redirect(&from, Some(&odd)).is_err());
    }
}
