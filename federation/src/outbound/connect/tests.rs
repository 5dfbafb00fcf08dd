//! Routes with several places, of which some are of no use.

mod peer;

use tokio::net::TcpListener;

use self::peer::{Manners, NAME, Peer, WELL};
use super::*;
use crate::outbound::{discovery, dns::Dns};

/// An address where nobody is.
async fn gone() -> SocketAddr {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    closed.local_addr().unwrap()
}

/// Connections that trust these peers, and know the hosts of [`route`].
fn connections(peers: &[&Peer]) -> Connections {
    let hosts = ["1", "2", "3"].map(|last| (last, vec![vec![[127, 0, 0, 1].into()]]));
    let both = vec![
        [10, 0, 0, 1].into(),
        [127, 0, 0, 1].into(),
        [127, 0, 0, 2].into(),
    ];
    let dns = Dns::told(hosts.into_iter().chain([("both", vec![both])]));
    let config = FederationConfig {
        extra_ca_pem: peers.iter().map(|peer| peer.pem.clone()).collect(),
        allowed_ranges: vec!["127.0.0.0/8".parse().unwrap()],
        ..FederationConfig::default()
    };
    Connections::over(Dialer::with_dns(&config, dns).unwrap()).unwrap()
}

/// A route with hosts `1`, `2`, … at these ports.
fn route(places: &[SocketAddr]) -> Arc<Route> {
    let records = places.iter().zip(1_u16..);
    let records = records.map(|(place, priority)| discovery::Srv {
        priority,
        weight: 0,
        target: priority.to_string(),
        port: place.port(),
    });
    Arc::new(discovery::by_srv(NAME, records.collect(), 0))
}

fn request(method: Method) -> Request<Option<String>> {
    let body = (method != Method::GET).then(|| "{}".to_owned());
    Request::builder()
        .method(method)
        .uri("/_matrix/x?y")
        .body(body)
        .unwrap()
}

/// The status that comes back, as if from `b.example`.
async fn ask_along(
    connections: &Connections,
    route: &Arc<Route>,
    method: Method,
) -> Result<u16, OutboundError> {
    let to = ruma::server_name!("b.example");
    let answer = connections.along(to, route, request(method)).await?;
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1000).await;
    body.unwrap();
    Ok(status)
}

#[tokio::test]
async fn a_wrong_certificate_and_a_closed_port_lead_to_the_next_target() {
    let wrong = Peer::with(Manners {
        name: "other.example",
        ..WELL
    })
    .await;
    let well = Peer::with(WELL).await;
    let connections = connections(&[&wrong, &well]);
    let route = route(&[wrong.at, gone().await, well.at]);
    // What may not be sent twice, too: nobody has got it.
    for method in [Method::POST, Method::GET, Method::PUT] {
        let asked = ask_along(&connections, &route, method).await;
        assert_eq!(asked.unwrap(), 200);
    }
    // The one that worked is remembered: the first is looked for and asked by the first request alone.
    assert_eq!((wrong.connections(), wrong.requests()), (2, 0));
    assert_eq!(well.requests(), 3);
    let way = connections.way(ruma::server_name!("b.example"));
    assert_eq!(way.held(&route, &[]).unwrap().at, well.at);
}

#[tokio::test]
async fn a_proxy_without_a_server_behind_it_leads_to_the_next_target() {
    let proxy = Peer::with(Manners {
        status: 503,
        body: "<html>",
        ..WELL
    })
    .await;
    let well = Peer::with(WELL).await;
    let connections = connections(&[&proxy, &well]);
    let route = route(&[proxy.at, well.at]);
    // It may have been done.
    let asked = ask_along(&connections, &route, Method::POST).await;
    assert_eq!((asked.unwrap(), well.requests()), (503, 0));
    for _ in 0..3 {
        let asked = ask_along(&connections, &route, Method::PUT).await;
        assert_eq!(asked.unwrap(), 200);
    }
    assert_eq!((proxy.requests(), well.requests()), (2, 3));
}

