//! What bridges write is read, and every mistake gets its line and a remedy.

use ruma::server_name;

use super::*;
use crate::LoadError;

fn read(text: &str) -> Result<Registration, Vec<Problem>> {
    registration("irc.yaml", text, server_name!("here.example:8448"))
}

/// The specification's example, and what else there may be.
const IRC: &str = r##"
id: "IRC Bridge"
url: "http://127.0.0.1:1234/irc"
as_token: "30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46"
hs_token: "312df522183efd404ec1cd22d2ffa4bbc76a8c1ccf541dd692eef281356bb74e"
sender_localpart: "_irc_bot" # Will result in @_irc_bot:example.org
namespaces:
  users:
    - exclusive: true
      regex: "@_irc_bridge_.*"
  aliases:
    - exclusive: false
      regex: "#_irc_bridge_.*"
  rooms: []
rate_limited: false
protocols:
- irc
- irc
de.sorunome.msc2409.push_ephemeral: true
org.matrix.msc3202: true
io.element.msc4190: yes
something.of.its.own: {a: [1, 2]}
"##;

#[test]
fn the_example_is_read() {
    let irc = read(IRC).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(irc.id, "IRC Bridge");
    assert_eq!(
        irc.url.as_ref().unwrap().as_str(),
        "http://127.0.0.1:1234/irc"
    );
    assert_eq!(irc.sender, "@_irc_bot:here.example:8448");
    assert_eq!(irc.protocols, ["irc"]);
    assert!(!irc.rate_limited && irc.receive_ephemeral && irc.msc3202 && irc.msc4190);
    assert!(irc.hs_token().expose().starts_with("312df5"));
    assert!(
        irc.as_token
            == TokenHash::of("30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46")
    );

    assert!(irc.is_interested_in_user("@_irc_bridge_ann:here.example:8448"));
    assert!(irc.exclusively_owns_user("@_irc_bridge_ann:here.example:8448"));
    assert!(irc.exclusively_owns_user("@_irc_bot:here.example:8448"));
    assert!(!irc.is_interested_in_user("@_irc_bridge_ann:there.example"));
    assert!(!irc.is_interested_in_user("@_irc_bridge_ann:here.example"));
    assert!(!irc.is_interested_in_user("@_irc_bot:there.example"));
    assert!(!irc.is_interested_in_user("@ann:here.example:8448"));
    assert!(irc.is_interested_in_alias("#_irc_bridge_x:there.example"));
    assert!(!irc.exclusively_owns_alias("#_irc_bridge_x:here.example:8448"));
    assert!(!irc.is_interested_in_room("!x:here.example:8448"));
}

