//! Where users go on once they have confirmed an address (`next_link`).

use http::Uri;
use rhizome_edge::MatrixError;

use crate::App;

/// The longest.
const MOST: usize = 2048;

/// Where users may go on: where the operator says, else where this server is, as clients are told.
pub(super) fn hosts(app: &App) -> Vec<String> {
    let own = || {
        let base = app.config.well_known_client.as_deref()?;
        Some(base.parse::<Uri>().ok()?.host()?.to_owned())
    };
    match &app.config.identity.next_hosts {
        Some(hosts) => hosts.clone(),
        None => own().into_iter().collect(),
    }
}

/// The host of a `next_link`, if users may go on there.
///
/// # Errors
/// 400 `M_INVALID_PARAM`
pub(super) fn host(link: &str, hosts: &[String]) -> Result<String, MatrixError> {
    let wrong = |why: &str| MatrixError::invalid_param(format!("next_link {why}"));
    // A browser would read over what isn't graphic, and take backslashes for slashes.
    if link.len() > MOST || !link.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return Err(wrong("is no web address"));
    }
    let before_fragment = link.split('#').next().unwrap_or_default();
    let uri: Uri = before_fragment
        .parse()
        .map_err(|_| wrong("is no web address"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("has to begin with https:// or http://"));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    if host.is_empty() || authority.contains('@') {
        return Err(wrong("has no host, or a user's name in it"));
    }
    if !hosts.iter().any(|one| one.eq_ignore_ascii_case(&host)) {
        return Err(wrong("leads to a host that this server sends nobody to"));
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_web_and_only_where_it_is_allowed() {
        for link in [
            "https://app.example.org/#/register?x=y",
            "http://APP.example.org:8080/a",
        ] {
            let allowed = ["x.example".to_owned(), "App.example.org".to_owned()];
            assert_eq!(host(link, &allowed).unwrap(), "app.example.org");
            assert!(host(link, &["example.org".to_owned()]).is_err());
            assert!(host(link, &[]).is_err());
        }
    }

    #[test]
    fn nothing_that_runs_or_deceives() {
        let long = format!("https://a.example/{}", "x".repeat(MOST));
        let allowed = ["a.example", "good.example", "evil.example"].map(str::to_owned);
        for link in [
            "",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "data:text/html,x",
            "/relative",
            "//a.example/",
            "https://good.example@evil.example/",
            "https:\\\\evil.example",
            "java\nscript:alert(1)",
            "https://a.example/\r\nX: y",
            "https:///path",
            &long,
        ] {
            assert!(host(link, &allowed).is_err(), "{link}");
        }
    }
}
