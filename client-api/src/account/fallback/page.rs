//! The pages themselves.

use rhizome_edge::Content;

use crate::{
    auth::validated::Medium,
    config::{Captcha, CaptchaKind, Document, TermsPolicy},
    page::{Field, Page, escaped},
};

/// Tells the client that the stage is completed, in each of the ways on which it may listen.
const TELL: &str = "if(window.onAuthDone){window.onAuthDone();}\
    else if(window.opener&&window.opener.postMessage){window.opener.postMessage(\"authDone\",\"*\");}";

/// The page on which a stage is completed.
pub(super) fn done() -> Content {
    Page::new("Done")
        .saying("You can close this window and go on in your app.")
        .with_script(TELL)
        .content()
}

/// The page that asks for a password, of whom and to what end if that is known.
pub(super) fn password_form(act: Option<(&str, &str)>, why: Option<&str>) -> Content {
    let mut page = Page::new("Confirm that it is you");
    if let Some((user, act)) = act {
        page = page.saying(&format!(
            "{user} is about to {act}. If you didn't ask for that in your app just now, close this page."
        ));
    }
    let field = Field {
        name: "password",
        label: "Your password",
        kind: "password",
        fill: "current-password",
        required: true,
    };
    asking(page, &field, why)
}

/// The page that asks for a registration token.
pub(super) fn token_form(why: Option<&str>) -> Content {
    let field = Field {
        name: "token",
        label: "The token that you were given",
        kind: "text",
        fill: "off",
        required: true,
    };
    asking(Page::new("Registration token"), &field, why)
}

/// The page that asks for an address, to which a code goes.
pub(super) fn address_form(medium: Medium, why: Option<&str>) -> Content {
    let (title, label, kind) = match medium {
        Medium::Email => ("Your e-mail address", "Your address", "email"),
        Medium::Msisdn => (
            "Your telephone number",
            "Your number, with its country's code, such as +44 1632 960001",
            "tel",
        ),
    };
    let field = Field {
        name: "address",
        label,
        kind,
        fill: kind,
        required: true,
    };
    asking(Page::new(title), &field, why)
}

fn asking(page: Page, field: &Field<'_>, why: Option<&str>) -> Content {
    page.alarming(why)
        .with_form(&field.html(why.is_some()), "Continue")
        .content()
}

/// The page that waits for the code that went out in this session. A link leads back to where an address is asked for.
pub(super) fn code_form(medium: Medium, (sid, secret): (&str, &str), why: Option<&str>) -> Content {
    let (sid, secret) = (escaped(sid), escaped(secret));
    let (text, other) = match medium {
        Medium::Email => (
            "A mail is on its way to you. Follow its link, or enter its code here; then continue.",
            "Use another address, or have another mail sent",
        ),
        Medium::Msisdn => (
            "A message with a code is on its way to you.",
            "Use another number, or have another message sent",
        ),
    };
    let code = Field {
        name: "code",
        label: "Code",
        kind: "text",
        fill: "one-time-code",
        required: matches!(medium, Medium::Msisdn),
    };
    let fields = format!(
        "<input type=\"hidden\" name=\"sid\" value=\"{sid}\">\
         <input type=\"hidden\" name=\"secret\" value=\"{secret}\">{}",
        code.html(why.is_some())
    );
    Page::new("Is it yours?")
        .alarming(why)
        .saying(text)
        .with_form(&fields, "Continue")
        .with(&format!("<p><a href=\"\">{other}</a></p>"))
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
    // Their scripts write styles.
    Page::new("Not a robot?")
        .alarming(why)
        .with_form(&field, "Continue")
        .loading(sources)
        .content()
}

/// In which field of the form a captcha's script puts its answer.
pub(super) fn answer_of(kind: CaptchaKind) -> &'static str {
    match kind {
        CaptchaKind::Recaptcha => "g-recaptcha-response",
        CaptchaKind::Hcaptcha => "h-captcha-response",
        CaptchaKind::Turnstile => "cf-turnstile-response",
    }
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
