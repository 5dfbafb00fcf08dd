//! oEmbed (<https://oembed.com>): what some sites tell in JSON and don't write on their pages. Only where a page names
//! its own; there is no list of providers to be kept.

use rhizome_decoder::page::Page;
use serde_json::{Map, Value};

/// The most bytes of it.
pub(super) const MOST: u64 = 64 << 10;
/// The longest texts, in bytes.
const TEXT: usize = 500;
const ADDRESS: usize = 2_000;

/// Takes what the page doesn't say.
pub(super) fn complete(page: &mut Page, json: &[u8]) {
    let Ok(told) = serde_json::from_slice::<Map<String, Value>>(json) else {
        return;
    };
    let text = |key: &str| {
        let text = told.get(key)?.as_str()?;
        let words: Vec<_> = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .collect();
        let text = words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let end = text.floor_char_boundary(TEXT);
        text.get(..end)
            .filter(|text| !text.is_empty())
            .map(ToOwned::to_owned)
    };
    let address = |key: &str| {
        let text = told.get(key)?.as_str()?;
        (1..=ADDRESS).contains(&text.len()).then(|| text.to_owned())
    };
    let photo = || (told.get("type")?.as_str()? == "photo").then(|| address("url"))?;
    or(&mut page.title, || text("title"));
    or(&mut page.title, || text("author_name"));
    or(&mut page.site_name, || text("provider_name"));
    or(&mut page.image, photo);
    or(&mut page.image, || address("thumbnail_url"));
}

fn or(slot: &mut Option<String>, other: impl FnOnce() -> Option<String>) {
    if slot.is_none() {
        *slot = other();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_says_stays() {
        let mut page = Page {
            title: Some("of the page".to_owned()),
            ..Page::default()
        };
        let json =
            br#"{"title": "no", "provider_name": " A\nsite ", "type": "photo", "url": "/x.png",
            "thumbnail_url": "/t.png"}"#;
        complete(&mut page, json);
        assert_eq!(page.title.as_deref(), Some("of the page"));
        assert_eq!(page.site_name.as_deref(), Some("A site"));
        assert_eq!(page.image.as_deref(), Some("/x.png"));
        let mut page = Page::default();
        complete(
            &mut page,
            br#"{"author_name": "A", "type": "video", "url": "/x", "thumbnail_url": "/t.png"}"#,
        );
        assert_eq!(page.title.as_deref(), Some("A"));
        assert_eq!(page.image.as_deref(), Some("/t.png"));
        for odd in ["", "[]", "{\"title\": 1}", "{\"title\": \"\"}", "nonsense"] {
            let mut page = Page::default();
            complete(&mut page, odd.as_bytes());
            assert_eq!(page, Page::default(), "{odd}");
        }
    }
}
