//! How connections are used.

use std::time::Duration;

use rhizome_mail::{MailConfig, Mailer};
use tokio::sync::watch;

use crate::sink::{Manners, Sink};
use crate::world::{config, eventually, mail, mailer};

#[tokio::test]
async fn a_connection_takes_one_mail_after_the_other() {
    let sink = Sink::start(Manners::default()).await;
    let mailer = mailer(&sink);
    for _ in 0..3 {
        mailer.clone().send(mail()).await.unwrap();
    }
    assert_eq!(sink.mails(), 3);
    assert_eq!(sink.seen(|seen| seen.connections), 1);
}

#[tokio::test]
async fn a_connection_that_nobody_needs_is_closed() {
    let sink = Sink::start(Manners::default()).await;
    let config = MailConfig {
        idle: Duration::from_millis(10),
        ..config(&sink)
    };
    let mailer = Mailer::new(&config).unwrap();
    mailer.send(mail()).await.unwrap();
    eventually(|| sink.got("QUIT")).await;
    mailer.send(mail()).await.unwrap();
    assert_eq!(sink.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn a_connection_that_the_mail_server_closed_is_no_failure() {
    let answers = vec![("RSET", "421 4.4.2 too long idle".to_owned())];
    let sink = Sink::start(Manners {
        answers,
        ..Manners::default()
    })
    .await;
    let mailer = mailer(&sink);
    for _ in 0..2 {
        mailer.send(mail()).await.unwrap();
    }
    assert_eq!(sink.mails(), 2);
    assert_eq!(sink.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn only_so_many_mails_go_at_once() {
    let (open, gate) = watch::channel(false);
    let sink = Sink::start(Manners {
        gate: Some(gate),
        ..Manners::default()
    })
    .await;
    let config = MailConfig {
        at_once: 2,
        ..config(&sink)
    };
    let mailer = Mailer::new(&config).unwrap();
    let mails: Vec<_> = (0..6)
        .map(|_| {
            let mailer = mailer.clone();
            tokio::spawn(async move { mailer.send(mail()).await })
        })
        .collect();
    eventually(|| sink.seen(|seen| seen.waiting == 2)).await;
    open.send(true).unwrap();
    for sent in mails {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(sink.mails(), 6);
    assert_eq!(sink.seen(|seen| seen.most_waiting), 2);
    assert_eq!(sink.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn a_connection_whose_mail_was_given_up_half_way_isnt_used_again() {
    let (open, gate) = watch::channel(false);
    let sink = Sink::start(Manners {
        gate: Some(gate),
        ..Manners::default()
    })
    .await;
    let mailer = mailer(&sink);
    let first = tokio::spawn({
        let mailer = mailer.clone();
        async move { mailer.send(mail()).await }
    });
    eventually(|| sink.seen(|seen| seen.waiting == 1)).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    open.send(true).unwrap();
    mailer.send(mail()).await.unwrap();
    assert_eq!(sink.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn the_mail_server_can_be_looked_at() {
    let sink = Sink::start(Manners::default()).await;
    mailer(&sink).check().await.unwrap();
    assert!(sink.got("QUIT"));
    assert!(!sink.got("MAIL"));
}
