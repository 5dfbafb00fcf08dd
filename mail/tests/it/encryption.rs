//! Encryption and logins.

use rhizome_mail::{MailConfig, MailError, Mailer, Password, TlsMode};
use tempfile::NamedTempFile;

use crate::sink::{Manners, PASSWORD, Sink, USER};
use crate::world::{certificate, config, mail};

fn encrypted(sink: &Sink, tls: TlsMode, trusted: &NamedTempFile) -> MailConfig {
    MailConfig {
        tls,
        ca_file: Some(trusted.path().to_owned()),
        user: Some(USER.to_owned()),
        password: Some(Password::new(PASSWORD)),
        ..config(sink)
    }
}

/// What comes of a mail to a mail server that is certified for this name.
async fn send(name: &str, mut manners: Manners, tls: TlsMode) -> (Sink, Result<(), MailError>) {
    let (acceptor, trusted) = certificate(name);
    manners.tls = Some(acceptor);
    let sink = Sink::start(manners).await;
    let config = encrypted(&sink, tls, &trusted);
    let sent = Mailer::new(&config).unwrap().send(mail()).await;
    (sink, sent)
}

fn is_config(sent: &Result<(), MailError>) -> bool {
    matches!(sent, Err(MailError::Config { .. }))
}

#[tokio::test]
async fn starttls_comes_before_passwords_and_mails() {
    for logins in ["PLAIN", "LOGIN", "LOGIN PLAIN", "CRAM-MD5 LOGIN"] {
        let manners = Manners {
            logins: Some(logins),
            ..Manners::default()
        };
        let (sink, sent) = send("127.0.0.1", manners, TlsMode::Required).await;
        sent.unwrap();
        assert_eq!(sink.mail().text, "Good morning");
        let plain = sink.seen(|seen| seen.plain.clone());
        assert_eq!(plain, ["EHLO example.org", "STARTTLS"], "{logins}");
    }
}

#[tokio::test]
async fn encryption_from_the_first_byte_on() {
    let manners = Manners {
        implicit: true,
        logins: Some("PLAIN"),
        ..Manners::default()
    };
    let (sink, sent) = send("127.0.0.1", manners, TlsMode::Implicit).await;
    sent.unwrap();
    assert_eq!(sink.mail().text, "Good morning");
    assert!(sink.seen(|seen| seen.plain.is_empty()));
}

#[tokio::test]
async fn without_starttls_nothing_goes_out() {
    let sink = Sink::start(Manners {
        logins: Some("PLAIN"),
        ..Manners::default()
    })
    .await;
    let (_, trusted) = certificate("127.0.0.1");
    let config = encrypted(&sink, TlsMode::Required, &trusted);
    let sent = Mailer::new(&config).unwrap().send(mail()).await;
    assert!(is_config(&sent), "{sent:?}");
    assert!(!sink.got("AUTH") && !sink.got("MAIL"));
}

#[tokio::test]
async fn nobody_is_told_anything_whose_certificate_isnt_trusted() {
    for implicit in [false, true] {
        let mode = if implicit {
            TlsMode::Implicit
        } else {
            TlsMode::Required
        };
        let (acceptor, _) = certificate("127.0.0.1");
        let (_, other) = certificate("127.0.0.1");
        let sink = Sink::start(Manners {
            tls: Some(acceptor),
            implicit,
            ..Manners::default()
        })
        .await;
        let config = encrypted(&sink, mode, &other);
        let sent = Mailer::new(&config).unwrap().send(mail()).await;
        assert!(is_config(&sent), "{sent:?}");
        assert!(!sink.got("AUTH") && !sink.got("MAIL"));
    }
}

#[tokio::test]
async fn a_certificate_is_for_its_name() {
    let manners = Manners::default();
    let (sink, sent) = send("mail.example.org", manners, TlsMode::Required).await;
    assert!(is_config(&sent), "{sent:?}");
    assert!(!sink.got("AUTH") && !sink.got("MAIL"));
}

#[tokio::test]
async fn what_comes_unencrypted_behind_starttls_isnt_taken_for_encrypted() {
    let answers = ["220 go on", "250-evil.example", "250 AUTH PLAIN", "235 in"];
    let injected = [&answers[..], &["250 a", "250 b", "354 c", "250 d"]].concat();
    let injected = injected.join("\r\n");
    let manners = Manners {
        logins: Some("PLAIN"),
        answers: vec![("STARTTLS", injected)],
        ..Manners::default()
    };
    let (sink, sent) = send("127.0.0.1", manners, TlsMode::Required).await;
    assert!(sent.is_err());
    assert_eq!(sink.mails(), 0);
    assert!(!sink.got("AUTH") && !sink.got("MAIL"));
}

#[tokio::test]
async fn a_wrong_password_is_for_the_operator_and_not_in_the_log() {
    let (acceptor, trusted) = certificate("127.0.0.1");
    let sink = Sink::start(Manners {
        tls: Some(acceptor),
        logins: Some("PLAIN LOGIN"),
        ..Manners::default()
    })
    .await;
    let config = MailConfig {
        password: Some(Password::new("hunter2")),
        ..encrypted(&sink, TlsMode::Required, &trusted)
    };
    let sent = Mailer::new(&config).unwrap().send(mail()).await;
    let Err(MailError::Config { code, why }) = sent else {
        panic!("{sent:?}")
    };
    assert_eq!(code, Some(535));
    assert!(!why.contains("hunter2"), "{why}");
    assert!(!sink.got("MAIL"));
}

#[tokio::test]
async fn a_mail_server_that_wants_a_login_is_for_the_operator() {
    let sink = Sink::start(Manners {
        logins: Some("PLAIN"),
        ..Manners::default()
    })
    .await;
    let sent = Mailer::new(&config(&sink)).unwrap().send(mail()).await;
    assert!(is_config(&sent), "{sent:?}");
    let unknown = Sink::start(Manners {
        logins: Some("CRAM-MD5"),
        ..Manners::default()
    })
    .await;
    let config = MailConfig {
        user: Some(USER.to_owned()),
        password: Some(Password::new(PASSWORD)),
        ..config(&unknown)
    };
    let sent = Mailer::new(&config).unwrap().send(mail()).await;
    assert!(is_config(&sent), "{sent:?}");
}

#[test]
fn what_isnt_a_certificate_is_found_at_start() {
    let file = NamedTempFile::new().unwrap();
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(file.path(), pem).unwrap();
    let mut config = MailConfig::new(
        "mail.example.org",
        rhizome_mail::Address::parse("matrix@example.org").unwrap(),
    );
    config.ca_file = Some(file.path().to_owned());
    assert!(Mailer::new(&config).is_err());
    config.ca_file = Some("/nonexistent".into());
    assert_eq!(Mailer::new(&config).unwrap_err().key, "ca_file");
}
