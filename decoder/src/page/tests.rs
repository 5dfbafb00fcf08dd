//! Pages as there are, and pages as there shouldn't be.

use proptest::prelude::*;

use super::*;

fn of(html: &str) -> Page {
    read(html.as_bytes(), Some("text/html; charset=utf-8"))
}

#[allow(clippy::unnecessary_wraps, reason = "as it is compared")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn opengraph_comes_first() {
    let page = of(r#"<html prefix="og: http://ogp.me/ns#"><head>
        <title>The Rock (1996)</title>
        <meta name="description" content="from HTML">
        <meta name="twitter:title" content="from Twitter">
        <meta property="og:title" content="The Rock" />
        <meta property="og:title" content="another" />
        <meta property="og:type" content="video.movie" />
        <meta property="og:url" content="http://www.imdb.com/title/tt0117500/" />
        <meta property="og:image" content="test.png" />
        <meta property="og:image:alt" content="A &quot;rock&quot; &amp; a hard place" />
        <meta property="og:site_name" content="IMDb" />
        <meta property="og:description" content="  " />
        <base href="/here/">
        <link rel="alternate" type="application/json+oembed" href="/oembed?x&amp;y">
        </head><body></body></html>"#);
    let expected = Page {
        title: some("The Rock"),
        description: some("from HTML"),
        site_name: some("IMDb"),
        kind: some("video.movie"),
        url: some("http://www.imdb.com/title/tt0117500/"),
        image: some("test.png"),
        image_alt: some("A \"rock\" & a hard place"),
        base: some("/here/"),
        oembed: some("/oembed?x&y"),
    };
    assert_eq!(page, expected);
}

#[test]
fn then_twitter_then_html() {
    let page = of(
        r#"<meta name=twitter:title content=T><meta name=twitter:image content=/t.png>
        <meta name="twitter:description" content=D><title>no</title>"#,
    );
    assert_eq!((page.title, page.description), (some("T"), some("D")));
    assert_eq!(page.image, some("/t.png"));
    let page =
        of("<title>\n A &lt;title&gt;\n</title><link rel='image_src' href=i.png><h1>no</h1>");
    assert_eq!((page.title, page.image), (some("A <title>"), some("i.png")));
    let page = of("<svg><title>an icon</title></svg><h2>A <b>heading</b></h2><p>text");
    assert_eq!(page.title, some("A heading"));
    assert_eq!(of("nothing at all"), Page::default());
    assert_eq!(of(""), Page::default());
}

#[test]
fn a_page_without_a_description_has_paragraphs() {
    let page = of("<body><nav><p>Home and other things that are in a menu</p></nav>
        <script>document.write('<p>this is a script and no text at all</p>')</script>
        <style>p { content: '<p>this is a style and no text at all</p>' }</style>
        <p>short</p>
        <p>The first paragraph that <i>says</i><br>something,<div>not this<p>and the second one, which isn't
        closed<ul><li>not this</ul>");
    assert_eq!(
        page.description,
        some("The first paragraph that says something, and the second one, which isn't closed")
    );
    let long = format!("<p>{}</p>", "word ".repeat(1_000)).repeat(20);
    let description = of(&long).description.unwrap();
    assert!(description.len() <= 1_500 && description.ends_with("word…"));
}

#[test]
fn charsets() {
    let read = |bytes: &[u8], content_type| read(bytes, content_type).title.unwrap_or_default();
    let (sjis, utf16) = (
        b"<title>\x93\xfa\x96{</title>",
        b"\xff\xfe<\0t\0i\0t\0l\0e\0>\0\xe5\x65<\0/\0t\0i\0t\0l\0e\0>\0",
    );
    assert_eq!(read(sjis, Some("text/html; charset=Shift_JIS")), "日本");
    assert_eq!(
        read(sjis, Some("text/html;charset=\"shift-jis\"; x=y")),
        "日本"
    );
    // A mark says more than the server, the server more than the page.
    assert_eq!(read(utf16, Some("text/html; charset=iso-8859-1")), "日");
    let both = b"<meta charset=utf-8><title>\x93\xfa\x96{</title>";
    assert_eq!(read(both, Some("text/html; charset=shift_jis")), "日本");
    for head in [
        &b"<meta charset='windows-1251'>"[..],
        b"<META HTTP-EQUIV=Content-Type CONTENT='text/html; charset=windows-1251'>",
        b"<meta name=x><meta charset=nonsense><meta charset=cp1251>",
        b"<?xml version=\"1.0\" encoding=\"windows-1251\"?>",
    ] {
        let page = [head, b"<title>\xcc\xe8\xf0</title>"].concat();
        assert_eq!(read(&page, Some("text/html")), "Мир", "{head:?}");
    }
    // Nothing is said.
    assert_eq!(read("<title>Größe</title>".as_bytes(), None), "Größe");
    assert_eq!(read(b"<title>Gr\xf6\xdfe</title>", None), "Größe");
    let cut = &"<title>a</title>ö".as_bytes()[..17];
    assert_eq!(read(cut, None), "a");
    // It can't be UTF-16 if that can be read.
    assert_eq!(
        read("<meta charset=utf-16><title>ö</title>".as_bytes(), None),
        "ö"
    );
}

#[test]
fn what_is_meant_to_harm_does_not() {
    let deep = "<div>".repeat(200_000) + "<p>" + &"deep ".repeat(20);
    assert!(of(&deep).description.is_some());
    let many = (0..50_000).map(|n| format!("<meta property=og:title{n} content=x>"));
    let many = many.collect::<Vec<_>>().concat();
    assert_eq!(of(&many), Page::default());
    let attributes = (0..50_000).map(|n| format!(" a{n}=x"));
    let attributes = attributes.collect::<Vec<_>>().concat();
    let page = format!("<meta{attributes} property=og:title content=x>");
    assert_eq!(of(&page).title, some("x"));
    let title = format!("<title>{}</title>", "x".repeat(1 << 20));
    assert_eq!(of(&title).title.unwrap().len(), 500);
    let value = format!(
        "<meta property=og:image content='/{}'>",
        "x".repeat(1 << 20)
    );
    assert_eq!(of(&value).image, None);
    let open = "<script>".repeat(100_000);
    assert_eq!(of(&open), Page::default());
    let odd = of("<meta property=og:title content='a\0b&#0;c&#x202e;\n'><title");
    assert!(odd.title.unwrap().chars().all(|c| !c.is_control()));
}

proptest! {
    #[test]
    fn any_bytes_are_a_page(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let page = read(&bytes, None);
        prop_assert_eq!(page.clone().bounded(), page);
    }

    #[test]
    fn any_tags_are_a_page(
        tags in prop::collection::vec(prop::sample::select(vec![
            "<p>", "</p>", "<title>", "</title>", "<script>", "</script>", "<svg>", "</svg>", "<svg/>",
            "<meta property='og:title' content='", "'>", "text that is long enough to be a paragraph ",
            "<h1>", "</h1>", "<!--", "-->", "<![CDATA[", "]]>", "&amp", "&#x0;", "<", ">", "\"", "'", "\0",
            "<plaintext>", "<textarea>", "</textarea>", "<nav>", "</nav>", "<base href=", "<br>",
        ]), 0..60),
    ) {
        let page = of(&tags.concat());
        prop_assert_eq!(page.clone().bounded(), page.clone());
        prop_assert!(serde_json::to_vec(&page).unwrap().len() <= crate::wire::JSON);
    }
}
