use base64::Engine as _;
use rhizome_protocol::sign::KeyPair;
use ruma::server_name;

use super::*;

fn sig() -> String {
    BASE64.encode([7u8; 64])
}

fn parse(parameters: &str) -> Result<Option<XMatrix>, &'static str> {
    XMatrix::parse(&format!("X-Matrix {}", parameters.replace("SIG", &sig())))
}

#[test]
fn every_spelling_of_the_same_header() {
    let expected = XMatrix {
        origin: server_name!("a.example:8448").to_owned(),
        destination: Some(server_name!("b.example").to_owned()),
        key_id: "ed25519:key1".to_owned(),
        signature: [7; 64],
    };
    for spelling in [
        r#"origin="a.example:8448",destination="b.example",key="ed25519:key1",sig="SIG""#,
        r#"origin=a.example:8448,destination=b.example,key=ed25519:key1,sig="SIG""#,
        r"origin=a.example:8448,destination=b.example,key=ed25519:key1,sig=SIG",
        "  sig=\"SIG\" ,\t key=\"ed25519:key1\"\t,DESTINATION=\"b.example\", Origin=\"a.example:8448\"  ",
        r#"origin="a\.example:8448",destination="b.exampl\e",key="ed25519:key1",sig="SIG""#,
        r#"origin="a.example:8448",destination="b.example",key="ed25519:key1",sig="SIG==",x="y",z=1"#,
        r#"origin="a.example:8448",,destination="b.example",key="ed25519:key1",sig="SIG","#,
    ] {
        assert_eq!(parse(spelling), Ok(Some(expected.clone())), "{spelling}");
    }
    assert!(XMatrix::parse("x-matrix origin=a").is_err());
}

#[test]
fn hostile_headers_are_refused() {
    for hostile in [
        "",
        "=",
        "origin",
        "origin=",
        "origin=\"",
        "origin=\"a",
        "origin=\"a\\",
        r#"origin="a.example"destination="b.example",key="ed25519:k",sig="SIG""#,
        r#"origin="a.example",origin="c.example",key="ed25519:k",sig="SIG""#,
        r#"origin="a.example",ORIGIN="a.example",key="ed25519:k",sig="SIG""#,
        r#"origin="not a name",key="ed25519:k",sig="SIG""#,
        r#"origin="a.example/x",key="ed25519:k",sig="SIG""#,
        r#"origin="",key="ed25519:k",sig="SIG""#,
        r#"origin="a.example",key="rsa:k",sig="SIG""#,
        r#"origin="a.example",key="ed25519:",sig="SIG""#,
        r#"origin="a.example",key="ed25519:k",sig="AAAA""#,
        r#"origin="a.example",key="ed25519:k",sig="!!!""#,
        r#"origin="a.example",key="ed25519:k""#,
        r#"origin="a.example",sig="SIG""#,
        r#"key="ed25519:k",sig="SIG""#,
        r#"origin=a b,key="ed25519:k",sig="SIG""#,
    ] {
        assert!(parse(hostile).is_err(), "{hostile}");
    }
    assert!(parse(&format!("origin=\"{}\"", "a".repeat(5000))).is_err());
    assert_eq!(XMatrix::parse("Bearer abc"), Ok(None));
    assert_eq!(XMatrix::parse("X-Matrix"), Ok(None));
}

fn request(headers: &[&str]) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    for header in headers {
        map.append(http::header::AUTHORIZATION, header.parse().unwrap());
    }
    map
}

