//! What is signed and sent.

use super::*;

#[test]
fn targets_are_signed_as_urls_spell_them() {
    let outbound = Outbound::in_process(
        "a.example".try_into().unwrap(),
        KeyPair::from_seed("k", &[1; 32]).unwrap(),
        &FederationConfig::default(),
        crate::testing::Network::default(),
    );
    let odd: String = ('!'..='~').filter(|c| !"%?#".contains(*c)).collect();
    let target = format!("/x{odd}%2F%5c?y{odd}%2F");
    let to = ruma::server_name!("b.example");
    let request = outbound.request(to, Method::GET, &target, None).unwrap();
    let sent = request.uri().to_string();
    let url = reqwest::Url::parse(&format!("https://b.example{sent}")).unwrap();
    assert_eq!(url.as_str(), format!("https://b.example{sent}"));
    assert_eq!(
        url.path().split('/').count(),
        target.split_once('?').unwrap().0.split('/').count()
    );
}
