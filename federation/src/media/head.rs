//! What is said of a file, as far as it is kept: it ends up in headers, and as a name on people's disks.

use ruma::http_headers::{ContentDisposition, ContentDispositionType};

/// What is said of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileHead {
    /// What it is.
    pub content_type: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// How many bytes it has.
    pub length: Option<u64>,
}

impl FileHead {
    /// What it is, as a header.
    pub(super) fn kind(&self) -> &str {
        let kind = self.content_type.as_deref();
        kind.unwrap_or("application/octet-stream")
    }

    /// What it is called, and whether it is shown.
    pub(super) fn disposition(&self) -> ContentDisposition {
        let shown = if is_shown_inline(self.kind()) {
            ContentDispositionType::Inline
        } else {
            ContentDispositionType::Attachment
        };
        ContentDisposition::new(shown).with_filename(self.name.clone())
    }
}

/// The longest content type, with its parameters.
const CONTENT_TYPE: usize = 255;
/// The longest name in bytes, as file systems have it.
const NAME: usize = 255;

/// Whether a file can be called so: by what servers have made up, harmless in a path.
pub(super) fn is_media_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.~".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(fits) && !matches!(text, "." | "..")
}

/// A content type, if it looks like one and can stand in a header.
pub(super) fn content_type(said: &str) -> Option<String> {
    let said = said.trim();
    let (kind, _) = said.split_once(';').unwrap_or((said, ""));
    let (kind, sub) = kind.trim_end().split_once('/')?;
    let is_token = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(fits)
    };
    let is_text = said.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let fits = said.len() <= CONTENT_TYPE && is_text && is_token(kind) && is_token(sub);
    fits.then(|| said.to_owned())
}

/// A file's name without folders, control characters, and what turns text around (which hides what a name ends with).
pub(super) fn name(said: &str) -> Option<String> {
    let last = said.rsplit(['/', '\\']).next().unwrap_or(said);
    let turns = |char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut name: String = last
        .chars()
        .filter(|char| !char.is_control() && !turns(*char))
        .collect();
    if name.len() > NAME {
        name = shortened(&name);
    }
    let name = name.trim();
    (!matches!(name, "" | "." | "..")).then(|| name.to_owned())
}

/// What fits, with the ending, by which people and programs know what it is.
fn shortened(name: &str) -> String {
    let dot = name.rfind('.').unwrap_or(name.len());
    let ending = Some(&name[dot..]).filter(|it| it.len() <= 16).unwrap_or("");
    let stem = name.floor_char_boundary(NAME - ending.len());
    format!("{}{ending}", &name[..stem])
}

/// Content types that browsers may show where they are opened
/// (<https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>).
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// Whether what is of this type may be shown where it is opened, rather than saved.
pub fn is_shown_inline(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    INLINE
        .iter()
        .any(|inline| kind.eq_ignore_ascii_case(inline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_ones_or_none() {
        for good in [
            "image/png",
            "text/plain; charset=utf-8",
            "application/ld+json",
            "a/b;",
        ] {
            assert_eq!(content_type(good).as_deref(), Some(good));
        }
        assert_eq!(content_type(" image/png ").as_deref(), Some("image/png"));
        let long = format!("image/{}", "x".repeat(300));
        for bad in [
            "",
            "image",
            "/",
            "image/",
            "/png",
            "im age/png",
            "image/png\r\nx: y",
            "image/ä",
            "a/b;ä",
            &long,
        ] {
            assert_eq!(content_type(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_harmless() {
        for (said, kept) in [
            ("a.png", Some("a.png")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\windows\\evil.exe", Some("evil.exe")),
            ("photo\u{202e}gnp.exe", Some("photognp.exe")),
            ("a\r\nx: y\0", Some("ax: y")),
            ("Grüße 🎉.txt", Some("Grüße 🎉.txt")),
            ("", None),
            ("..", None),
            ("a/", None),
            (" \t ", None),
        ] {
            assert_eq!(name(said).as_deref(), kept, "{said:?}");
        }
        let long = format!("{}.tar.gz", "ü".repeat(500));
        let kept = name(&long).unwrap();
        assert!(kept.len() <= NAME && kept.ends_with("ü.gz"), "{kept}");
        let odd = format!("{}.{}", "x".repeat(300), "y".repeat(300));
        assert_eq!(name(&odd).unwrap().len(), NAME);
    }

    #[test]
    fn ids_are_harmless() {
        assert!(is_media_id("GCmhgzMPRjqgpODLsNQzVuHZ") && is_media_id("2016-01-01_a.b~c="));
        let long = "a".repeat(256);
        for bad in ["", ".", "..", "a/b", "a?b", "a b", "ä", "%2e", &long] {
            assert!(!is_media_id(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_inline() {
        assert!(is_shown_inline("image/png") && is_shown_inline("Text/Plain; charset=utf-8"));
        assert!(!is_shown_inline("text/html") && !is_shown_inline("image/svg+xml"));
    }
}
