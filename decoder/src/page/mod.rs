//! Web pages: what one says of itself, for a preview of a link to it.
//!
//! It is a walk over the page's tags without a tree, so nothing nests and nothing grows but a few texts of bounded
//! length. In this order, the first that is there: OpenGraph (<https://ogp.me>), Twitter's cards, what HTML itself
//! has (`title`, `meta` with a description, a heading, the first paragraphs).

mod charset;
mod gather;
mod text;

use serde::{Deserialize, Serialize};

/// Of a page so many bytes are looked at: what it says of itself stands at its beginning.
pub const MOST: usize = 2 << 20;

/// What a page says of itself. Addresses are as they are written: relative to [`Page::base`], or to the page's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Page {
    /// What it is called.
    pub title: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// Of which site it is.
    pub site_name: Option<String>,
    /// `og:type`.
    pub kind: Option<String>,
    /// Where it says that it is.
    pub url: Option<String>,
    /// A picture of it.
    pub image: Option<String>,
    /// What is in the picture.
    pub image_alt: Option<String>,
    /// What addresses are relative to.
    pub base: Option<String>,
    /// Where there is oEmbed as JSON (<https://oembed.com>).
    pub oembed: Option<String>,
}

/// Reads a page. `content_type`: the header that came with it.
pub fn read(bytes: &[u8], content_type: Option<&str>) -> Page {
    let bytes = bytes.get(..MOST).unwrap_or(bytes);
    let text = charset::decode(bytes, content_type);
    gather::gather(&text).bounded()
}

/// The longest texts, in bytes. All together fit into an answer ([`crate::wire`]), twice over as JSON may spell them.
const TITLE: usize = 500;
const DESCRIPTION: usize = 1_500;
const NAME: usize = 200;
const KIND: usize = 100;
const ADDRESS: usize = 2_000;

impl Page {
    /// With texts of bounded length, on one line, without what isn't seen.
    pub(crate) fn bounded(self) -> Self {
        let line = |text: Option<String>, most| text.and_then(|text| text::line(&text, most));
        let address = |text: Option<String>| text.and_then(|text| text::address(&text, ADDRESS));
        Self {
            title: line(self.title, TITLE),
            description: line(self.description, DESCRIPTION),
            site_name: line(self.site_name, NAME),
            kind: line(self.kind, KIND),
            url: address(self.url),
            image: address(self.image),
            image_alt: line(self.image_alt, TITLE),
            base: address(self.base),
            oembed: address(self.oembed),
        }
    }
}

#[cfg(test)]
mod tests;
