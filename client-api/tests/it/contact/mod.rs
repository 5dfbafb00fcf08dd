//! Addresses and telephone numbers of users.

mod approved;
mod attacks;
mod binding;
mod codes;
mod directory;
mod invites;
mod known;
mod registering;
mod reset;
mod telephone;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use rhizome_client_api::{ClientConfig, Mailing, config::ContactRule};
use rhizome_federation::testing::Network;
use rhizome_mail::{Address, MailConfig, Mailer, Templates, TlsMode, UnsubscribeKey};
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    harness::{Server, User},
    pushers::sink::Mails,
};

/// Where the client API says to be.
const BASE: &str = "https://matrix.example.org";
const DAY: Duration = Duration::from_hours(24);

/// A server that sends mails.
pub struct World {
    pub server: Server,
    pub network: Network,
    pub mails: Mails,
    pub clock: Clock,
}

/// Runs a test on both databases. The time stands until the test moves it.
pub async fn each(test: impl AsyncFn(&World)) {
    each_with(|_| {}, test).await;
}

/// The same with other settings.
pub async fn each_with(settings: impl Fn(&mut ClientConfig), test: impl AsyncFn(&World)) {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(1_700_000_000_000);
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let (network, mails) = (Network::default(), Mails::begin().await);
        let server = Server::on(store.clone(), &network, |config| {
            BASE.clone_into(&mut config.identity.base);
            config.mailing = Some(Arc::new(mailing(config, mails.port)));
            config.registration_rules.email = ContactRule::Optional;
            settings(config);
        });
        let world = World {
            server,
            network,
            mails,
            clock,
        };
        test(&world).await;
        store.close().await;
        database.remove().await;
    }
}

fn mailing(config: &ClientConfig, port: u16) -> Mailing {
    let from = Address::parse("matrix@example.org").unwrap();
    let mailer = Mailer::new(&MailConfig {
        port: Some(port),
        tls: TlsMode::None,
        ..MailConfig::new("127.0.0.1", from)
    });
    Mailing::new(
        config.server_name.clone(),
        BASE.to_owned(),
        mailer.unwrap(),
        Templates::built_in().unwrap(),
        UnsubscribeKey::new(&[7; 32]).unwrap(),
    )
}

/// For what a code is asked.
pub const REGISTER: &str = "/register";
pub const RESET: &str = "/account/password";
pub const ADD: &str = "/account/3pid";

impl World {
    /// A request that nobody is logged in for.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let path = format!("/_matrix/client/v3{path}");
        let request = self.server.request(Method::POST, &path, None, Some(body));
        let (status, answer) = request.await;
        (status.as_u16(), answer)
    }

    /// Asks for a code for an e-mail address.
    pub async fn ask(&self, what: &str, email: &str, attempt: u64) -> (u16, Value) {
        let body = json!({ "client_secret": "secret", "email": email, "send_attempt": attempt });
        self.post(&format!("{what}/email/requestToken"), body).await
    }

    /// The same, which must succeed; gives the session's id.
    pub async fn begin(&self, what: &str, email: &str) -> String {
        let (status, answer) = self.ask(what, email, 1).await;
        assert_eq!(status, 200, "{answer}");
        answer["sid"].as_str().unwrap().to_owned()
    }

    /// Asks for a code, and confirms the address by the link that comes as this mail.
    pub async fn confirmed(&self, what: &str, email: &str, mail: usize) -> String {
        let sid = self.begin(what, email).await;
        let link = link(&self.mails.last(mail).await);
        let (status, page) = self.visit(Method::POST, &link).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        sid
    }

    /// What a browser is shown.
    pub async fn visit(&self, method: Method, path: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).unwrap();
        let answer = self.server.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let policy = answer.headers()["content-security-policy"].to_str();
        let policy = policy.unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.headers()[name], value);
        }
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    /// Submits a code as clients do.
    pub async fn submit(&self, sid: &str, secret: &str, code: &str) -> (u16, Value) {
        let path = "/_matrix/client/unstable/org.rhizome.mail/submit";
        let body = json!({ "sid": sid, "client_secret": secret, "token": code });
        let request = self.server.request(Method::POST, path, None, Some(body));
        let (status, answer) = request.await;
        (status.as_u16(), answer)
    }

    /// A user with an e-mail address, who got as many mails before.
    pub async fn user(&self, name: &str, email: &str, mails: usize) -> User {
        let user = self.server.register(name).await;
        let sid = self.confirmed(ADD, email, mails + 1).await;
        let (status, answer) = add(&user, &sid).await;
        assert_eq!(status, 200, "{answer}");
        user
    }
}

/// The path of the link in a mail.
pub fn link(mail: &str) -> String {
    let begin = format!("{BASE}/_matrix/client/unstable/org.rhizome.mail/verify/");
    let at = mail.find(&begin).unwrap_or_else(|| panic!("{mail}"));
    let link = &mail[at + BASE.len()..];
    let end = link.find(|c: char| c.is_whitespace() || "<>\"".contains(c));
    link[..end.unwrap()].to_owned()
}

/// The code in a mail.
pub fn code(mail: &str) -> String {
    let code = link(mail).rsplit('/').next().unwrap().to_owned();
    assert!(mail.matches(&code).count() >= 3, "{mail}");
    code
}

/// How a user confirms who they are.
pub fn password(user: &User) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user.id },
        "password": "a good password",
    })
}

/// Adds what was validated in a session.
pub async fn add(user: &User, sid: &str) -> (u16, Value) {
    let body = json!({ "sid": sid, "client_secret": "secret", "auth": password(user) });
    let added = user.call(Method::POST, "/account/3pid/add", Some(body));
    let (status, answer) = added.await;
    (status.as_u16(), answer)
}

/// The addresses of an account.
pub async fn addresses(user: &User) -> Vec<String> {
    let told = user.read("/account/3pid").await;
    let all = told["threepids"].as_array().unwrap().iter();
    all.map(|one| one["address"].as_str().unwrap().to_owned())
        .collect()
}

/// What a request that is refused says.
#[track_caller]
pub fn refused((status, answer): (u16, Value), wanted: u16, code: &str) {
    assert_eq!(
        (status, &answer["errcode"]),
        (wanted, &json!(code)),
        "{answer}"
    );
}
