//! The page for people who open the server's address in a browser: what this is, and with what they can use it.

use std::fmt::Write as _;

use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};
use rhizome_edge::{Binary, Content, MatrixError};
use ring::digest;
use ruma::{api::auth_scheme::NoAccessToken, metadata};

use crate::{App, Ruma, config::Welcome};

/// `GET /`
pub struct Page;
metadata! {
    @for Page,
    method: GET,
    rate_limited: true,
    authentication: NoAccessToken,
    path: "/",
}

const STYLE: &str = "body{font:1.1rem/1.5 sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem;color:#222;background:#fff}\
    h1{font-size:1.8rem}footer{margin-top:3rem;font-size:.85rem;color:#666}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}footer{color:#999}}";

/// The page.
pub async fn page(
    State(app): State<App>,
    Ruma { .. }: Ruma<Binary<Page>>,
) -> Result<Content, MatrixError> {
    let welcome = app.config.welcome.as_ref();
    let welcome = welcome.ok_or_else(MatrixError::unrecognized)?;
    let html = html(welcome, app.config.server_name.as_str());
    let style = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    );
    let policy = HeaderValue::try_from(policy).map_err(|_| MatrixError::internal())?;
    let of_text = |text| HeaderValue::from_static(text);
    let content = Content::of_bytes(of_text("text/html; charset=utf-8"), html);
    Ok(content
        .with(header::CONTENT_SECURITY_POLICY, policy)
        .with(header::REFERRER_POLICY, of_text("no-referrer"))
        .with(header::CACHE_CONTROL, of_text("public, max-age=3600"))
        .with(header::X_CONTENT_TYPE_OPTIONS, of_text("nosniff")))
}

fn html(welcome: &Welcome, server: &str) -> String {
    let server = escaped(server);
    let title = welcome.title.as_deref().map_or(server.clone(), escaped);
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
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>{text}\
         <p>This is a <a href=\"https://matrix.org/\" rel=\"noopener noreferrer\">Matrix</a> server, for messages and \
         calls: people with an account here are called <code>@name:{server}</code>, and can talk with those of every \
         other server.</p>{clients}<p>If an app asks for your server, write <code>{server}</code>.</p>{software}</html>"
    )
}

/// A text as it stands in HTML, also between quotation marks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_writes_is_text() {
        let welcome = Welcome {
            title: Some("A & <b>".to_owned()),
            text: Some("\"hello\"".to_owned()),
            clients: vec![("<App>".to_owned(), "https://a.org/?a=1&b='\"".to_owned())],
            software: None,
        };
        let page = html(&welcome, "a.org");
        for part in [
            "<h1>A &amp; &lt;b&gt;</h1><p>&quot;hello&quot;</p>",
            "<li><a href=\"https://a.org/?a=1&amp;b=&#39;&quot;\" rel=\"noopener noreferrer\">&lt;App&gt;</a></li>",
            "<code>@name:a.org</code>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("<footer>") && !page.contains("<script"));
    }
}
