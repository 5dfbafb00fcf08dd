//! Who sends what to whom.

use std::sync::Arc;
use std::time::Duration;

use rhizome_mail::{
    Address, Body, Content, Digest, Link, LinkTemplate, Mail, MailConfig, Mailer, Message, Person,
    Room, TlsMode,
};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use crate::sink::Sink;

/// Waits until it is so.
pub async fn eventually(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.expect("it never becomes so");
}

pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// The settings for a mail server of a test's, not encrypted.
pub fn config(sink: &Sink) -> MailConfig {
    MailConfig {
        port: Some(sink.port),
        tls: TlsMode::None,
        from_name: "Example".to_owned(),
        timeout: Duration::from_secs(30),
        ..MailConfig::new("127.0.0.1", address("matrix@example.org"))
    }
}

pub fn mailer(sink: &Sink) -> Mailer {
    Mailer::new(&config(sink)).unwrap()
}

pub fn content(subject: &str, text: &str) -> Content {
    Content {
        subject: subject.to_owned(),
        text: text.to_owned(),
        html: format!("<p>{text}</p>"),
    }
}

pub fn mail() -> Mail {
    Mail::new(
        address("alice@mail.example"),
        content("Hello", "Good morning"),
    )
}

pub fn unsubscribe() -> Link {
    Link::parse("https://example.org/unsubscribe?token=abc").unwrap()
}

/// One message in one room.
pub fn digest(sender: &str, room: &str, text: &str) -> Digest {
    let person = |id: &str, name: &str| Person {
        id: id.to_owned(),
        name: Some(name.to_owned()),
    };
    Digest {
        user: person("@alice:example.org", "Alice"),
        server: "example.org".to_owned(),
        rooms: vec![Room {
            id: "!room:example.org".to_owned(),
            name: Some(room.to_owned()),
            is_direct: false,
            messages: vec![Message {
                id: "$event".to_owned(),
                sender: person("@bob:example.org", sender),
                at: 1_769_850_300_000,
                body: Body::Text(text.to_owned()),
            }],
            more: 0,
        }],
        more_rooms: 0,
        invites: vec![],
        more_invites: 0,
        links: LinkTemplate::default(),
        unsubscribe: unsubscribe(),
    }
}

/// A certificate for a name, and what to trust for it.
pub fn certificate(name: &str) -> (TlsAcceptor, NamedTempFile) {
    let issued = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), issued.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key.into())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}