#[test]
fn what_is_left_out_has_defaults() {
    let text = "id: a\nurl: null\nas_token: b\nhs_token: c\nsender_localpart: d\n";
    let service = read(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(service.url.is_none() && service.rate_limited && !service.receive_ephemeral);
    assert!(!service.msc3202 && !service.msc4190);
    assert!(service.is_interested_in_user("@d:here.example:8448"));
    for nothing in [
        "namespaces:\n",
        "namespaces:\n  users: null\n",
        "protocols: []\n",
    ] {
        assert!(read(&format!("{text}{nothing}")).is_ok(), "{nothing}");
    }
    // The specification's name counts before those of former times.
    let both = "receive_ephemeral: false\npush_ephemeral: true\n";
    let service = read(&format!("{text}{both}")).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(!service.receive_ephemeral);
}

#[test]
fn tokens_may_look_like_numbers() {
    let text = "id: 7\nurl: ''\nas_token: 0123\nhs_token: 1e5\nsender_localpart: 12\n";
    let service = read(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(
        (service.id.as_str(), service.hs_token().expose()),
        ("7", "1e5")
    );
    assert!(service.as_token == TokenHash::of("0123"));
    assert!(service.url.is_none());
}

const REST: &str = "hs_token: c\nsender_localpart: d\nurl: null\n";

/// (what comes after four lines, line, part of what is wrong, part of the remedy)
const MISTAKES: &[(&str, usize, &str, &str)] = &[
    ("", 1, "`as_token` is missing", "long random token"),
    ("as_token: null\n", 5, "`as_token` isn't text", "in quotes"),
    ("as_token: [a]\n", 5, "`as_token` isn't text", "in quotes"),
    (
        "as_token: \"a b\"\n",
        5,
        "odd characters",
        "long random token",
    ),
    (
        "as_token: a\nas_token: b\n",
        6,
        "`as_token` is there twice",
        "keep one",
    ),
    (
        "as_token: a\nrate_limited: 'no'\n",
        6,
        "neither true nor false",
        "without quotes",
    ),
    (
        "as_token: a\nprotocols: irc\n",
        6,
        "`protocols` isn't a list",
        "after a `-`",
    ),
    (
        "as_token: a\nprotocols: [null]\n",
        6,
        "isn't the name of a network",
        "in quotes",
    ),
    (
        "as_token: a\nnamespaces: []\n",
        6,
        "`namespaces` is keys and values",
        "key: value",
    ),
    (
        "as_token: a\nnamespaces:\n  users: x\n",
        7,
        "`users` isn't a list",
        "after a `-`",
    ),
    (
        "as_token: a\nnamespaces:\n  users: ['@a.*']\n",
        7,
        "a namespace is keys",
        "key: value",
    ),
    (
        "as_token: a\nnamespaces:\n  users:\n  - exclusive: true\n",
        8,
        "`regex` is missing",
        "regular expression",
    ),
    (
        "as_token: a\nnamespaces:\n  users:\n  - regex: '@a'\n",
        8,
        "`exclusive` is missing",
        "exclusive: true",
    ),
    (
        "as_token: a\nnamespaces:\n  users:\n  - exclusive: true\n    regex: '@(?!bot).*'\n",
        9,
        "look-around",
        "looking ahead",
    ),
    (
        "as_token: a\nnamespaces:\n  rooms:\n  - exclusive: true\n    regex: '(?:a{1000}){1000}'\n",
        9,
        "too much memory",
        "a simpler one",
    ),
    (
        "as_token: a\n<<: {b: c}\n",
        6,
        "`<<` isn't understood",
        "write out",
    ),
    ("as_token: \"a\n", 5, "isn't YAML", "documentation"),
    ("as_token: *x\n", 5, "isn't YAML", "documentation"),
    (
        "as_token: a\n---\nb: c\n",
        6,
        "second document",
        "documentation",
    ),
];

#[test]
fn each_mistake_has_its_line_and_a_remedy() {
    for (mistake, line, what, remedy) in MISTAKES {
        let text = format!("id: a\n{REST}{mistake}");
        let Err(problems) = read(&text) else {
            panic!("{mistake:?} is read")
        };
        let problem = &problems[0];
        assert_eq!(
            problem.place,
            format!("irc.yaml:{line}"),
            "{mistake:?} {problem:?}"
        );
        assert!(problem.what.contains(what), "{mistake:?} {problem:?}");
        assert!(problem.remedy.contains(remedy), "{mistake:?} {problem:?}");
        assert_eq!(problems.len(), 1, "{mistake:?} {problems:?}");
    }
}

#[test]
fn what_names_the_service_is_checked() {
    let with = |id: &str, sender: &str, url: &str| {
        let text =
            format!("id: {id}\nas_token: a\nhs_token: b\nsender_localpart: {sender}\nurl: {url}\n");
        read(&text).map_err(|problems| {
            problems
                .iter()
                .map(|one| one.what.clone())
                .collect::<Vec<_>>()
        })
    };
    assert!(with("a", "bot", "https://a.example:1/b/").is_ok());
    // As the bridges of the mautrix family write it.
    assert!(with("a", "Uq_T2-pX9", "null").is_ok());
    for sender in [
        "''",
        "'@bot'",
        "'bot:here'",
        "'Böt'",
        "'b t'",
        &"x".repeat(250),
    ] {
        assert!(with("a", sender, "null").is_err(), "{sender}");
    }
    for url in [
        "localhost",
        "'localhost:80'",
        "ftp://a",
        "'http://'",
        "'http://a:b@c'",
        "'http://a?b'",
        "'http://a#b'",
        "[a]",
        "{}",
    ] {
        assert!(with("a", "bot", url).is_err(), "{url}");
    }
    for id in ["''", "\"a\\nb\"", &"x".repeat(256)] {
        assert!(with(id, "bot", "null").is_err(), "{id}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_no_token_with_them() {
    let text = "id: a\nas_token: 'SECRET one'\nhs_token: 'SECRET two'\nrate_limited: x\n";
    let problems = read(text).map(|_| ()).unwrap_err();
    let told = LoadError(problems).to_string();
    for part in [
        "irc.yaml:2: ",
        "irc.yaml:3: ",
        "irc.yaml:4: ",
        "sender_localpart",
        "`url`",
        "\n  to fix it: ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("SECRET"), "{told}");
}
