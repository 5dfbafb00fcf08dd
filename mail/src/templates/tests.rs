use tempfile::TempDir;

use super::*;
use crate::digest::{Body, Invite, MAX_INVITES, MAX_MESSAGES, MAX_ROOMS, Message, Person, Room};
use crate::link::{Link, LinkTemplate};

fn person(name: &str) -> Person {
    Person {
        id: format!("@{}:example.org", name.to_lowercase()),
        name: Some(name.to_owned()),
    }
}

fn message(sender: &str, body: Body) -> Message {
    Message {
        id: "$event".to_owned(),
        sender: person(sender),
        at: 1_769_850_300_000,
        body,
    }
}

fn said(sender: &str, text: &str) -> Message {
    message(sender, Body::Text(text.to_owned()))
}

fn room(name: &str, messages: Vec<Message>) -> Room {
    Room {
        id: format!("!{name}:example.org"),
        name: Some(name.to_owned()),
        is_direct: false,
        messages,
        more: 0,
    }
}

fn invite(name: Option<&str>) -> Invite {
    Invite {
        room: "!new:example.org".to_owned(),
        name: name.map(str::to_owned),
        is_direct: name.is_none(),
        inviter: person("Carol"),
    }
}

fn digest(rooms: Vec<Room>, invites: Vec<Invite>) -> Digest {
    Digest {
        user: person("Alice"),
        server: "example.org".to_owned(),
        rooms,
        more_rooms: 0,
        invites,
        more_invites: 0,
        links: LinkTemplate::default(),
        unsubscribe: Link::parse("https://example.org/unsubscribe?a=1&b=2").unwrap(),
    }
}

fn render(digest: &Digest) -> Content {
    Templates::built_in().unwrap().digest(digest).unwrap()
}

fn subject(rooms: Vec<Room>, invites: Vec<Invite>) -> String {
    render(&digest(rooms, invites)).subject
}

#[test]
fn a_subject_says_who_wrote_and_where() {
    let kitchen = || room("Kitchen", vec![said("Bob", "a"), said("Bob", "b")]);
    let direct = Room {
        is_direct: true,
        ..kitchen()
    };
    let crowd = || room("Hall", vec![said("Bob", "a"), said("Eve", "b")]);
    let unnamed = Room {
        name: None,
        ..crowd()
    };
    for (rooms, invites, expected) in [
        (vec![direct], vec![], "Bob wrote to you"),
        (vec![kitchen()], vec![], "Bob wrote in Kitchen"),
        (vec![crowd()], vec![], "New messages in Hall"),
        (vec![unnamed], vec![], "New messages in a room"),
        (
            vec![kitchen(), crowd()],
            vec![],
            "New messages in Kitchen and 1 other room",
        ),
        (
            vec![kitchen(), crowd(), crowd()],
            vec![],
            "New messages in Kitchen and 2 other rooms",
        ),
        (
            vec![],
            vec![invite(Some("Attic"))],
            "Carol invites you to Attic",
        ),
        (vec![], vec![invite(None)], "Carol invites you"),
        (
            vec![],
            vec![invite(None), invite(None)],
            "You have 2 invites",
        ),
        (
            vec![crowd()],
            vec![invite(None)],
            "New messages in Hall, and 1 invite",
        ),
        (
            vec![crowd(), kitchen()],
            vec![invite(None), invite(None)],
            "New messages in Hall and 1 other room, and 2 invites",
        ),
    ] {
        assert_eq!(subject(rooms, invites), format!("[example.org] {expected}"));
    }
}

#[test]
fn a_subject_counts_what_isnt_there_as_well() {
    let mut digest = digest(vec![room("Hall", vec![said("Bob", "a")])], vec![]);
    digest.more_rooms = 3;
    let expected = "[example.org] New messages in Hall and 3 other rooms";
    assert_eq!(render(&digest).subject, expected);
    // Others may have written what isn't here.
    digest.more_rooms = 0;
    digest.rooms[0].more = 1;
    let expected = "[example.org] New messages in Hall";
    assert_eq!(render(&digest).subject, expected);
}

