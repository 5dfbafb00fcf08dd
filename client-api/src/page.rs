//! Pages for people: what all have in common. Whatever anybody has written is escaped; the policy for browsers names every
//! source, so that nothing else is loaded, and nobody shows a page within theirs.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode, header};
use rhizome_edge::Content;
use ring::digest;

/// Light or dark as people have set it. Long names are broken rather than be wider than a small phone.
const STYLE: &str = ":root{color-scheme:light dark}\
    body{font:1.1rem/1.5 sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;overflow-wrap:anywhere}\
    h1{font-size:1.8rem;line-height:1.2}label{display:block;margin-bottom:.25rem}\
    input,button{font:inherit;padding:.5rem 1rem}input:not([type=hidden]){width:100%;box-sizing:border-box}\
    [role=alert]{border-left:.25rem solid #c33;padding-left:.75rem}footer{margin-top:3rem;font-size:.85rem}";

/// The id of what says why a page is shown again.
const WHY: &str = "why";

/// A page in the making.
pub(crate) struct Page {
    /// HTML, as the inner part.
    title: String,
    inner: String,
    /// What it loads, beside its style: directives of the policy.
    sources: String,
    style: String,
    has_form: bool,
}

/// What a field of a form is, beside its name.
pub(crate) struct Field<'a> {
    /// Its name, and its id.
    pub name: &'a str,
    /// What stands before it.
    pub label: &'a str,
    /// The type of the input.
    pub kind: &'a str,
    /// What the browser may fill in.
    pub fill: &'a str,
    pub required: bool,
}

impl Page {
    pub fn new(title: &str) -> Self {
        Self {
            title: escaped(title),
            inner: String::new(),
            sources: String::new(),
            style: source(STYLE),
            has_form: false,
        }
    }

    /// With a sentence.
    pub fn saying(self, text: &str) -> Self {
        self.with(&format!("<p>{}</p>", escaped(text)))
    }

    /// With why it is shown again, if it is.
    pub fn alarming(self, why: Option<&str>) -> Self {
        match why {
            Some(why) => {
                let why = escaped(why);
                self.with(&format!("<p role=\"alert\" id=\"{WHY}\">{why}</p>"))
            }
            None => self,
        }
    }

    /// With a form of these fields (HTML) that comes back to where it is.
    pub fn with_form(mut self, fields: &str, button: &str) -> Self {
        let button = escaped(button);
        self.has_form = true;
        self.with(&format!(
            "<form method=\"post\">{fields}<p><button type=\"submit\">{button}</button></p></form>"
        ))
    }

    /// With HTML.
    pub fn with(mut self, html: &str) -> Self {
        self.inner.push_str(html);
        self
    }

    /// With a script that stands on it: it is tied to that one.
    pub fn with_script(mut self, script: &str) -> Self {
        let _ = write!(self.sources, "script-src {}; ", source(script));
        self.with(&format!("<script>{script}</script>"))
    }

    /// Loading what these directives of the policy name, and what that writes of styles.
    pub fn loading(mut self, sources: &str) -> Self {
        sources.clone_into(&mut self.sources);
        "'unsafe-inline'".clone_into(&mut self.style);
        self
    }

    pub fn content(self) -> Content {
        let Self {
            title,
            inner,
            sources,
            style,
            has_form,
        } = self;
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style></head><body><main><h1>{title}</h1>{inner}</main></body></html>"
        );
        let forms = if has_form { "'self'" } else { "'none'" };
        let policy = format!(
            "default-src 'none'; style-src {style}; {sources}form-action {forms}; \
             frame-ancestors 'none'; base-uri 'none'"
        );
        let of_text = HeaderValue::from_static;
        let policy =
            HeaderValue::try_from(policy).unwrap_or_else(|_| of_text("default-src 'none'"));
        Content::of_bytes(of_text("text/html; charset=utf-8"), html)
            .with(header::CONTENT_SECURITY_POLICY, policy)
            .with(header::REFERRER_POLICY, of_text("no-referrer"))
            .with(header::CACHE_CONTROL, of_text("no-store"))
            .with(header::X_CONTENT_TYPE_OPTIONS, of_text("nosniff"))
    }
}

impl Field<'_> {
    /// The field as HTML, on a page that says why it is shown again if that `is_wrong`. What it takes isn't prose: telephones
    /// neither begin it with a capital nor mend it.
    pub fn html(&self, is_wrong: bool) -> String {
        let (name, label) = (escaped(self.name), escaped(self.label));
        let (kind, fill) = (escaped(self.kind), escaped(self.fill));
        let required = if self.required { " required" } else { "" };
        let wrong = if is_wrong {
            format!(" aria-invalid=\"true\" aria-describedby=\"{WHY}\"")
        } else {
            String::new()
        };
        format!(
            "<label for=\"{name}\">{label}</label><input id=\"{name}\" name=\"{name}\" type=\"{kind}\" \
             autocomplete=\"{fill}\" autocapitalize=\"none\" spellcheck=\"false\"{required}{wrong} autofocus>"
        )
    }
}

/// A page of a sentence, for links in mails; with a button that makes the POST. A GET changes nothing, as programs that look
/// at mails follow links.
pub(crate) fn page(status: StatusCode, title: &str, text: &str, button: Option<&str>) -> Content {
    let mut page = Page::new(title).saying(text);
    if let Some(button) = button {
        page = page.with_form("", button);
    }
    page.content().with_status(status)
}

/// A page that says this, with a link to go on by: an address that somebody wrote.
pub(crate) fn page_on_to(title: &str, text: &str, (link, host): (&str, &str)) -> Content {
    let (link, host) = (escaped(link), escaped(host));
    Page::new(title)
        .saying(text)
        .with(&format!(
            "<p><a href=\"{link}\" rel=\"noreferrer\">Go on to {host}</a></p>"
        ))
        .content()
}

/// A text as it stands in HTML, also between quotes.
pub(crate) fn escaped(text: &str) -> String {
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

/// How the policy names a script or a style that stands on the page.
fn source(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_what_it_stands_in() {
        assert_eq!(
            escaped("<a href='x'>\"&"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;"
        );
    }

    #[test]
    fn a_field_is_tied_to_its_label_and_to_what_is_wrong() {
        let mut field = Field {
            name: "token",
            label: "A <token>",
            kind: "text",
            fill: "off",
            required: true,
        };
        let html = field.html(true);
        for part in [
            "<label for=\"token\">A &lt;token&gt;</label>",
            "id=\"token\"",
            " required ",
            "aria-describedby=\"why\"",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        field.required = false;
        let html = field.html(false);
        assert!(
            !html.contains("aria-") && !html.contains("required"),
            "{html}"
        );
    }
}