#[test]
fn destination_and_origin_are_checked() {
    let us = server_name!("b.example");
    let with = |parameters: &str| {
        let header = format!("X-Matrix key=\"ed25519:k\",sig=\"{}\",{parameters}", sig());
        signatures(&request(&[&header]), us)
    };
    assert!(with(r#"origin="a.example",destination="b.example""#).is_ok());
    assert!(with(r#"origin="a.example",destination="B.example""#).is_ok());
    assert!(with(r#"origin="a.example""#).is_ok());
    for bad in [
        r#"origin="a.example",destination="c.example""#,
        r#"origin="a.example",destination="b.example:8448""#,
        r#"origin="b.example",destination="b.example""#,
    ] {
        assert_eq!(
            with(bad).unwrap_err().status,
            http::StatusCode::UNAUTHORIZED,
            "{bad}"
        );
    }
    assert!(signatures(&request(&[]), us).is_err());
    assert!(signatures(&request(&["Bearer x"]), us).is_err());
}

#[test]
fn several_keys_but_one_origin() {
    let us = server_name!("b.example");
    let header = |origin: &str, key: &str| {
        format!(
            "X-Matrix origin=\"{origin}\",key=\"ed25519:{key}\",sig=\"{}\"",
            sig()
        )
    };
    let (one, two) = (header("a.example", "1"), header("a.example", "2"));
    assert_eq!(signatures(&request(&[&one, &two]), us).unwrap().len(), 2);
    let other = header("c.example", "2");
    assert!(signatures(&request(&[&one, &other]), us).is_err());
}

#[test]
fn the_signed_text_is_canonical() {
    let body = br#"{ "b": [1.5, 1e16, {"z": 1, "a": "\u00e9\u0000"}], "a": null }"#;
    let uri = "/_matrix/federation/v1/send/1?a=b%20c";
    let readings: Vec<String> = Signed::readings("PUT", uri, body)
        .map(|signed| signed.unwrap().text(server_name!("o"), server_name!("d")))
        .collect();
    let expected = |content: &str| {
        format!(
            "{{\"content\":{content},\"destination\":\"d\",\"method\":\"PUT\",\"origin\":\"o\",\
             \"uri\":\"{uri}\"}}"
        )
    };
    let with_number = |number: &str| {
        let content = format!(r#"{{"a":null,"b":[1.5,{number},{{"a":"é\u0000","z":1}}]}}"#);
        expected(&content)
    };
    let as_it_came = expected(std::str::from_utf8(body).unwrap());
    assert_eq!(
        readings,
        [as_it_came, with_number("1e16"), with_number("1e+16")]
    );
    let without = Signed::readings("GET", uri, b"").next().unwrap().unwrap();
    assert_eq!(without.into_content(), None);
}

/// What an event must not be is no matter of the request's signature.
#[test]
fn odd_events_are_signed_as_they_are() {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    for odd in [
        &*deep,
        "123456789012345678901234567890",
        "1e400",
        "\"\\ud800\"",
        "-0.50",
    ] {
        let body = format!("{{\"pdus\":[{{\"a\":{odd}}}]}}");
        let signed = Signed::new("PUT", "/", body.as_bytes()).unwrap();
        assert_eq!(signed.into_content().unwrap(), body);
    }
    let twice = br#"{"pdus":[{"a":1,"a":2}]}"#;
    assert!(Signed::new("PUT", "/", twice).is_ok());
    for bad in [&b"[]"[..], b"1", b"{", b"{\"a\":\"\xff\"}"] {
        assert!(Signed::new("PUT", "/", bad).is_err());
    }
}

#[test]
fn signing_and_verifying_agree() {
    let key = KeyPair::from_seed("x", &[1; 32]).unwrap();
    let (a, b) = (server_name!("a.example"), server_name!("b.example:1"));
    let body = br#"{"pdus":[],"x":"\u20ac"}"#;
    let signed = Signed::new("PUT", "/p?q=1", body).unwrap();
    let header = XMatrix::parse(&signed.header(a, b, &key)).unwrap().unwrap();
    let public = key.public();
    assert!(header.verifies(&public, b, &signed));
    // Without a destination in the header, the receiver's own name is what was signed.
    let bare = XMatrix {
        destination: None,
        ..header.clone()
    };
    assert!(bare.verifies(&public, b, &signed));
    assert!(!bare.verifies(&public, a, &signed));
    for other in [
        Signed::new("POST", "/p?q=1", body).unwrap(),
        Signed::new("PUT", "/p?q=2", body).unwrap(),
        Signed::new("PUT", "/p?q=1", b"{}").unwrap(),
        Signed::new("PUT", "/p?q=1", b"").unwrap(),
    ] {
        assert!(!header.verifies(&public, b, &other));
    }
    let mut forged = header.clone();
    forged.signature[3] ^= 1;
    assert!(!forged.verifies(&public, b, &signed));
    assert!(!header.verifies(&[9; 32], b, &signed));
}