#[test]
fn the_text_as_a_whole() {
    let mut kitchen = room(
        "Kitchen",
        vec![
            said("Bob", "Tea?\nOr coffee?"),
            message("Bob", Body::Emote("waits".to_owned())),
            message("Eve", Body::Encrypted),
        ],
    );
    kitchen.more = 2;
    let mut digest = digest(vec![kitchen], vec![invite(Some("Attic"))]);
    (digest.more_rooms, digest.more_invites) = (1, 1);
    let expected = "Hello Alice,

this is what you have missed on example.org.

* Carol invites you to Attic.
  https://matrix.to/#/!new:example.org

There is 1 more invite.

== Kitchen ==
   https://matrix.to/#/!Kitchen:example.org

   (2 more messages)

Bob, 2026-01-31 09:05 UTC:
  Tea?
  Or coffee?

Bob, 2026-01-31 09:05 UTC:
  * Bob waits

Eve, 2026-01-31 09:05 UTC:
  (an encrypted message)

There are messages in 1 more room.

-- 
You get this mail because you asked example.org for mails about what you miss.
No more of them: https://example.org/unsubscribe?a=1&b=2";
    assert_eq!(render(&digest).text, expected);
}

#[test]
fn each_kind_of_message_has_its_words() {
    for (body, words) in [
        (Body::Picture, "sent a picture"),
        (Body::Video, "sent a video"),
        (Body::Audio, "sent an audio file"),
        (Body::File, "sent a file"),
        (Body::Sticker, "sent a sticker"),
        (Body::Location, "shared a location"),
        (Body::Encrypted, "an encrypted message"),
        (Body::Other, "something new"),
    ] {
        let got = render(&digest(vec![room("a", vec![message("Bob", body)])], vec![]));
        assert!(got.text.contains(words), "{words} in {}", got.text);
        assert!(got.html.contains(words), "{words} in {}", got.html);
    }
}

#[test]
fn links_in_html_stay_links() {
    let got = render(&digest(vec![room("a", vec![said("Bob", "b")])], vec![]));
    for link in [
        "href=\"https://matrix.to/#/!a:example.org\"",
        "href=\"https://matrix.to/#/!a:example.org/$event\"",
        "href=\"https://example.org/unsubscribe?a=1&amp;b=2\"",
    ] {
        assert!(got.html.contains(link), "{link} in {}", got.html);
    }
}

#[test]
fn what_is_too_much_is_counted() {
    let long = "x ".repeat(30_000);
    let many = |count: usize| (0..count).map(|at| said("Bob", &format!("<{at}> {long}")));
    let large = Room {
        name: Some(long.clone()),
        ..room("Hall", many(MAX_MESSAGES + 5).collect())
    };
    let rooms = vec![large; MAX_ROOMS + 7];
    let invites = vec![invite(Some(&long)); MAX_INVITES + 9];
    let got = render(&digest(rooms, invites));
    assert_eq!(got.text.matches("== x x").count(), MAX_ROOMS);
    assert_eq!(got.text.matches("(5 more messages)").count(), MAX_ROOMS);
    assert_eq!(got.text.matches(" invites you to").count(), MAX_INVITES);
    assert!(got.text.contains("messages in 7 more rooms"));
    assert!(got.text.contains("9 more invites"));
    // The newest are told.
    assert!(!got.text.contains("<4> x") && got.text.contains("<5> x"));
    assert!(got.text.len() < 100_000 && got.html.len() < 150_000);
}

#[test]
fn letters_show_their_link_and_code() {
    let templates = Templates::built_in().unwrap();
    let link = Link::parse("https://example.org/a?b=c").unwrap();
    let (server, user) = ("example.org".to_owned(), "@alice:example.org".to_owned());
    let code = "271828".to_owned();
    let confirm = Confirm {
        server: server.clone(),
        user: user.clone(),
        link: link.clone(),
    };
    let got = templates.confirm(&confirm).unwrap();
    assert!(got.text.contains(link.as_str()) && got.html.contains(link.as_str()));
    assert!(got.text.contains(&user) && got.subject.contains(&server));
    let verify = Verify {
        server: server.clone(),
        code: code.clone(),
        link: link.clone(),
    };
    let reset = Reset {
        server,
        user,
        code: code.clone(),
        link: link.clone(),
    };
    let both = [templates.verify(&verify), templates.reset(&reset)];
    for got in both.map(Result::unwrap) {
        assert!(got.text.contains(&code) && got.html.contains(&code));
        assert!(got.text.contains(link.as_str()) && got.html.contains(link.as_str()));
    }
}

