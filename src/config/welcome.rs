//! `[welcome]`: the page for people who open the server's address in a browser.

use serde::Deserialize;

use super::Problems;

/// The page for people who open the server's address in a browser.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Welcome {
    /// Whether there is one.
    pub enabled: bool,
    /// What stands on top of it; the server's name, if it isn't set.
    pub title: Option<String>,
    /// What it says first, beside what Matrix is.
    pub text: Option<String>,
    /// Apps that people can use.
    pub clients: Vec<WelcomeClient>,
    /// Whether it says which version this is.
    pub show_version: bool,
}

/// An app that people can use.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WelcomeClient {
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub url: String,
}

impl Default for Welcome {
    fn default() -> Self {
        Self {
            enabled: true,
            title: None,
            text: None,
            clients: vec![
                WelcomeClient {
                    name: "Element".to_owned(),
                    url: "https://element.io/download".to_owned(),
                },
                WelcomeClient {
                    name: "Others".to_owned(),
                    url: "https://matrix.org/ecosystem/clients/".to_owned(),
                },
            ],
            show_version: false,
        }
    }
}

impl Welcome {
    pub(super) fn check(&self, problems: &mut Problems) {
        let is_page = |client: &&WelcomeClient| is_page(&client.url);
        if let Some(wrong) = self.clients.iter().find(|client| !is_page(client)) {
            problems.add(
                "welcome.clients",
                format!("`{}` is no address of a page", wrong.url),
                "write it with https://, such as \"https://app.example.org\"",
            );
        }
    }
}

/// Whether a browser can open it as a page.
pub(super) fn is_page(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    host.is_some_and(|host| !host.is_empty()) && url.parse::<axum::http::Uri>().is_ok()
}
