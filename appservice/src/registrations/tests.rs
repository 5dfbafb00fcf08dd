//! Several services together.

use ruma::{room_alias_id, server_name, user_id};

use super::*;
use crate::{Services, parse};

fn text(id: &str, token: &str, sender: &str, namespaces: &str) -> String {
    format!(
        "id: {id}\nurl: null\nas_token: {token}\nhs_token: h\nsender_localpart: {sender}\nnamespaces: {namespaces}\n"
    )
}

fn load(texts: &[String]) -> Result<Registrations, LoadError> {
    let names: Vec<String> = (1..=texts.len()).map(|no| format!("{no}.yaml")).collect();
    let named: Vec<(&str, &str)> = names
        .iter()
        .zip(texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    parse(&named, server_name!("here"))
}

fn three() -> Registrations {
    let made = load(&[
        text(
            "xmpp",
            "tx",
            "xmppbot",
            "{users: [{exclusive: true, regex: '@_xmpp_'}], aliases: [{exclusive: true, regex: '#_xmpp_'}]}",
        ),
        text(
            "irc",
            "ti",
            "ircbot",
            "{users: [{exclusive: true, regex: '@_irc_'}, {exclusive: false, regex: '@_'}]}",
        ),
        text(
            "puppets",
            "tp",
            "puppeteer",
            "{users: [{exclusive: false, regex: '@.*'}], rooms: [{exclusive: false, regex: '!'}]}",
        ),
    ]);
    made.unwrap_or_else(|error| panic!("{error}"))
}

fn ids(services: &[Arc<Registration>]) -> Vec<&str> {
    services.iter().map(|service| service.id.as_str()).collect()
}

#[test]
fn services_are_found_by_what_is_theirs() {
    let all = three();
    let order: Vec<&str> = all.iter().map(|service| service.id.as_str()).collect();
    assert_eq!(order, ["irc", "puppets", "xmpp"]);
    assert_eq!(all.by_token("tx").unwrap().id, "xmpp");
    for wrong in ["", "t", "txx", "h", "TX"] {
        assert!(all.by_token(wrong).is_none(), "{wrong}");
    }
    assert_eq!(all.by_id("puppets").unwrap().sender, "@puppeteer:here");
    assert!(all.by_id("puppet").is_none());
    assert_eq!(all.by_sender(user_id!("@ircbot:here")).unwrap().id, "irc");

    assert_eq!(
        ids(&all.interested_in_user("@_irc_ann:here")),
        ["irc", "puppets"]
    );
    assert_eq!(
        ids(&all.interested_in_user("@_xmpp_bob:here")),
        ["irc", "puppets", "xmpp"]
    );
    assert_eq!(
        ids(&all.interested_in_user("@ircbot:here")),
        ["irc", "puppets"]
    );
    assert!(all.interested_in_user("@_irc_ann:there").is_empty());
    assert_eq!(ids(&all.interested_in_alias("#_xmpp_x:there")), ["xmpp"]);
    assert_eq!(ids(&all.interested_in_room("!a:there")), ["puppets"]);
}

#[test]
fn what_is_exclusive_has_one_owner() {
    let all = three();
    let of = |user| {
        all.exclusive_owner_of_user(user)
            .map(|owner| owner.id.as_str())
    };
    assert_eq!(of(user_id!("@_irc_ann:here")), Some("irc"));
    assert_eq!(of(user_id!("@_irc_ann:there")), None);
    assert_eq!(of(user_id!("@_other:here")), None);
    assert_eq!(
        of(user_id!("@puppeteer:here")),
        Some("puppets"),
        "its own user"
    );
    let of = |alias| {
        all.exclusive_owner_of_alias(alias)
            .map(|owner| owner.id.as_str())
    };
    assert_eq!(of(room_alias_id!("#_xmpp_x:here")), Some("xmpp"));
    assert_eq!(of(room_alias_id!("#_xmpp_x:there")), None);
    assert_eq!(of(room_alias_id!("#x:here")), None);
}

#[test]
fn none_may_be_taken_for_another() {
    let first = text("irc", "ti", "ircbot", "{}");
    for (second, what) in [
        (text("irc", "tj", "other", "{}"), "`id` is \"irc\" as in"),
        (
            text("jrc", "ti", "other", "{}"),
            "`as_token` is the same as in",
        ),
        (
            text("jrc", "tj", "ircbot", "{}"),
            "makes it @ircbot:here as in",
        ),
    ] {
        let error = load(&[first.clone(), second]).map(|_| ()).unwrap_err();
        assert_eq!(error.0.len(), 1, "{error}");
        assert!(error.0[0].what.contains(what), "{error}");
        assert_eq!(error.0[0].place.len(), "1.yaml".len(), "{error}");
    }
}

#[tokio::test]
async fn who_watches_is_told_of_others() {
    let services = Services::new(Registrations::none(server_name!("here")));
    assert!(services.is_empty() && services.by_token("tx").is_none());
    let (before, mut watch) = (services.current(), services.watch());
    services.clone().replace(three());
    watch.changed().await.unwrap();
    assert_eq!(watch.borrow_and_update().len(), 3);
    assert_eq!(services.by_token("tx").unwrap().id, "xmpp");
    assert!(before.is_empty(), "what somebody has doesn't change");
    assert_eq!(format!("{services:?}"), "Services(3)");
}