/// What comes of a folder with this one file.
fn with(name: &str, text: &str) -> (TempDir, Result<Templates, TemplateError>) {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    let templates = Templates::load(Some(folder.path()));
    (folder, templates)
}

#[test]
fn an_operator_replaces_what_they_want() {
    let german =
        "Hallo {{ user }} {{ unsubscribe }}\n{% for room in rooms %}{{ room.name }}{% endfor %}";
    let (_folder, templates) = with("digest.txt", german);
    let digest = digest(vec![room("Küche", vec![said("Bob", "a")])], vec![]);
    let got = templates.unwrap().digest(&digest).unwrap();
    assert!(got.text.starts_with("Hallo Alice"), "{}", got.text);
    assert!(got.html.contains("Hello"));
    let (_folder, other) = with("README.md", "{{ nothing");
    assert!(other.is_ok());
}

#[test]
fn mistakes_are_found_at_start_with_file_and_line() {
    let link = "{{ link }}\n";
    for (name, text, line, why) in [
        ("confirm.txt", "a\n{{ link }}\n{% if %}", Some(3), "syntax"),
        (
            "confirm.txt",
            "{{ link }}\n\n{{ lnik }}",
            Some(3),
            "undefined",
        ),
        (
            "confirm.txt",
            "{{ link }}\n{{ link | shout }}",
            Some(2),
            "filter",
        ),
        (
            "confirm.html",
            "{{ link }}\n{{ user | safe }}",
            Some(2),
            "filter",
        ),
        ("confirm.txt", "no link", None, "must show {{ link }}"),
        ("verify.html", link, None, "must show {{ code }}"),
        (
            "digest.txt",
            "{{ user }}",
            None,
            "must show {{ unsubscribe }}",
        ),
        ("reset.subject.txt", "\n", None, "no subject"),
        (
            "digest.txt",
            "{{ unsubscribe }}{% for room in rooms %}\n{{ room.nmae }}{% endfor %}",
            Some(2),
            "undefined",
        ),
        (
            "confirm.html",
            "{{ link }}\n<a\n href = 'javascript:x'>",
            Some(3),
            "javascript:x",
        ),
        (
            "confirm.html",
            "{{ link }}\n<img SRC=//tracker.example/a.png>",
            Some(2),
            "//tracker.example",
        ),
        (
            "confirm.html",
            "{{ link }}<a href=\"{{ server }}\">",
            None,
            "makes a link to \"example.org\"",
        ),
        (
            "digest.html",
            "{{ unsubscribe }}{% autoescape false %}{{ user }}{% endautoescape %}",
            None,
            "without escaping",
        ),
    ] {
        let (folder, templates) = with(name, text);
        let error = templates.expect_err(text);
        let file = folder.path().join(name).display().to_string();
        assert_eq!(
            (error.file.as_str(), error.line),
            (file.as_str(), line),
            "{error}"
        );
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn what_cant_be_read_is_a_mistake() {
    assert!(Templates::load(Some(Path::new("/nonexistent"))).is_err());
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("digest.txt")).unwrap();
    assert!(Templates::load(Some(folder.path())).is_err());
    let (_folder, large) = with("digest.txt", &"{{ unsubscribe }}".repeat(20_000));
    assert!(large.unwrap_err().why.contains("more than"));
}

#[test]
fn fine_addresses_in_templates() {
    let html = "{{ link }}<a href=\"https://example.org/?href=x\"><img src='HTTP://a.example/b'><a data-href=x>";
    let (_folder, templates) = with("confirm.html", html);
    templates.unwrap();
}
