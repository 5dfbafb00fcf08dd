//! The pages themselves. Whatever anybody has written is escaped; the policy for browsers names every source.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};
use rhizome_edge::Content;
use ring::digest;

use crate::{
    auth::validated::Medium,
    config::{Captcha, CaptchaKind, Document, TermsPolicy},
    page::escaped,
};

const STYLE: &str = "body{font:1.1rem sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}\
    label{display:block;margin-bottom:.5rem}input,button{font:inherit;padding:.5rem 1rem;margin:.25rem 0}\
    input:not([type=hidden]){width:100%;box-sizing:border-box}\
    [role=alert]{border-left:.25rem solid #b00;padding-left:.75rem}";

/// Tells the client that the stage is completed, in each of the ways on which it may listen.
const TELL: &str = "if(window.onAuthDone){window.onAuthDone();}\
    else if(window.opener&&window.opener.postMessage){window.opener.postMessage(\"authDone\",\"*\");}";

/// A page in the making.
pub(super) struct Page {
    title: &'static str,
    /// What is on it: HTML.
    inner: String,
    /// What it loads, beside its style: directives of the policy.
    sources: String,
    style: String,
}

impl Page {
    pub fn new(title: &'static str) -> Self {
        Self {
            title,
            inner: String::new(),
            sources: String::new(),
            style: source(STYLE),
        }
    }

    /// With a sentence.
    pub fn saying(self, text: &str) -> Self {
        self.with(&format!("<p>{}</p>", escaped(text)))
    }

    /// With why it is shown again, if it is.
    pub fn alarming(self, why: Option<&str>) -> Self {
        match why {
            Some(why) => self.with(&format!("<p role=\"alert\">{}</p>", escaped(why))),
            None => self,
        }
    }

    /// With a form that comes back to where it is.
    pub fn with_form(self, fields: &str, button: &str) -> Self {
        let button = escaped(button);
        self.with(&format!(
            "<form method=\"post\">{fields}<p><button type=\"submit\">{button}</button></p></form>"
        ))
    }

    fn with(mut self, html: &str) -> Self {
        self.inner.push_str(html);
        self
    }

    pub fn content(self) -> Content {
        let Self {
            title,
            inner,
            sources,
            style,
        } = self;
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style></head><body><main><h1>{title}</h1>{inner}</main></body></html>"
        );
        let policy = format!(
            "default-src 'none'; style-src {style}; {sources}form-action 'self'; \
             frame-ancestors 'none'; base-uri 'none'"
        );
        let of_text = HeaderValue::from_static;
        let policy = HeaderValue::try_from(policy)
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Content::of_bytes(of_text("text/html; charset=utf-8"), html)
            .with(header::CONTENT_SECURITY_POLICY, policy)
            .with(header::REFERRER_POLICY, of_text("no-referrer"))
            .with(header::CACHE_CONTROL, of_text("no-store"))
            .with(header::X_CONTENT_TYPE_OPTIONS, of_text("nosniff"))
    }
}

/// The page on which a stage is completed.
pub(super) fn done() -> Content {
    let mut page = Page::new("Done").saying("You can close this window and go on in your app.");
    page.sources = format!("script-src {}; ", source(TELL));
    page.with(&format!("<script>{TELL}</script>")).content()
}

/// A page that asks for a text: its field's name, what stands before it, its kind, and what the browser may fill in.
pub(super) fn text_form(
    title: &'static str,
    why: Option<&str>,
    (name, label, kind, fill): (&str, &str, &str, &str),
) -> Content {
    let field = format!(
        "<label for=\"{name}\">{label}</label>\
         <input id=\"{name}\" name=\"{name}\" type=\"{kind}\" autocomplete=\"{fill}\" required autofocus>"
    );
    Page::new(title)
        .alarming(why)
        .with_form(&field, "Continue")
        .content()
}

/// The page that asks for an address, to which a code goes.
pub(super) fn address_form(medium: Medium, why: Option<&str>) -> Content {
    match medium {
        Medium::Email => text_form(
            "Your e-mail address",
            why,
            ("address", "Your address", "email", "email"),
        ),
        Medium::Msisdn => text_form(
            "Your telephone number",
            why,
            (
                "address",
                "Your number, with its country's code, such as +44 1632 960001",
                "tel",
                "tel",
            ),
        ),
    }
}

/// The page that waits for the code that went out in this session.
pub(super) fn code_form(medium: Medium, (sid, secret): (&str, &str), why: Option<&str>) -> Content {
    let (sid, secret) = (escaped(sid), escaped(secret));
    let (text, required) = match medium {
        Medium::Email => (
            "A mail is on its way to you. Follow its link, or enter its code here; then continue.",
            "",
        ),
        Medium::Msisdn => ("A message with a code is on its way to you.", " required"),
    };
    let fields = format!(
        "<input type=\"hidden\" name=\"sid\" value=\"{sid}\">\
         <input type=\"hidden\" name=\"secret\" value=\"{secret}\">\
         <label for=\"code\">Code</label>\
         <input id=\"code\" name=\"code\" type=\"text\" autocomplete=\"one-time-code\"{required}>"
    );
    Page::new("Is it yours?")
        .alarming(why)
        .saying(text)
        .with_form(&fields, "Continue")
        .content()
}

