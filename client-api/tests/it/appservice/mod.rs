//! Application services act for their users, and what is theirs alone nobody else makes.

mod acting;
mod aliases;
mod devices;
mod exclusive;
mod limits;
mod lists;
mod ping;
mod registering;
mod times;
mod told;

use http::{Method, StatusCode};
use rhizome_appservice::{Registrations, Services, parse};
use rhizome_client_api::{ClientConfig, users};
use rhizome_federation::{FederationConfig, testing::Network};
use rhizome_storage::{Store, testing::each_database};
use ruma::server_name;
use serde_json::{Value, json};

use crate::harness::{Server, User, esc};

/// A bridge with users and aliases of its own.
const IRC: &str = r"
id: irc
url: null
as_token: irc-token
hs_token: irc-hs-token
sender_localpart: ircbot
rate_limited: false
namespaces:
  users: [{exclusive: true, regex: '@irc_.*'}]
  aliases: [{exclusive: true, regex: '#irc_.*'}]
";

/// A bot that acts for whoever is here, and whose devices don't log in.
const PUPPETS: &str = r"
id: puppets
url: null
as_token: puppets-token
hs_token: puppets-hs-token
sender_localpart: puppeteer
io.element.msc4190: true
namespaces:
  users: [{exclusive: false, regex: '@.*'}]
";

/// What the services of a test are.
fn registrations(texts: &[&str]) -> Registrations {
    let texts: Vec<(&str, &str)> = texts.iter().map(|text| ("test.yaml", *text)).collect();
    parse(&texts, server_name!("here")).unwrap_or_else(|error| panic!("{error}"))
}

/// A server with these services, on both databases.
async fn story(texts: &[&str], tell: impl AsyncFn(&Server)) {
    story_with(texts, |_| {}, tell).await;
}

/// The same with some settings of its own.
async fn story_with(
    texts: &[&str],
    change: impl Fn(&mut ClientConfig),
    tell: impl AsyncFn(&Server),
) {
    each_database(async |store: Store| {
        let registrations = registrations(texts);
        for service in registrations.iter() {
            assert!(!users::of_service(&store, &service.sender).await.unwrap());
        }
        let federation = FederationConfig {
            services: Some(Services::new(registrations)),
            ..FederationConfig::default()
        };
        let (name, network) = (server_name!("here"), Network::default());
        let server = Server::federating(name, 7, store, &network, federation, &change);
        tell(&server).await;
    })
    .await;
}

/// A service, as who it makes requests.
#[derive(Clone)]
struct Acting {
    server: Server,
    token: &'static str,
    /// What stands in the query of its requests.
    query: String,
}

impl Acting {
    /// As its own user.
    fn of(server: &Server, token: &'static str) -> Self {
        let (server, query) = (server.clone(), String::new());
        Self {
            server,
            token,
            query,
        }
    }

    /// As this user.
    fn as_user(&self, user: &str) -> Self {
        Self {
            query: format!("user_id={}", esc(user)),
            ..self.clone()
        }
    }

    /// With something more in its queries.
    fn and(&self, more: &str) -> Self {
        let both = format!("{}&{more}", self.query);
        Self {
            query: both.trim_start_matches('&').to_owned(),
            ..self.clone()
        }
    }

    /// Makes one of its users, without a session.
    async fn makes(&self, name: &str) -> Self {
        let body = json!({ "type": TYPE, "username": name, "inhibit_login": true });
        let (status, answer) = self.call(Method::POST, "/register", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer, json!({ "user_id": format!("@{name}:here") }));
        self.as_user(&format!("@{name}:here"))
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("/_matrix/client/v3{path}{mark}{}", self.query);
        let body = Some(body).filter(|_| method != Method::GET);
        self.server
            .request(method, &path, Some(self.token), body)
            .await
    }

    async fn ok(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    async fn read(&self, path: &str) -> Value {
        self.ok(Method::GET, path, Value::Null).await
    }

    async fn refused(&self, method: Method, path: &str, body: Value, (status, code): (u16, &str)) {
        let answer = self.call(method, path, body).await;
        assert_eq!(
            answer.0.as_u16(),
            status,
            "{path} {}: {}",
            self.query,
            answer.1
        );
        assert_eq!(answer.1["errcode"], code, "{path}: {}", answer.1);
    }

    async fn whoami_refused(&self, refusal: (u16, &str)) {
        let path = "/account/whoami";
        self.refused(Method::GET, path, Value::Null, refusal).await;
    }
}

/// The type of registrations and logins.
const TYPE: &str = "m.login.application_service";

/// A request of whoever this is, which is refused.
async fn refuses(
    user: &User,
    (method, path): (Method, &str),
    body: Value,
    (status, code): (u16, &str),
) {
    let body = Some(body).filter(|_| method != Method::GET);
    let answer = user.call(method, path, body).await;
    assert_eq!(answer.0.as_u16(), status, "{path}: {}", answer.1);
    assert_eq!(answer.1["errcode"], code, "{path}: {}", answer.1);
}
