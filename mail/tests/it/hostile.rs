//! Names and texts by people who want more than to be read.

use rhizome_mail::{Mail, MailConfig, Mailer, Templates};

use crate::mime::Received;
use crate::sink::{Manners, Sink};
use crate::world::{address, config, content, digest, mail, mailer, unsubscribe};

/// The headers of every mail, and no others.
const HEADERS: [&str; 10] = [
    "Auto-Submitted",
    "Content-Type",
    "Date",
    "From",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "MIME-Version",
    "Message-ID",
    "Subject",
    "To",
];

/// What arrives of a message.
async fn told(sender: &str, room: &str, text: &str) -> Received {
    let sink = Sink::start(Manners::default()).await;
    let mut digest = digest(sender, room, text);
    digest.user.name = Some(sender.to_owned());
    let content = Templates::built_in().unwrap().digest(&digest).unwrap();
    let mail = Mail::list(address("alice@mail.example"), content, unsubscribe());
    mailer(&sink).send(mail).await.unwrap();
    let recipients = sink.seen(|seen| {
        let to = |line: &&String| line.starts_with("RCPT");
        seen.commands.iter().filter(to).count()
    });
    assert_eq!(recipients, 1);
    sink.mail()
}

#[tokio::test]
async fn line_breaks_add_no_headers() {
    for end in [
        "\r\n",
        "\n",
        "\r",
        "\u{85}",
        "\u{2028}",
        "\u{0}\r\n",
        "\r\n ",
    ] {
        let name = format!("Bob{end}Bcc: eve@evil.example{end}{end}<b>body</b>");
        let got = told(&name, &name, &name).await;
        assert_eq!(got.names(), HEADERS, "{end:?}");
        assert!(!got.header("Subject").contains(['\r', '\n', '\u{0}']));
        assert!(got.header("Subject").contains("Bcc: eve@evil.example"));
    }
}

#[tokio::test]
async fn encoded_words_in_names_are_just_letters() {
    for name in [
        "=?utf-8?q?Bob=0D=0ABcc:_eve@evil.example?=",
        "=?utf-8?b?4oCuQm9i?=",
        "Зоя =?utf-8?q?a?=",
    ] {
        let got = told(name, "Kitchen", "Tea?").await;
        assert_eq!(got.names(), HEADERS);
        // Readers see what was written, not what it would decode to.
        let subject = format!("[example.org] {name} wrote in Kitchen");
        assert_eq!(got.header("Subject"), subject);
        let head = got.raw.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains("=?utf-8?q?"), "{head}");
    }
}

#[tokio::test]
async fn the_operators_name_is_only_a_name() {
    for name in [
        "\"Evil\" <eve@evil.example>,",
        "a\r\nBcc: b@c.example",
        "\\\"\\",
        "=?utf-8?q?a?=",
    ] {
        let sink = Sink::start(Manners::default()).await;
        let config = MailConfig {
            from_name: name.to_owned(),
            ..config(&sink)
        };
        let mailer = Mailer::new(&config).unwrap();
        mailer.send(mail()).await.unwrap();
        let got = sink.mail();
        let from = got.header("From");
        assert!(from.ends_with(" <matrix@example.org>"), "{from}");
        assert!(!got.raw.contains("\r\nBcc:"));
        assert!(sink.got("MAIL FROM:<matrix@example.org>"));
    }
}

#[tokio::test]
async fn no_text_ends_its_mail() {
    for text in [
        ".\nQUIT",
        "a\r\n.\r\nMAIL FROM:<eve@evil.example>",
        "a\n.\nRCPT TO:<b@c.example>",
        "a\r.\rDATA",
        "..\n...\n.",
    ] {
        let sink = Sink::start(Manners::default()).await;
        let mail = Mail::new(address("alice@mail.example"), content("a", text));
        mailer(&sink).send(mail).await.unwrap();
        let expected = text.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(sink.mail().text, expected);
        let verbs = sink.seen(|seen| seen.commands.len());
        assert_eq!(verbs, 4, "EHLO, MAIL, RCPT, DATA");
        assert!(
            told("Bob", "Kitchen", text)
                .await
                .text
                .contains("No more of them")
        );
    }
}

#[tokio::test]
async fn boundaries_cant_be_guessed() {
    let first = told("Bob", "Kitchen", "a").await;
    let second = told("Bob", "Kitchen", "a").await;
    assert_ne!(first.header("Content-Type"), second.header("Content-Type"));
}

#[tokio::test]
async fn very_long_lines_become_short_ones() {
    let long = "aé".repeat(30_000);
    let got = told(&long, &long, &long).await;
    assert!(got.header("Subject").chars().count() <= 200);
    assert!(got.text.len() < 10_000 && got.html.len() < 20_000);
    let sink = Sink::start(Manners::default()).await;
    let mail = Mail::new(address("alice@mail.example"), content(&long, &long));
    mailer(&sink).send(mail).await.unwrap();
    // The reader of the test looks at the length of each line.
    assert_eq!(sink.mail().text, long);
    let huge = Mail::new(
        address("alice@mail.example"),
        content("a", &"a".repeat(2_000_000)),
    );
    assert!(mailer(&sink).send(huge).await.is_err());
}

#[tokio::test]
async fn nothing_turns_the_mail_around() {
    let name = "\u{202e}Bob\u{2066}\u{200f}";
    let got = told(name, name, &format!("a {name} b")).await;
    let turns = |text: &str| text.contains(['\u{202e}', '\u{2066}', '\u{200f}']);
    assert!(!turns(got.header("Subject")) && !turns(&got.text) && !turns(&got.html));
    assert_eq!(got.header("Subject"), "[example.org] Bob wrote in Bob");
}

#[tokio::test]
async fn what_people_write_isnt_html() {
    let text =
        "<script>alert(1)</script><img src=x onerror=\"y\"> & \"'</span><a href=javascript:z>";
    let got = told(text, text, text).await;
    for tag in ["<script", "<img", "<a href=javascript", "onerror=\""] {
        assert!(!got.html.contains(tag), "{tag} in {}", got.html);
    }
    assert!(got.html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(got.html.contains("&amp; &quot;&#39;&lt;/span&gt;"));
    // As plain text it is what it is.
    assert!(got.text.contains("<script>alert(1)</script>"));
}

#[tokio::test]
async fn what_people_write_isnt_a_template() {
    let text = "{{ unsubscribe }} {% for a in b %} {# c #}";
    let got = told(text, text, text).await;
    assert!(got.text.contains(text), "{}", got.text);
    assert!(got.header("Subject").contains("{{ unsubscribe }}"));
}
