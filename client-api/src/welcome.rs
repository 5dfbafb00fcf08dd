//! The page for people who open the server's address in a browser: what this is, and with what they can use it.

use std::fmt::Write as _;

use axum::extract::State;
use http::{HeaderValue, header};
use rhizome_edge::{Binary, Content, MatrixError};
use ruma::{api::auth_scheme::NoAccessToken, metadata};

use crate::{
    App, Ruma,
    config::Welcome,
    page::{self, escaped},
};

/// `GET /`
pub struct Page;
metadata! {
    @for Page,
    method: GET,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/",
}

/// The page.
pub async fn page(
    State(app): State<App>,
    Ruma { .. }: Ruma<Binary<Page>>,
) -> Result<Content, MatrixError> {
    let welcome = app.config.welcome.as_ref();
    let welcome = welcome.ok_or_else(MatrixError::unrecognized)?;
    let server = app.config.server_name.as_str();
    let title = welcome.title.as_deref().unwrap_or(server);
    let page = page::Page::new(title).with(&html(welcome, server));
    let cached = HeaderValue::from_static("public, max-age=3600");
    Ok(page.content().with(header::CACHE_CONTROL, cached))
}

/// What stands on it.
fn html(welcome: &Welcome, server: &str) -> String {
    let server = escaped(server);
    let text = welcome.text.as_deref().map(escaped).unwrap_or_default();
    let text = if text.is_empty() {
        text
    } else {
        format!("<p>{text}</p>")
    };
    let mut clients = String::new();
    for (name, url) in &welcome.clients {
        let (name, url) = (escaped(name), escaped(url));
        // A String takes everything.
        let _ = write!(
            clients,
            "<li><a href=\"{url}\" rel=\"noopener noreferrer\">{name}</a></li>"
        );
    }
    if !clients.is_empty() {
        clients = format!("<p>You can use it with one of these apps:</p><ul>{clients}</ul>");
    }
    let software = welcome.software.as_deref().map(escaped);
    let software = software.map_or_else(String::new, |name| format!("<footer>{name}</footer>"));
    format!(
        "{text}<p>This is a <a href=\"https://matrix.org/\" rel=\"noopener noreferrer\">Matrix</a> server, for messages \
         and calls: people with an account here are called <code>@name:{server}</code>, and can talk with those of every \
         other server.</p>{clients}<p>If an app asks for your server, write <code>{server}</code>.</p>{software}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_writes_is_text() {
        let welcome = Welcome {
            title: None,
            text: Some("\"hello\"".to_owned()),
            clients: vec![("<App>".to_owned(), "https://a.org/?a=1&b='\"".to_owned())],
            software: None,
        };
        let page = html(&welcome, "a.org");
        for part in [
            "<p>&quot;hello&quot;</p>",
            "<li><a href=\"https://a.org/?a=1&amp;b=&#39;&quot;\" rel=\"noopener noreferrer\">&lt;App&gt;</a></li>",
            "<code>@name:a.org</code>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("<footer>") && !page.contains("<script"));
    }
}
