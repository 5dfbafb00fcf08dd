//! Identity servers: who knows whose e-mail addresses and telephone numbers these are (Identity Service API v2).
//!
//! Clients name them, so they are come to as any web address that strangers name: over `https`, where the egress rules
//! allow it, without redirects, within bounds of time and size. What goes wrong there is told to the client, but for what
//! it would take for ours: a token that isn't good there is no reason to log out here.

mod server;
mod validity;

use std::{sync::OnceLock, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::Url;

pub use self::server::{IdentityServer, Invitation, PublicKey, StoredInvite};
pub(crate) use self::validity::is_valid;
use crate::{
    Federation, MatrixError,
    outbound::{Answer, Messenger, Reach, Schemes, WebError},
};

/// Time for one request: its user waits.
const TIME: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MOST: usize = 64 << 10;

/// What it takes to come to identity servers, made when it is first needed.
#[derive(Default)]
pub(crate) struct Ways {
    /// Where users lead us.
    to_users: OnceLock<Option<Messenger>>,
    /// Where the operator leads us.
    to_operators: OnceLock<Option<Messenger>>,
}

impl Federation {
    /// An identity server that a user names.
    ///
    /// # Errors
    /// 400 `M_INVALID_PARAM` if that is no name of a server.
    pub fn identity_server(&self, name: &str) -> Result<IdentityServer, MatrixError> {
        IdentityServer::named(self, name)
    }

    /// Brings JSON to an address of the operator's, with a bearer token if there is one; whether it was taken.
    ///
    /// # Errors
    /// Why it can't be brought: for the log.
    pub async fn bring_to_operators(
        &self,
        url: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> Result<http::StatusCode, WebError> {
        let ways = &self.inner.identity;
        let messenger = ways.to_operators.get_or_init(|| {
            let reach = Reach::default();
            self.outbound().messenger(&reach)
        });
        let mut headers = json_headers();
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, bearer(token)?);
        }
        let to = (Method::POST, parsed(url)?);
        let answer = bring(messenger.as_ref(), to, headers, body, Schemes::Any).await?;
        Ok(answer.status)
    }

    /// Brings something to an address that a user named.
    async fn bring_to_users(
        &self,
        to: (Method, Url),
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, WebError> {
        let messenger = self.inner.identity.to_users.get_or_init(|| {
            let reach = Reach {
                denied: self.config().denied_ranges.clone(),
                allowed: self.config().allowed_ranges.clone(),
            };
            self.outbound().messenger(&reach)
        });
        bring(messenger.as_ref(), to, headers, body, Schemes::Https).await
    }
}

async fn bring(
    messenger: Option<&Messenger>,
    to: (Method, Url),
    headers: HeaderMap,
    body: Vec<u8>,
    schemes: Schemes,
) -> Result<Answer, WebError> {
    let none = || WebError::Unreachable("nothing can be sent to the web".to_owned());
    let messenger = messenger.ok_or_else(none)?;
    let bounds = (schemes, TIME, MOST);
    messenger.bring(to, headers, body, bounds).await
}

fn parsed(url: &str) -> Result<Url, WebError> {
    Url::parse(url).map_err(|_| WebError::Refused("it isn't a URL".to_owned()))
}

fn bearer(token: &str) -> Result<HeaderValue, WebError> {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| WebError::Refused("its token isn't one".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn json_headers() -> HeaderMap {
    let kind = HeaderValue::from_static("application/json");
    let of = |name: HeaderName| (name, kind.clone());
    HeaderMap::from_iter([of(header::CONTENT_TYPE), of(header::ACCEPT)])
}
