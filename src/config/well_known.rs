//! `[well_known]`: where the server is, when it isn't at its name, and what else is told of it.

use ruma::serde::Base64;
use ruma::{OwnedServerName, OwnedUserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Problems;
use super::units::de_server_name_option;
use super::welcome::is_page;

/// Where the server is, when it isn't at its name, and what else is told of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WellKnown {
    /// The base URL of the client API, told to clients at `/.well-known/matrix/client`.
    pub client: Option<String>,
    /// Host and port of the federation API, told to servers at `/.well-known/matrix/server`.
    #[serde(deserialize_with = "de_server_name_option")]
    pub server: Option<OwnedServerName>,
    /// What else clients are told there.
    pub client_extra: Map<String, Value>,
    /// Whom people may turn to, told at `/.well-known/matrix/support`.
    pub contacts: Vec<Contact>,
    /// A page that helps people, told there as well.
    pub support_page: Option<String>,
    /// The public key of a policy server that has this server's name, told at `/.well-known/matrix/policy_server`.
    pub policy_server_key: Option<String>,
}

/// Somebody whom people may turn to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// What for.
    pub role: String,
    /// Their user.
    #[serde(default)]
    pub matrix_id: Option<OwnedUserId>,
    /// Their mail.
    #[serde(default)]
    pub email_address: Option<String>,
}

/// Roles that the specification has. Others are names with a dot.
const ROLES: [&str; 2] = ["m.role.admin", "m.role.security"];

impl Contact {
    fn fault(&self) -> Option<&'static str> {
        let (role, email) = (self.role.as_str(), self.email_address.as_deref());
        if !ROLES.contains(&role) && (role.starts_with("m.") || !role.contains('.')) {
            return Some("the role is none that anybody knows");
        }
        if email.is_some_and(|email| !email.contains('@')) {
            return Some("the email_address is none");
        }
        let nowhere = self.matrix_id.is_none() && email.is_none();
        nowhere.then_some("a contact has neither matrix_id nor email_address")
    }
}

impl WellKnown {
    pub(super) fn check(&self, problems: &mut Problems) {
        self.check_client(problems);
        if let Some(fault) = self.contacts.iter().find_map(Contact::fault) {
            problems.add(
                "well_known.contacts",
                fault,
                "write { role = \"m.role.admin\", email_address = \"admin@example.org\" }, with \"m.role.security\" for what is sensitive",
            );
        }
        if let Some(url) = self.support_page.as_deref().filter(|url| !is_page(url)) {
            problems.add(
                "well_known.support_page",
                format!("`{url}` is no address of a page"),
                "write it with https://, such as \"https://example.org/help\"",
            );
        }
        let is_key = |key: &str| {
            Base64::<ruma::serde::base64::UrlSafe>::parse(key)
                .is_ok_and(|key| key.as_bytes().len() == 32)
                || Base64::<ruma::serde::base64::Standard>::parse(key)
                    .is_ok_and(|key| key.as_bytes().len() == 32)
        };
        if self
            .policy_server_key
            .as_deref()
            .is_some_and(|key| !is_key(key))
        {
            problems.add(
                "well_known.policy_server_key",
                "it is no public ed25519 key",
                "write the 43 characters of unpadded base64 that the policy server says",
            );
        }
    }

    fn check_client(&self, problems: &mut Problems) {
        if self.client_extra.contains_key("m.homeserver") {
            problems.add(
                "well_known.client_extra",
                "where the server is, `client` says",
                "take out `m.homeserver`, and set well_known.client",
            );
        }
        let Some(url) = &self.client else { return };
        let host = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        let fine = host.is_some_and(|host| {
            let authority = host.split('/').next().unwrap_or_default();
            !authority.is_empty()
                && url.parse::<axum::http::Uri>().is_ok()
                && !host.contains(['?', '#', '@'])
        });
        if !fine {
            problems.add(
                "well_known.client",
                format!("`{url}` is not the base URL of a server"),
                "write it with https://, such as \"https://matrix.example.org\"",
            );
        }
    }
}