#[tokio::test]
async fn a_homeserver_that_is_busy_is_there() {
    let busy = Peer::with(Manners {
        status: 503,
        body: r#"{"errcode":"M_UNKNOWN","error":"busy"}"#,
        ..WELL
    })
    .await;
    let well = Peer::with(WELL).await;
    let connections = connections(&[&busy, &well]);
    let route = route(&[busy.at, well.at]);
    let to = ruma::server_name!("b.example");
    let answer = connections.along(to, &route, request(Method::GET)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 503);
    // What it said has been looked at, and is still there.
    let body = axum::body::to_bytes(answer.into_body(), 1000).await;
    assert!(body.unwrap().starts_with(br#"{"errcode""#));
    assert_eq!((busy.requests(), well.requests()), (1, 0));
}

#[tokio::test]
async fn where_nobody_is_anywhere_the_last_reason_is_told_and_all_are_tried_again() {
    let proxy = Peer::with(Manners {
        status: 502,
        body: "",
        ..WELL
    })
    .await;
    let connections = connections(&[&proxy]);
    let route = route(&[proxy.at, gone().await]);
    for requests in 1..3 {
        let asked = ask_along(&connections, &route, Method::GET).await;
        assert!(asked.unwrap_err().is_unreachable());
        assert_eq!(proxy.requests(), requests);
    }
}

/// Of the addresses of a host those that are denied aren't tried, and one where nobody is does no harm.
#[tokio::test]
async fn a_host_has_several_addresses() {
    let well = Peer::with(Manners {
        ip: "127.0.0.2",
        ..WELL
    })
    .await;
    let connections = connections(&[&well]);
    let route = Arc::new(Route {
        targets: vec![Target::Host("both".to_owned(), well.at.port())],
        host_header: NAME.to_owned(),
        certificate_name: NAME.to_owned(),
    });
    let asked = ask_along(&connections, &route, Method::GET).await;
    assert_eq!(asked.unwrap(), 200);
    let places = connections.dialer.places(&route.targets).await.unwrap();
    let ips: Vec<String> = places
        .iter()
        .map(|it| it.address.ip().to_string())
        .collect();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
}

/// One that stops to be there is left for another in the same request; a request that was given up on is an occasion to look
/// again, for which nothing is forgotten.
#[tokio::test]
async fn a_place_in_use_is_left_when_it_goes() {
    let (first, second) = (Peer::with(WELL).await, Peer::with(WELL).await);
    let connections = connections(&[&first, &second]);
    let route = route(&[first.at, second.at]);
    let way = connections.way(ruma::server_name!("b.example"));
    let asked = ask_along(&connections, &route, Method::GET).await;
    assert_eq!(asked.unwrap(), 200);
    drop(way.trying(first.at));
    assert!(way.held(&route, &[]).is_none());
    let asked = ask_along(&connections, &route, Method::GET).await;
    assert_eq!(asked.unwrap(), 200);
    assert_eq!(first.requests(), 2);
    way.trying(first.at).has_ended();
    assert_eq!(way.held(&route, &[]).unwrap().at, first.at);
    // Its proxy has lost it, say.
    way.failed(first.at);
    let asked = ask_along(&connections, &route, Method::GET).await;
    assert_eq!((asked.unwrap(), second.requests()), (200, 1));
}

/// Who waits while another looks for a place, and finds none, is told so too, instead of looking as long again.
#[tokio::test]
async fn who_waits_for_a_place_hears_that_there_is_none() {
    let (first, second) = (Peer::with(WELL).await, Peer::with(WELL).await);
    let connections = connections(&[&first, &second]);
    let route = route(&[first.at, second.at]);
    let way = connections.way(ruma::server_name!("b.example"));
    let looking = way.choosing().await;
    let other = async {
        way.lost(&[], "nobody is there");
        drop(looking);
    };
    // The first of these waits before the other goes on.
    let (asked, ()) = tokio::join!(ask_along(&connections, &route, Method::GET), other);
    assert!(asked.unwrap_err().to_string().contains("nobody is there"));
    assert_eq!((first.connections(), second.connections()), (0, 0));
    // Who comes later looks.
    let asked = ask_along(&connections, &route, Method::GET).await;
    assert_eq!(asked.unwrap(), 200);
}

/// Another answer of discovery's for the same place is another `Host`, of which the client in use may not be capable.
#[tokio::test]
async fn a_client_is_for_one_route() {
    let peer = Peer::with(WELL).await;
    let connections = connections(&[&peer]);
    let way = connections.way(ruma::server_name!("b.example"));
    let route = |host_header: &str| {
        Arc::new(Route {
            targets: vec![Target::Host("1".to_owned(), peer.at.port())],
            host_header: host_header.to_owned(),
            certificate_name: NAME.to_owned(),
        })
    };
    let (before, same, other) = (route(NAME), route(NAME), route("c.example"));
    let asked = ask_along(&connections, &before, Method::GET).await;
    assert_eq!(asked.unwrap(), 200);
    assert!(way.held(&before, &[]).is_some());
    way.look_up(&same, Vec::new());
    assert!(way.held(&same, &[]).is_some());
    way.look_up(&other, Vec::new());
    assert!(way.held(&other, &[]).is_none());
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered_and_the_host_can_be_said() {
    let new = Peer::with(Manners {
        http2: true,
        ..WELL
    })
    .await;
    let old = Peer::with(WELL).await;
    let connections = connections(&[&new, &old]);
    let asked = async |to: &str, peer: &Peer, host_header: String| {
        let route = Arc::new(Route {
            targets: vec![Target::Host("1".to_owned(), peer.at.port())],
            host_header,
            certificate_name: NAME.to_owned(),
        });
        let to: OwnedServerName = to.try_into().unwrap();
        let answer = connections.along(&to, &route, request(Method::GET)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let told = answer.headers()["x-asked"].to_str().unwrap().to_owned();
        Ok::<_, String>(told)
    };
    let (plain, port) = (NAME.to_owned(), format!("{NAME}:{}", new.at.port()));
    let told = asked("new.example", &new, plain.clone()).await;
    assert_eq!(told.unwrap(), format!("HTTP/2.0 {NAME} false"));
    let told = asked("port.example", &new, port.clone()).await;
    assert_eq!(told.unwrap(), format!("HTTP/2.0 {port} false"));
    let told = asked("old.example", &old, plain).await;
    assert_eq!(told.unwrap(), "HTTP/1.1  true");
    // A URL leaves out this port: only the header of version 1.1 can say it, which this one doesn't speak.
    let told = asked("odd.example", &new, format!("{NAME}:443")).await;
    assert!(told.is_err(), "{told:?}");
    let told = asked("odd.example", &old, format!("{NAME}:443")).await;
    assert_eq!(told.unwrap(), "HTTP/1.1  true");
}

#[tokio::test]
async fn the_ways_that_are_kept_are_bounded() {
    let connections = connections(&[]);
    let name: OwnedServerName = "a.example".try_into().unwrap();
    let first = connections.way(&name);
    assert!(Arc::ptr_eq(&first, &connections.way(&name)));
    for n in 0..MAX_CLIENTS {
        let name: OwnedServerName = format!("b{n}.example").try_into().unwrap();
        connections.way(&name);
    }
    let ways = connections.ways.lock().unwrap();
    assert_eq!(ways.len(), MAX_CLIENTS);
    assert!(!ways.contains_key(&name));
}

/// Where to connect, the certificate's name and `Host` are three things.
#[test]
fn urls_say_the_certificates_name() {
    let route = |host_header: &str, certificate_name: &str| Route {
        targets: vec![Target::Host("1".to_owned(), 7)],
        host_header: host_header.to_owned(),
        certificate_name: certificate_name.to_owned(),
    };
    for (host, certificate, said, speaking) in [
        ("a.example", "a.example", "a.example", Speaks::Newest),
        ("a.example:99", "a.example", "a.example:99", Speaks::Newest),
        ("a.example:443", "a.example", "a.example", Speaks::OneAlone),
        ("A.example", "A.example", "a.example", Speaks::OneAlone),
        ("c.example:7", "b.example", "b.example", Speaks::OneAlone),
        ("a.example.org", "a.example", "a.example", Speaks::OneAlone),
    ] {
        let route = route(host, certificate);
        let url = url(&route, "/x?y").unwrap();
        assert_eq!(url.as_str(), format!("https://{said}/x?y"));
        assert_eq!(speaks(&url, &route), speaking, "{host}");
    }
    let literal = |host: &str, address: &str| Route {
        targets: vec![Target::Address(address.parse().unwrap())],
        host_header: host.to_owned(),
        certificate_name: "1.2.3.4".to_owned(),
    };
    let with_port = literal("1.2.3.4:9", "1.2.3.4:9");
    let without = literal("1.2.3.4", "1.2.3.4:8448");
    for (route, speaking) in [(with_port, Speaks::Newest), (without, Speaks::OneAlone)] {
        let url = url(&route, "/x").unwrap();
        assert!(url.as_str().contains(":8448/x") || url.as_str().contains(":9/x"));
        assert_eq!(speaks(&url, &route), speaking);
    }
}

#[test]
fn targets_that_urls_would_change_are_refused() {
    let route = discovery::by_srv("a.example", Vec::new(), 0);
    for path in ["/a/../b", "/a/%2E%2e", "/a/."] {
        assert!(url(&route, path).is_err(), "{path}");
    }
}
