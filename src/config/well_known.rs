//! `[well_known]`: where the server is, when it isn't at its name.

use ruma::OwnedServerName;
use serde::Deserialize;

use super::Problems;
use super::units::de_server_name_option;

/// Where the server is, when it isn't at its name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WellKnown {
    /// The base URL of the client API, told to clients at `/.well-known/matrix/client`.
    pub client: Option<String>,
    /// Host and port of the federation API, told to servers at `/.well-known/matrix/server`.
    #[serde(deserialize_with = "de_server_name_option")]
    pub server: Option<OwnedServerName>,
}

impl WellKnown {
    pub(super) fn check(&self, problems: &mut Problems) {
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
