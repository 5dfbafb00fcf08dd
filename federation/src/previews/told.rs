//! What is told of a link.

use reqwest::Url;
use rhizome_decoder::page::Page;
use serde_json::{Map, Value};

use super::picture::Picture;

/// Of what is neither a page nor a picture.
pub(super) fn nothing() -> String {
    "{}".to_owned()
}

/// Of a link to a picture.
pub(super) fn of_picture(picture: Option<&Picture>) -> String {
    let mut told = Map::new();
    put_picture(&mut told, picture, None);
    Value::Object(told).to_string()
}

/// Of a page at this address.
pub(super) fn of_page(at: &Url, page: &Page, picture: Option<&Picture>) -> String {
    let mut told = Map::new();
    let url = page.url.as_deref().and_then(|to| resolve(at, page, to));
    let url = url.map(String::from);
    for (key, text) in [
        ("og:title", &page.title),
        ("og:description", &page.description),
        ("og:site_name", &page.site_name),
        ("og:type", &page.kind),
        ("og:url", &url),
    ] {
        if let Some(text) = text {
            told.insert(key.to_owned(), text.as_str().into());
        }
    }
    put_picture(&mut told, picture, page.image_alt.as_deref());
    Value::Object(told).to_string()
}

fn put_picture(told: &mut Map<String, Value>, picture: Option<&Picture>, alt: Option<&str>) {
    let Some(picture) = picture else {
        return;
    };
    let mut put = |key: &str, value: Value| drop(told.insert(key.to_owned(), value));
    put("og:image", picture.uri.as_str().into());
    put("og:image:type", picture.content_type.into());
    put("og:image:width", picture.width.into());
    put("og:image:height", picture.height.into());
    put("matrix:image:size", picture.size.into());
    if let Some(alt) = alt {
        put("og:image:alt", alt.into());
    }
}

/// An address on a page.
pub(super) fn resolve(at: &Url, page: &Page, to: &str) -> Option<Url> {
    let base = page.base.as_deref().and_then(|base| at.join(base).ok());
    let url = base.as_ref().unwrap_or(at).join(to).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_on_pages() {
        let at = Url::parse("https://a.example/b/c").unwrap();
        let page = |base: Option<&str>| Page {
            base: base.map(ToOwned::to_owned),
            ..Page::default()
        };
        for (base, to, resolved) in [
            (None, "d.png", Some("https://a.example/b/d.png")),
            (None, "//x.example/d", Some("https://x.example/d")),
            (Some("/e/"), "d.png", Some("https://a.example/e/d.png")),
            (Some("http://y.example"), "d", Some("http://y.example/d")),
            (None, "data:image/png;base64,", None),
            (None, "javascript:x", None),
            (Some("data:x,y"), "d", None),
        ] {
            let found = resolve(&at, &page(base), to).map(|url| url.to_string());
            assert_eq!(found.as_deref(), resolved, "{to}");
        }
    }
}
