//! Pages of a sentence and a button, for links in mails. A GET changes nothing, as programs that look at mails follow
//! links; the button makes the POST.

use http::{HeaderValue, StatusCode, header};
use rhizome_edge::Content;

/// What of a page nobody but its own form may do.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A page that says this, with a button that makes the POST. Nothing that anybody wrote may be in either.
pub(crate) fn page(status: StatusCode, title: &str, text: &str, button: Option<&str>) -> Content {
    let button = button.map_or_else(String::new, |button| {
        format!("<form method=\"post\"><button>{button}</button></form>")
    });
    document(status, title, &format!("<p>{text}</p>{button}"))
}

/// A page that says this, with a link to go on by: an address that somebody wrote.
pub(crate) fn page_on_to(title: &str, text: &str, (link, host): (&str, &str)) -> Content {
    let (link, host) = (escaped(link), escaped(host));
    let on =
        format!("<p>{text}</p><p><a href=\"{link}\" rel=\"noreferrer\">Go on to {host}</a></p>");
    document(StatusCode::OK, title, &on)
}

fn document(status: StatusCode, title: &str, body: &str) -> Content {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1.1rem sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}}\
         button{{font:inherit;padding:.5rem 1rem}}</style></head><body><main>{body}</main></body></html>"
    );
    let of_text = |text| HeaderValue::from_static(text);
    Content::of_bytes(of_text("text/html; charset=utf-8"), html)
        .with_status(status)
        .with(header::CONTENT_SECURITY_POLICY, of_text(POLICY))
        .with(header::REFERRER_POLICY, of_text("no-referrer"))
        .with(header::CACHE_CONTROL, of_text("no-store"))
        .with(header::X_CONTENT_TYPE_OPTIONS, of_text("nosniff"))
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
}
