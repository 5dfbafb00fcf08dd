//! Two servers over TLS: keys, signatures, notaries, egress rules, limits.

use std::time::Duration;

use axum::{Router, routing::get};
use http::{Method, StatusCode, header};
use rhizome_federation::{
    FederationConfig, Outbound,
    keys::Wanted,
    outbound::{Limits, OutboundError},
    query,
};
use rhizome_protocol::receive::{KeyLookup, Keys as _};
use ruma::OwnedServerName;

use crate::support::{Ca, Server, bind, config, key, listen, watch};

pub const VERSION: &str = "/_matrix/federation/v1/version";

#[tokio::test]
async fn two_servers_fetch_each_others_keys_and_sign_their_requests() {
    let ca = Ca::new();
    let a = Server::start("localhost", 1, &ca, config(Some(&ca))).await;
    let b = Server::start("127.0.0.1", 2, &ca, config(Some(&ca))).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        let found = from.fed.keys().current_key(&to.name, to.key.key_id()).await;
        assert_eq!(found, Some(to.key.public()));
        assert_eq!(
            from.fed.keys().current_key(&to.name, "ed25519:other").await,
            None
        );
        // A signed request gets through to the handler, which knows no such user.
        let user = ruma::UserId::parse(format!("@nobody:{}", to.name)).unwrap();
        let error = query::profile(&from.fed, &user, None).await.unwrap_err();
        assert_eq!(
            (error.status, &*error.errcode),
            (StatusCode::NOT_FOUND, "M_NOT_FOUND")
        );
        let (name, version) = query::version(&from.fed, &to.name).await.unwrap();
        assert_eq!(name.as_deref(), Some("Rhizome"));
        assert!(version.is_some());
    }
}

