//! A visit to a link.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use reqwest::Url;
use rhizome_decoder::{Error as Unread, page::Page};

use tokio::time::Instant;

use super::{
    Previews, oembed,
    picture::Picture,
    told::{self, resolve},
};
use crate::{
    MatrixError,
    outbound::{Found, Schemes, Visit, WebError, web},
};

/// Redirects that are followed: those who shorten links, who count them, and who greet by language.
const REDIRECTS: usize = 8;
/// Time for a page, what completes it and its picture, all together.
const ALL: Duration = Duration::from_secs(30);
/// Time until there is another piece.
const STALLED: Duration = Duration::from_secs(5);
/// What can be read, and better.
const PAGES: HeaderValue =
    HeaderValue::from_static("text/html,application/xhtml+xml,image/*;q=0.8,*/*;q=0.5");
const PICTURES: HeaderValue =
    HeaderValue::from_static("image/webp,image/png,image/jpeg,image/gif;q=0.9,image/*;q=0.5");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A link as it is visited: without what is for browsers alone.
pub(super) fn link(text: &str) -> Result<Url, MatrixError> {
    let mut url = Url::parse(text).map_err(|_| MatrixError::invalid_param("This is no link"))?;
    if !matches!(url.scheme(), "http" | "https") {
        let message = "There are previews of http and https links";
        return Err(MatrixError::invalid_param(message));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The first language that a client accepts. The others would tell a site who asks.
pub(super) fn first_language(accepted: &str) -> Option<String> {
    let first = accepted.split([',', ';']).next()?.trim();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_language = (2..=35).contains(&first.len()) && first.bytes().all(fits);
    is_language.then(|| first.to_ascii_lowercase())
}

impl Previews {
    /// What is told of a link that isn't known.
    pub(super) async fn fetch(
        &self,
        url: Url,
        language: Option<&str>,
    ) -> Result<String, MatrixError> {
        let until = Instant::now() + ALL;
        let found = self.get(url, PAGES, language, until).await;
        let found = found.map_err(|error| failed(&error))?;
        let kind = kind(&found.headers);
        if kind.starts_with("image/") {
            let picture = self.keep_picture(found).await;
            return Ok(told::of_picture(picture.as_ref()));
        }
        if !matches!(&*kind, "text/html" | "application/xhtml+xml") {
            return Ok(told::nothing());
        }
        let (url, mut page) = self.read(found).await?;
        if page.title.is_none() || page.image.is_none() {
            self.complete(&url, &mut page, language, until).await;
        }
        let picture = match page
            .image
            .as_deref()
            .and_then(|to| resolve(&url, &page, to))
        {
            Some(at) => self.picture(at, until).await,
            None => None,
        };
        Ok(told::of_page(&url, &page, picture.as_ref()))
    }

    /// What a page says of itself, and where it is.
    async fn read(&self, found: Found) -> Result<(Url, Page), MatrixError> {
        let content_type = web::text(&found.headers, header::CONTENT_TYPE).map(ToOwned::to_owned);
        let page = found.body.beginning(self.0.config.page_size).await;
        let page = page.map_err(|error| failed(&error))?;
        let read = self.0.decoders.page(&page, content_type.as_deref()).await;
        match read {
            Ok(page) => Ok((found.url, page)),
            Err(Unread::Busy) => Err(MatrixError::limit_exceeded(1_000)),
            Err(error) => {
                tracing::debug!(%error, "a page can't be read");
                Ok((found.url, Page::default()))
            }
        }
    }

    /// Takes what a page doesn't say itself from its oEmbed, if it has one.
    async fn complete(&self, url: &Url, page: &mut Page, language: Option<&str>, until: Instant) {
        let Some(at) = page.oembed.as_deref().and_then(|to| resolve(url, page, to)) else {
            return;
        };
        let got = async {
            let found = self.get(at, JSON, language, until).await?;
            found.body.at_most(oembed::MOST)?.whole().await
        };
        match got.await {
            Ok(json) => oembed::complete(page, &json),
            Err(error) => tracing::debug!(%error, "no oEmbed"),
        }
    }

    async fn picture(&self, at: Url, until: Instant) -> Option<Picture> {
        match self.get(at, PICTURES, None, until).await {
            Ok(found) if kind(&found.headers).starts_with("image/") => {
                self.keep_picture(found).await
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "no picture of a page");
                None
            }
        }
    }

    async fn get(
        &self,
        url: Url,
        accept: HeaderValue,
        language: Option<&str>,
        until: Instant,
    ) -> Result<Found, WebError> {
        let visit = Visit {
            schemes: Schemes::Any,
            redirects: REDIRECTS,
            // Who reads it stops before that.
            most: u64::MAX,
            time: self.0.config.timeout.min(until - Instant::now()),
            idle: STALLED,
        };
        let mut headers = HeaderMap::from_iter([(header::ACCEPT, accept)]);
        let language = language.map(|first| HeaderValue::try_from(format!("{first}, *;q=0.5")));
        if let Some(Ok(language)) = language {
            headers.insert(header::ACCEPT_LANGUAGE, language);
        }
        let permits = |url: &Url| self.permits(url);
        let inner = &self.0;
        let web = (inner.web.as_ref()).unwrap_or_else(|| inner.fed.outbound().web());
        web.get_where(url, &headers, &visit, &permits).await
    }

    /// Whether the operator lets links to this host be visited.
    pub(super) fn permits(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_end_matches('.');
        let is_of = |name: &String| {
            let above = host.strip_suffix(name.as_str());
            host == name || above.is_some_and(|rest| rest.ends_with('.'))
        };
        let config = &self.0.config;
        let allowed = &config.allowed_hosts;
        (allowed.is_empty() || allowed.iter().any(is_of)) && !config.denied_hosts.iter().any(is_of)
    }
}

/// A content type without its parameters.
fn kind(headers: &HeaderMap) -> String {
    let said = web::text(headers, header::CONTENT_TYPE).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// What is told of a link that gives nothing. Why stays here: it may tell of our network.
fn failed(error: &WebError) -> MatrixError {
    tracing::debug!(%error, "no preview of a link");
    match error {
        WebError::Refused(_) => MatrixError::forbidden("There are no previews of this link here"),
        _ => MatrixError::bad_gateway("The page can't be fetched"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let told = |text| link(text).map(|url| url.to_string());
        assert_eq!(
            told("https://a.example/b?c#d").unwrap(),
            "https://a.example/b?c"
        );
        for bad in [
            "",
            "a.example",
            "file:///etc/passwd",
            "data:text/html,x",
            "mxc://a/b",
        ] {
            assert_eq!(told(bad).unwrap_err().errcode, "M_INVALID_PARAM", "{bad}");
        }
    }

    #[test]
    fn languages() {
        for (accepted, first) in [
            ("de-DE,de;q=0.9,en;q=0.8", Some("de-de")),
            (" fr ;q=1", Some("fr")),
            ("*", None),
            ("", None),
            ("a\r\nb", None),
        ] {
            assert_eq!(first_language(accepted).as_deref(), first, "{accepted}");
        }
    }
}
