use super::super::finding::Level;
use super::*;

const NAME: &str = "a.example";

fn address() -> SocketAddr {
    "1.2.3.4:8448".parse().unwrap()
}

fn shown(fault: Option<CertificateError>) -> Shown {
    let issued = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    Shown {
        certificate: issued.cert.der().clone(),
        fault: fault.map(TlsError::InvalidCertificate),
    }
}

type Answer = Result<Response<Bytes>, String>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is among answers that are errors"
)]
fn answer(status: u16, body: &str) -> Answer {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

#[test]
fn where_this_machine_has_no_way_nothing_is_wrong_with_the_server() {
    let unconnected = |has_no_way| Unconnected {
        why: "no route".to_owned(),
        has_no_way,
    };
    for (outcome, level) in [
        (Ok(()), Level::Ok),
        (Err(unconnected(true)), Level::Note),
        (Err(unconnected(false)), Level::Bad),
    ] {
        assert_eq!(connection(address(), &outcome).level, level, "{outcome:?}");
    }
    assert_eq!(no_way().level, Level::Bad);
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_with_its_remedy() {
    for (fault, what, remedy) in [
        (CertificateError::Expired, "has ended", "renew it"),
        (CertificateError::NotValidYet, "isn't valid yet", "clocks"),
        (
            CertificateError::NotValidForName,
            "isn't for a.example",
            "m.server",
        ),
        (CertificateError::UnknownIssuer, "nobody", "fullchain.pem"),
        (
            CertificateError::BadSignature,
            "isn't good",
            "public authority",
        ),
    ] {
        let finding = tls(address(), NAME, Some(&shown(Some(fault))), Err("no"), 0);
        assert_eq!(finding.level, Level::Bad);
        assert!(finding.what.contains(what), "{finding:?}");
        assert!(finding.remedy.contains(remedy), "{finding:?}");
    }
    let none = tls(address(), NAME, None, Err("no TLS"), 0);
    assert_eq!(none.level, Level::Bad);
    assert!(none.what.contains("no TLS"), "{none:?}");
}

#[test]
fn a_good_certificate_is_told_with_its_end() {
    let shown = shown(None);
    let end = certificate::ends(&shown.certificate).unwrap();
    let at = |now| tls(address(), NAME, Some(&shown), Ok(()), now);
    let long = at(end - 100 * 86_400);
    assert_eq!(long.level, Level::Ok);
    assert!(long.what.contains("100 days"), "{long:?}");
    assert_eq!(at(end - 86_400).level, Level::Note);
}

#[test]
fn who_answers_otherwise_than_a_server_is_told_from_one() {
    let fine = version(
        address(),
        &answer(
            200,
            r#"{"server":{"name":"Dendrite\u001b[1m","version":"1"}}"#,
        ),
    );
    assert_eq!(fine.level, Level::Ok);
    assert!(fine.what.contains("Dendrite"), "{fine:?}");
    assert!(!fine.what.contains('\u{1b}'), "{fine:?}");
    for bad in [
        answer(404, "{}"),
        answer(200, "<html>"),
        answer(200, r#"{"server":1}"#),
        Err("it hung up".to_owned()),
    ] {
        assert_eq!(version(address(), &bad).level, Level::Bad);
    }
}

#[test]
fn clocks_that_are_apart_are_told() {
    let mut headers = HeaderMap::new();
    assert_eq!(clock(&headers, 0), None);
    let date = "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap();
    headers.insert(header::DATE, date);
    let at = |now| clock(&headers, now).unwrap();
    assert_eq!(at(784_111_777 + 30).level, Level::Ok);
    assert!(at(784_111_777 + 90).what.contains("90 seconds behind"));
    assert!(at(784_111_777 - 90).what.contains("90 seconds ahead"));
}

#[test]
fn keys_count_with_their_signature_in_time_and_are_ours() {
    let server: ruma::OwnedServerName = NAME.try_into().unwrap();
    let pair = |id, seed| KeyPair::from_seed(id, &[seed; 32]).unwrap();
    let own = pair("k", 1);
    let object = server_keys::build(&server, &[&own], &[], 1_000).unwrap();
    let text = serde_json::to_string(&object).unwrap();
    let (fine, told) = keys(address(), &server, &answer(200, &text), 999);
    assert_eq!(fine.level, Level::Ok);
    let told = told.unwrap();
    assert_eq!(own_key(&told, &own).level, Level::Ok);
    assert_eq!(own_key(&told, &pair("k", 2)).level, Level::Bad);
    assert_eq!(own_key(&told, &pair("other", 1)).level, Level::Bad);
    assert_eq!(
        keys(address(), &server, &answer(200, &text), 1_001).0.level,
        Level::Bad
    );
    let forged = text.replace("1000", "2000");
    for bad in [answer(200, &forged), answer(502, &text), answer(200, "{}")] {
        let (finding, told) = keys(address(), &server, &bad, 999);
        assert_eq!(finding.level, Level::Bad);
        assert!(told.is_none());
    }
}
