//! What arrives.

use rhizome_mail::{Link, Mail, MailConfig, Mailer, Templates};

use crate::sink::{Manners, Sink};
use crate::world::{address, config, content, digest, mail, mailer, unsubscribe};

#[tokio::test]
async fn a_mail_arrives_as_text_and_html() {
    let sink = Sink::start(Manners::default()).await;
    mailer(&sink).send(mail()).await.unwrap();
    let got = sink.mail();
    assert_eq!(got.text, "Good morning");
    assert_eq!(got.html, "<p>Good morning</p>");
    assert_eq!(got.header("Subject"), "Hello");
    assert_eq!(got.header("To"), "alice@mail.example");
    assert_eq!(got.header("Auto-Submitted"), "auto-generated");
    assert!(got.header("From").ends_with("<matrix@example.org>"));
    assert!(got.header("Date").ends_with("+0000"));
    assert!(sink.got("EHLO example.org"));
    assert!(sink.got("MAIL FROM:<matrix@example.org>"));
    assert!(sink.got("RCPT TO:<alice@mail.example>"));
}

#[tokio::test]
async fn each_mail_has_its_own_id_in_our_domain() {
    let sink = Sink::start(Manners::default()).await;
    let mailer = mailer(&sink);
    for _ in 0..2 {
        mailer.send(mail()).await.unwrap();
    }
    let ids = sink.seen(|seen| {
        let ids = seen.mails.iter().map(|mail| mail.header("Message-ID"));
        ids.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        let inner = id.strip_prefix('<').unwrap();
        let random = inner.strip_suffix("@example.org>").unwrap();
        assert_eq!(random.len(), 32);
    }
}

#[tokio::test]
async fn names_and_subjects_of_all_scripts_arrive() {
    let sink = Sink::start(Manners::default()).await;
    let config = MailConfig {
        from_name: "Müller & Söhne, «Матрица»".to_owned(),
        ..config(&sink)
    };
    let subject = "Зоя написала в «Кухня», 名前 👩\u{200d}🚀 — and so on for quite a while";
    let content = content(subject, "Доброе утро, عائشة, 日本語 👋\n\nsecond line");
    let mail = Mail::new(address("alice@bücher.example"), content);
    Mailer::new(&config).unwrap().send(mail).await.unwrap();
    let got = sink.mail();
    assert_eq!(got.header("Subject"), subject);
    assert_eq!(got.text, "Доброе утро, عائشة, 日本語 👋\n\nsecond line");
    let from = got.header("From");
    assert!(from.contains("Müller & Söhne, «Матрица»"), "{from}");
    assert_eq!(got.header("To"), "alice@xn--bcher-kva.example");
}

#[tokio::test]
async fn a_mail_of_many_says_how_to_get_no_more() {
    let sink = Sink::start(Manners::default()).await;
    let list = Mail::list(
        address("alice@mail.example"),
        content("a", "b"),
        unsubscribe(),
    );
    mailer(&sink).send(list).await.unwrap();
    let got = sink.mail();
    let link = format!("<{}>", unsubscribe().as_str());
    assert_eq!(got.header("List-Unsubscribe"), link);
    assert_eq!(
        got.header("List-Unsubscribe-Post"),
        "List-Unsubscribe=One-Click"
    );
}

#[tokio::test]
async fn one_click_needs_https() {
    let sink = Sink::start(Manners::default()).await;
    let link = Link::parse("http://localhost:8008/unsubscribe").unwrap();
    let list = Mail::list(address("alice@mail.example"), content("a", "b"), link);
    mailer(&sink).send(list).await.unwrap();
    let names = sink.mail().names().join(" ");
    assert!(names.contains("List-Unsubscribe"), "{names}");
    assert!(!names.contains("List-Unsubscribe-Post"), "{names}");
}

#[tokio::test]
async fn the_longest_link_stays_whole() {
    let sink = Sink::start(Manners::default()).await;
    let long = format!("https://example.org/{}", "a".repeat(950));
    let link = Link::parse(&long).unwrap();
    let list = Mail::list(address("alice@mail.example"), content("a", "b"), link);
    mailer(&sink).send(list).await.unwrap();
    assert_eq!(sink.mail().header("List-Unsubscribe"), format!("<{long}>"));
}

#[tokio::test]
async fn a_digest_arrives_as_its_templates_have_it() {
    let sink = Sink::start(Manners::default()).await;
    let digest = digest("Bob", "Kitchen", "Tea?\nOr coffee?");
    let content = Templates::built_in().unwrap().digest(&digest).unwrap();
    let list = Mail::list(address("alice@mail.example"), content, unsubscribe());
    mailer(&sink).send(list).await.unwrap();
    let got = sink.mail();
    assert_eq!(got.header("Subject"), "[example.org] Bob wrote in Kitchen");
    for part in [&got.text, &got.html] {
        for what in [
            "Hello",
            "Alice",
            "Kitchen",
            "Bob",
            "Tea?",
            "Or coffee?",
            "2026-01-31 09:05 UTC",
            "https://matrix.to/#/!room:example.org",
            unsubscribe().as_str(),
        ] {
            assert!(part.contains(what), "{what} in {part}");
        }
    }
}
