//! Where a request goes.

use url::Url;

/// What is at these segments below a service's URL, which may have a path of its own.
pub(super) fn below(base: &Url, path: &[&str], query: &[(&str, &str)]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_below_the_url_of_its_service() {
        let at = |base: &str, path: &[&str], query: &[(&str, &str)]| {
            below(&Url::parse(base).unwrap(), path, query).to_string()
        };
        let path = ["_matrix", "app", "v1", "rooms", "#a/b?c%:here"];
        let room = "_matrix/app/v1/rooms/%23a%2Fb%3Fc%25:here";
        assert_eq!(at("http://a:1", &path, &[]), format!("http://a:1/{room}"));
        assert_eq!(at("http://a:1/", &path, &[]), format!("http://a:1/{room}"));
        assert_eq!(at("http://a/b", &path, &[]), format!("http://a/b/{room}"));
        assert_eq!(at("http://a/b/", &path, &[]), format!("http://a/b/{room}"));
        let asked = at("http://a", &["x"], &[("k", "a&b=c"), ("l", "é")]);
        assert_eq!(asked, "http://a/x?k=a%26b%3Dc&l=%C3%A9");
    }
}