#[tokio::test]
async fn a_forged_signature_is_refused() {
    let ca = Ca::new();
    let a = Server::start("localhost", 1, &ca, config(Some(&ca))).await;
    let b = Server::start("127.0.0.1", 2, &ca, config(Some(&ca))).await;
    let target = format!(
        "/_matrix/federation/v1/query/profile?user_id=%40nobody%3A{}",
        b.name
    );
    let ask = async |name: &OwnedServerName, seed| {
        let forger = Outbound::new(name.clone(), key(seed), &config(Some(&ca))).unwrap();
        forger
            .call(&b.name, Method::GET, &target, None, Limits::default())
            .await
            .unwrap_err()
    };
    // A's name with A's key id, but another seed.
    let forged = rhizome_protocol::sign::KeyPair::from_seed("k1", &[9; 32]).unwrap();
    let forger = Outbound::new(a.name.clone(), forged, &config(Some(&ca))).unwrap();
    let error = forger
        .call(&b.name, Method::GET, &target, None, Limits::default())
        .await;
    assert_eq!(error.unwrap_err().status(), Some(StatusCode::UNAUTHORIZED));
    // A's name with a key that A doesn't have.
    assert_eq!(
        ask(&a.name, 7).await.status(),
        Some(StatusCode::UNAUTHORIZED)
    );
    // B's own name.
    let (listener, address) = bind().await;
    drop(listener);
    let nobody: OwnedServerName = format!("localhost:{}", address.port()).try_into().unwrap();
    assert_eq!(
        ask(&nobody, 7).await.status(),
        Some(StatusCode::UNAUTHORIZED)
    );
    // The true one.
    assert_eq!(ask(&a.name, 1).await.status(), Some(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn keys_come_from_a_notary_when_the_server_is_gone() {
    let ca = Ca::new();
    let notary = Server::start("localhost", 3, &ca, config(Some(&ca))).await;
    let mut gone = Server::start("127.0.0.1", 2, &ca, config(Some(&ca))).await;
    assert!(
        notary
            .fed
            .keys()
            .current_key(&gone.name, gone.key.key_id())
            .await
            .is_some()
    );
    gone.listening.take().unwrap().stop().await;

    let alone = Server::start("localhost", 4, &ca, config(Some(&ca))).await;
    assert_eq!(
        alone
            .fed
            .keys()
            .current_key(&gone.name, gone.key.key_id())
            .await,
        None
    );

    let trusting = FederationConfig {
        trusted_key_servers: vec![notary.name.clone()],
        ..config(Some(&ca))
    };
    let asking = Server::start("localhost", 5, &ca, trusting).await;
    let wanted = Wanted {
        server: gone.name.clone(),
        key_id: gone.key.key_id().to_owned(),
        valid_at: 1000,
    };
    let gathered = asking.fed.keys().prefetch(&[wanted]).await;
    let found = gathered.key(&gone.name, gone.key.key_id(), 1000);
    assert_eq!(found, KeyLookup::Found(gone.key.public()));
    assert_eq!(
        gathered.key(&gone.name, "ed25519:other", 1000),
        KeyLookup::Expired
    );
    assert_eq!(
        gathered.key(&notary.name, "ed25519:k3", 1000),
        KeyLookup::Unknown
    );
}

#[tokio::test]
async fn unknown_endpoints_and_bad_requests_get_matrix_errors() {
    let ca = Ca::new();
    let a = Server::start("localhost", 1, &ca, config(Some(&ca))).await;
    let b = Server::start("127.0.0.1", 2, &ca, config(Some(&ca))).await;
    let call = async |method: Method, target: &str| {
        let answer = a
            .fed
            .outbound()
            .call(&b.name, method, target, None, Limits::default())
            .await;
        match answer.unwrap_err() {
            OutboundError::Remote(error) => (error.status.as_u16(), error.errcode.to_string()),
            other => panic!("{other}"),
        }
    };
    let unrecognized = |status| (status, "M_UNRECOGNIZED".to_owned());
    assert_eq!(
        call(Method::GET, "/_matrix/federation/v1/nothing").await,
        unrecognized(404)
    );
    assert_eq!(call(Method::DELETE, VERSION).await, unrecognized(405));
    let profile = "/_matrix/federation/v1/query/profile";
    assert_eq!(
        call(Method::GET, profile).await,
        (400, "M_MISSING_PARAM".to_owned())
    );
    let bad = format!("{profile}?user_id=nobody");
    assert_eq!(
        call(Method::GET, &bad).await,
        (400, "M_INVALID_PARAM".to_owned())
    );
    let foreign = format!("{profile}?user_id=%40a%3Aelsewhere.example");
    assert_eq!(call(Method::GET, &foreign).await.0, 400);
}

#[tokio::test]
async fn private_ranges_are_denied_by_default() {
    let ca = Ca::new();
    let b = Server::start("127.0.0.1", 2, &ca, config(Some(&ca))).await;
    let port = b.name.port().unwrap();
    let closed = FederationConfig {
        allowed_ranges: Vec::new(),
        ..config(Some(&ca))
    };
    let outbound = Outbound::new("a.example".try_into().unwrap(), key(1), &closed).unwrap();
    for name in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
    ] {
        let name: OwnedServerName = name.try_into().unwrap();
        let error = outbound
            .call(&name, Method::GET, VERSION, None, Limits::default())
            .await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("range"), "{name}: {error}");
    }
    let open = Outbound::new("a.example".try_into().unwrap(), key(1), &config(Some(&ca))).unwrap();
    open.call(&b.name, Method::GET, VERSION, None, Limits::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unknown_authority_and_a_wrong_name_are_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let b = Server::start("127.0.0.1", 2, &ca, config(Some(&ca))).await;
    let outbound = Outbound::new(
        "a.example".try_into().unwrap(),
        key(1),
        &config(Some(&other)),
    )
    .unwrap();
    let error = outbound
        .call(&b.name, Method::GET, VERSION, None, Limits::default())
        .await;
    assert!(error.unwrap_err().is_unreachable());

    // A certificate of the right authority for another name.
    let (listener, address) = bind().await;
    let _listening = listen(listener, ca.acceptor(&["elsewhere.example"]), Router::new());
    let outbound =
        Outbound::new("a.example".try_into().unwrap(), key(1), &config(Some(&ca))).unwrap();
    let name: OwnedServerName = address.to_string().try_into().unwrap();
    let error = outbound
        .call(&name, Method::GET, VERSION, None, Limits::default())
        .await;
    assert!(error.unwrap_err().is_unreachable());
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_time_and_redirects_are_not_followed() {
    let ca = Ca::new();
    let (listener, address) = bind().await;
    let router = Router::new()
        .route("/big", get(async || "x".repeat(100_000)))
        .route("/slow", get(async || std::future::pending::<()>().await))
        .route(
            "/redirect",
            get(async || (StatusCode::FOUND, [(header::LOCATION, "/big")], "")),
        )
        .route(
            "/host",
            get(async |headers: http::HeaderMap| {
                headers[header::HOST].to_str().unwrap().to_owned()
            }),
        );
    let _listening = listen(listener, ca.acceptor(&["localhost"]), router);
    let outbound =
        Outbound::new("a.example".try_into().unwrap(), key(1), &config(Some(&ca))).unwrap();
    let name: OwnedServerName = format!("localhost:{}", address.port()).try_into().unwrap();
    let call = async |target: &str, timeout, max_body| {
        let limits = Limits {
            timeout: Some(Duration::from_millis(timeout)),
            max_body,
        };
        outbound
            .call(&name, Method::GET, target, None, limits)
            .await
    };
    assert_eq!(call("/big", 5000, 100_000).await.unwrap().len(), 100_000);
    assert!(matches!(
        call("/big", 5000, 99_999).await,
        Err(OutboundError::Answer(_))
    ));
    assert!(matches!(
        call("/slow", 200, 1000).await,
        Err(OutboundError::Timeout)
    ));
    assert!(matches!(
        call("/redirect", 5000, 1 << 20).await,
        Err(OutboundError::Answer(_))
    ));
    assert_eq!(call("/host", 5000, 1000).await.unwrap(), name.as_str());
    let itself = Outbound::new(name.clone(), key(1), &config(Some(&ca))).unwrap();
    let error = itself
        .call(&name, Method::GET, "/host", None, Limits::default())
        .await;
    assert!(matches!(error, Err(OutboundError::Request(_))));
}

#[tokio::test]
async fn malformed_and_oversized_requests_get_the_specified_errors() {
    let ca = Ca::new();
    let a = Server::start("localhost", 1, &ca, config(Some(&ca))).await;
    let post = async |body: String| {
        let request = http::Request::post("/_matrix/key/v2/query")
            .header(header::CONTENT_TYPE, "application/json")
            .body(axum::body::Body::from(body))
            .unwrap();
        let response = tower::ServiceExt::oneshot(watch().over(a.fed.router()), request)
            .await
            .unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
        (
            status,
            body["errcode"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let deep = format!(
        r#"{{"server_keys":{}1{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let many: Vec<String> = (0..101)
        .map(|n| format!(r#""s{n}.example":{{}}"#))
        .collect();
    for (body, status, errcode) in [
        ("{".to_owned(), 400, "M_NOT_JSON"),
        ("not json".to_owned(), 400, "M_NOT_JSON"),
        ("[]".to_owned(), 400, "M_BAD_JSON"),
        (r#"{"server_keys":1}"#.to_owned(), 400, "M_BAD_JSON"),
        ("{}".to_owned(), 400, "M_BAD_JSON"),
        (
            r#"{"server_keys":{"not a name":{}}}"#.to_owned(),
            400,
            "M_BAD_JSON",
        ),
        (deep, 400, ""),
        (
            format!(r#"{{"server_keys":{{{}}}}}"#, many.join(",")),
            413,
            "M_TOO_LARGE",
        ),
        (" ".repeat(3 << 20), 413, "M_TOO_LARGE"),
        (r#"{"server_keys":{}}"#.to_owned(), 200, ""),
    ] {
        let start: String = body.chars().take(60).collect();
        let answer = post(body).await;
        assert_eq!(answer.0, status, "{start}");
        assert!(answer.1.starts_with(errcode), "{start}: {}", answer.1);
    }
}

#[tokio::test]
async fn hostile_authorization_headers_are_refused() {
    let ca = Ca::new();
    let a = Server::start("localhost", 1, &ca, config(Some(&ca))).await;
    let get = async |authorization: Option<&[u8]>| {
        let mut request =
            http::Request::get("/_matrix/federation/v1/query/profile?user_id=%40a%3Ab");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        let router = watch().over(a.fed.router());
        tower::ServiceExt::oneshot(router, request)
            .await
            .unwrap()
            .status()
    };
    let huge = format!("X-Matrix origin=\"{}\"", "a".repeat(100_000));
    let stranger = format!(
        "X-Matrix origin=\"localhost:1\",destination=\"{}\",key=\"ed25519:a\",sig=\"{}\"",
        a.name,
        "A".repeat(86)
    );
    for value in [
        None,
        Some(&b""[..]),
        Some(b"X-Matrix"),
        Some(b"X-Matrix "),
        Some(b"Bearer token"),
        Some(b"X-Matrix \xff\xfe"),
        Some(b"X-Matrix origin=\"\\\\\\"),
        Some(huge.as_bytes()),
        Some(stranger.as_bytes()),
    ] {
        assert_eq!(get(value).await, StatusCode::UNAUTHORIZED);
    }
}