/// The page that asks whether policies are accepted, in the language that is wanted most.
pub(super) fn terms_form(policies: &[TermsPolicy], wanted: &str, why: Option<&str>) -> Content {
    let mut items = String::new();
    for document in policies
        .iter()
        .filter_map(|policy| in_language(&policy.documents, wanted))
    {
        let (language, name) = (escaped(&document.language), escaped(&document.name));
        let url = escaped(&document.url);
        let link = format!(
            "<li><a href=\"{url}\" lang=\"{language}\" target=\"_blank\" rel=\"noopener noreferrer\">{name}</a></li>"
        );
        items.push_str(&link);
    }
    Page::new("Terms")
        .alarming(why)
        .saying("Please read these, and accept them if you agree:")
        .with(&format!("<ul>{items}</ul>"))
        .with_form("", "I accept them")
        .content()
}

/// What a browser wants most (`Accept-Language`) of what there is.
fn in_language<'a>(documents: &'a [Document], wanted: &str) -> Option<&'a Document> {
    let wanted = wanted
        .split(',')
        .map(|part| part.split(';').next().unwrap_or_default().trim());
    let is = |document: &Document, language: &str| {
        let its = document.language.replace('_', "-").to_lowercase();
        let language = language.to_lowercase();
        let primary = |text: &str| text.split('-').next().map(str::to_owned);
        its == language || primary(&its) == primary(&language)
    };
    wanted
        .chain(["en"])
        .find_map(|language| documents.iter().find(|one| is(one, language)))
        .or(documents.first())
}

/// The page with a captcha, which needs its own script.
pub(super) fn captcha_form(captcha: &Captcha, why: Option<&str>) -> Content {
    let (class, script, sources) = match captcha.kind {
        CaptchaKind::Recaptcha => (
            "g-recaptcha",
            "https://www.recaptcha.net/recaptcha/api.js",
            "script-src https://www.recaptcha.net https://www.gstatic.com; \
             frame-src https://www.recaptcha.net https://www.google.com; \
             connect-src https://www.recaptcha.net https://www.google.com; \
             img-src https://www.gstatic.com; ",
        ),
        CaptchaKind::Hcaptcha => (
            "h-captcha",
            "https://js.hcaptcha.com/1/api.js",
            "script-src https://hcaptcha.com https://*.hcaptcha.com; \
             frame-src https://hcaptcha.com https://*.hcaptcha.com; \
             connect-src https://hcaptcha.com https://*.hcaptcha.com; ",
        ),
        CaptchaKind::Turnstile => (
            "cf-turnstile",
            "https://challenges.cloudflare.com/turnstile/v0/api.js",
            "script-src https://challenges.cloudflare.com; \
             frame-src https://challenges.cloudflare.com; ",
        ),
    };
    let field = format!(
        "<noscript><p>This step needs JavaScript.</p></noscript>\
         <div class=\"{class}\" data-sitekey=\"{}\"></div>\
         <script src=\"{script}\" async defer></script>",
        escaped(&captcha.site_key)
    );
    let mut page = Page::new("Not a robot?")
        .alarming(why)
        .with_form(&field, "Continue");
    sources.clone_into(&mut page.sources);
    // Their scripts write styles.
    "'unsafe-inline'".clone_into(&mut page.style);
    page.content()
}

/// In which field of the form a captcha's script puts its answer.
pub(super) fn answer_of(kind: CaptchaKind) -> &'static str {
    match kind {
        CaptchaKind::Recaptcha => "g-recaptcha-response",
        CaptchaKind::Hcaptcha => "h-captcha-response",
        CaptchaKind::Turnstile => "cf-turnstile-response",
    }
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
    fn a_document_is_in_the_language_that_is_wanted_most() {
        let documents: Vec<_> = ["fr", "en_US", "de-AT"]
            .into_iter()
            .map(|language| Document {
                language: language.to_owned(),
                name: String::new(),
                url: String::new(),
            })
            .collect();
        let found = |wanted: &str| {
            let found = in_language(&documents, wanted).unwrap();
            found.language.as_str()
        };
        assert_eq!(found("de;q=0.9, fr"), "de-AT");
        assert_eq!(found("FR-ca"), "fr");
        assert_eq!(found("en-us"), "en_US");
        assert_eq!(found("tlh, *;q=0.1"), "en_US");
        assert_eq!(found(""), "en_US");
        assert!(in_language(&[], "en").is_none());
    }
}
