//! The walk over a page's tags.

use std::collections::HashMap;

use html5gum::{DefaultEmitter, HtmlString, StartTag, Token, Tokenizer};

use super::Page;

/// What `meta` can say, by name; what stands further left is taken first.
const TITLES: &[&str] = &["og:title", "twitter:title"];
const DESCRIPTIONS: &[&str] = &["og:description", "twitter:description", "description"];
const IMAGES: &[&str] = &[
    "og:image:secure_url",
    "og:image",
    "og:image:url",
    "twitter:image",
    "twitter:image:src",
    "image",
];
const ALTS: &[&str] = &["og:image:alt", "twitter:image:alt"];
const SITES: &[&str] = &["og:site_name", "application-name"];

/// The longest value of a `meta` that is kept, and the longest text of an element: more than is told of either, as it may
/// be full of spaces.
const VALUE: usize = 8 << 10;
/// So much of paragraphs is enough to say what a page is about.
const ENOUGH: usize = 250;
/// A paragraph is of so many bytes at least; what is shorter is a date, or a button.
const PARAGRAPH: usize = 30;

/// In these is no text of the page.
const HIDDEN: &[&[u8]] = &[
    b"aside",
    b"audio",
    b"button",
    b"canvas",
    b"footer",
    b"form",
    b"iframe",
    b"math",
    b"nav",
    b"noscript",
    b"object",
    b"script",
    b"select",
    b"style",
    b"svg",
    b"template",
    b"textarea",
    b"video",
];
/// These begin a new paragraph.
const BLOCKS: &[&[u8]] = &[
    b"article",
    b"blockquote",
    b"body",
    b"div",
    b"dl",
    b"figure",
    b"h1",
    b"h2",
    b"h3",
    b"h4",
    b"h5",
    b"h6",
    b"header",
    b"hr",
    b"li",
    b"main",
    b"ol",
    b"p",
    b"pre",
    b"section",
    b"table",
    b"ul",
];

/// What is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Title,
    Heading,
    Paragraph,
}

#[derive(Debug, Default)]
struct Gather {
    /// By name, the first of each.
    said: HashMap<String, String>,
    title: Option<String>,
    heading: Option<String>,
    paragraphs: String,
    image_source: Option<String>,
    base: Option<String>,
    oembed: Option<String>,
    reading: Option<(Reading, String)>,
    /// The element whose text isn't the page's, and how often it is open.
    hidden: Option<(HtmlString, u32)>,
}

/// What a page says of itself.
pub(super) fn gather(text: &str) -> Page {
    let mut emitter = DefaultEmitter::default();
    // Scripts aren't tags.
    emitter.naively_switch_states(true);
    let mut gather = Gather::default();
    for Ok(token) in Tokenizer::new_with_emitter(text, emitter) {
        match token {
            Token::StartTag(tag) => gather.start(&tag),
            Token::EndTag(tag) => gather.end(&tag.name),
            Token::String(text) => gather.text(&text),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    gather.over();
    gather.page()
}

impl Gather {
    fn start(&mut self, tag: &StartTag<()>) {
        let name: &[u8] = &tag.name;
        match name {
            b"meta" => self.meta(tag),
            b"link" => self.link(tag),
            b"base" => keep(&mut self.base, attribute(tag, b"href")),
            _ => {}
        }
        if let Some((hidden, open)) = &mut self.hidden {
            if **hidden == *name && !tag.self_closing {
                *open = open.saturating_add(1);
            }
            return;
        }
        if name == b"br" {
            self.text(b" ");
        }
        if HIDDEN.contains(&name) && !tag.self_closing {
            self.hidden = Some((tag.name.clone(), 1));
            return;
        }
        if BLOCKS.contains(&name) || name == b"title" {
            self.over();
        }
        let reads = match name {
            b"title" if self.title.is_none() => Reading::Title,
            b"h1" | b"h2" | b"h3" if self.heading.is_none() => Reading::Heading,
            b"p" if self.paragraphs.len() < ENOUGH => Reading::Paragraph,
            _ => return,
        };
        self.reading = Some((reads, String::new()));
    }

    fn end(&mut self, name: &[u8]) {
        if let Some((hidden, open)) = &mut self.hidden {
            if **hidden == *name {
                *open -= 1;
                if *open == 0 {
                    self.hidden = None;
                }
            }
        } else if BLOCKS.contains(&name) || name == b"title" {
            self.over();
        }
    }

    fn text(&mut self, text: &[u8]) {
        if self.hidden.is_some() {
            return;
        }
        if let Some((_, read)) = &mut self.reading {
            let room = VALUE.saturating_sub(read.len());
            let text = String::from_utf8_lossy(text);
            read.push_str(&text[..text.floor_char_boundary(room)]);
        }
    }

    /// What was being read has ended.
    fn over(&mut self) {
        let Some((reading, text)) = self.reading.take() else {
            return;
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match reading {
            Reading::Title => keep(&mut self.title, Some(text)),
            Reading::Heading => keep(&mut self.heading, Some(text)),
            Reading::Paragraph if text.len() >= PARAGRAPH => {
                if !self.paragraphs.is_empty() {
                    self.paragraphs.push(' ');
                }
                self.paragraphs.push_str(&text);
            }
            Reading::Paragraph => {}
        }
    }

    fn meta(&mut self, tag: &StartTag<()>) {
        let Some(value) = attribute(tag, b"content").filter(|value| !value.trim().is_empty())
        else {
            return;
        };
        for by in [&b"property"[..], b"name", b"itemprop"] {
            let Some(name) = attribute(tag, by) else {
                continue;
            };
            let name = name.trim().to_ascii_lowercase();
            let known = [
                TITLES,
                DESCRIPTIONS,
                IMAGES,
                ALTS,
                SITES,
                &["og:type", "og:url"],
            ];
            if known.iter().any(|names| names.contains(&&*name)) {
                self.said.entry(name).or_insert(value);
                return;
            }
        }
    }

    fn link(&mut self, tag: &StartTag<()>) {
        let (Some(rel), Some(href)) = (attribute(tag, b"rel"), attribute(tag, b"href")) else {
            return;
        };
        let is = |wanted: &str| {
            let mut rels = rel.split_ascii_whitespace();
            rels.any(|rel| rel.eq_ignore_ascii_case(wanted))
        };
        let kind = attribute(tag, b"type").unwrap_or_default();
        if is("image_src") {
            keep(&mut self.image_source, Some(href));
        } else if (is("alternate") || is("alternative"))
            && kind.trim().eq_ignore_ascii_case("application/json+oembed")
        {
            keep(&mut self.oembed, Some(href));
        }
    }

    fn page(mut self) -> Page {
        let mut first = |names: &[&str]| names.iter().find_map(|name| self.said.remove(*name));
        let paragraphs = Some(self.paragraphs).filter(|text| !text.is_empty());
        Page {
            title: first(TITLES).or(self.title).or(self.heading),
            description: first(DESCRIPTIONS).or(paragraphs),
            site_name: first(SITES),
            kind: first(&["og:type"]),
            url: first(&["og:url"]),
            image: first(IMAGES).or(self.image_source),
            image_alt: first(ALTS),
            base: self.base,
            oembed: self.oembed,
        }
    }
}

fn attribute(tag: &StartTag<()>, name: &[u8]) -> Option<String> {
    let value: &[u8] = tag.attributes.get(name)?;
    let value = value.get(..VALUE).unwrap_or(value);
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Keeps the first that says something.
fn keep(slot: &mut Option<String>, text: Option<String>) {
    if slot.is_none() {
        *slot = text.filter(|text| !text.trim().is_empty());
    }
}
