//! Mails that don't go out.

use std::time::Duration;

use rhizome_mail::{MailConfig, MailError, Mailer};

use crate::sink::{Manners, SILENCE, Sink};
use crate::world::{config, mail, mailer};

async fn sink(to: &'static str, answer: impl Into<String>) -> Sink {
    Sink::start(Manners {
        answers: vec![(to, answer.into())],
        ..Manners::default()
    })
    .await
}

/// What comes of a mail when this is answered to that.
async fn refused(to: &'static str, answer: &str) -> MailError {
    let sink = sink(to, answer).await;
    mailer(&sink).send(mail()).await.unwrap_err()
}

#[tokio::test]
async fn what_is_refused_for_now_may_come_again() {
    for (to, answer, expected) in [
        ("GREETING", "421 4.3.2 not now", 421),
        ("MAIL", "451 4.3.0 not now", 451),
        ("RCPT", "450 4.2.0 greylisted", 450),
        ("DATA", "452 4.3.1 no room", 452),
        (".", "451 4.7.1 try again", 451),
    ] {
        let error = refused(to, answer).await;
        let MailError::Temporary { code, why } = error else {
            panic!("{to}: {error:?}")
        };
        assert_eq!(code, Some(expected));
        assert_eq!(why, answer);
    }
}

#[tokio::test]
async fn what_is_refused_for_good_says_whether_the_address_is_why() {
    for (to, answer, expected, no_address) in [
        ("RCPT", "550 5.1.1 no such user", 550, true),
        ("RCPT", "550 5.7.1 not here", 550, false),
        ("RCPT", "552 5.2.2 full", 552, false),
        (".", "554 5.7.1 spam", 554, false),
    ] {
        let error = refused(to, answer).await;
        let MailError::Permanent {
            code,
            why,
            no_such_address,
        } = error
        else {
            panic!("{to}: {error:?}")
        };
        assert_eq!(code, Some(expected));
        assert_eq!(why, answer);
        assert_eq!(no_such_address, no_address, "{answer}");
    }
}

#[tokio::test]
async fn who_is_refused_before_there_is_a_mail_needs_the_operator() {
    for (to, answer) in [
        ("GREETING", "554 5.7.1 go away"),
        ("EHLO", "550 5.7.1 go away"),
        ("MAIL", "550 5.1.8 unknown sender"),
        ("RCPT", "530 5.7.0 log in first"),
    ] {
        let error = refused(to, answer).await;
        assert!(matches!(error, MailError::Config { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn logs_dont_hold_the_address_nor_more_lines() {
    let answer =
        "550-5.1.1 <alice@mail.example>: unknown\r\n550 5.1.1 ask\u{1b}[2Jalice@mail.example";
    let error = refused("RCPT", answer).await.to_string();
    assert!(error.contains("unknown"), "{error}");
    assert!(!error.contains("alice"), "{error}");
    assert!(!error.contains(['\r', '\n', '\u{1b}']), "{error}");
}

#[tokio::test]
async fn a_refused_mail_doesnt_keep_the_next_one_back() {
    let sink = sink("RCPT TO:<bob", "550 5.1.1 no such user").await;
    let mailer = mailer(&sink);
    let to_bob = rhizome_mail::Mail::new(
        crate::world::address("bob@mail.example"),
        crate::world::content("a", "b"),
    );
    assert!(mailer.send(to_bob).await.is_err());
    mailer.send(mail()).await.unwrap();
    assert_eq!(sink.mails(), 1);
    assert_eq!(sink.seen(|seen| seen.connections), 1);
}

#[tokio::test]
async fn a_mail_server_that_says_nothing_isnt_waited_for_for_ever() {
    for to in ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let sink = sink(to, SILENCE).await;
        let config = MailConfig {
            timeout: Duration::from_millis(100),
            ..config(&sink)
        };
        let sent = Mailer::new(&config).unwrap().send(mail()).await;
        let late = matches!(sent, Err(MailError::Temporary { code: None, .. }));
        assert!(late, "{to}: {sent:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_ends() {
    let endless = format!("250-{}\r\n", "more".repeat(200)).repeat(200);
    for answer in [endless, "x".repeat(100_000), "what?".to_owned()] {
        let MailError::Temporary { code: None, why } = refused("MAIL", &answer).await else {
            panic!("it is taken for an answer")
        };
        assert!(why.contains("response"), "{why}");
    }
}

#[tokio::test]
async fn a_mail_server_that_isnt_there_may_come_back() {
    let gone = sink("GREETING", SILENCE).await;
    let config = config(&gone);
    drop(gone);
    let failed = Mailer::new(&config).unwrap().send(mail()).await;
    let temporary = matches!(failed, Err(MailError::Temporary { code: None, .. }));
    assert!(temporary, "{failed:?}");
}
