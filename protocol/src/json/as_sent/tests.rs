use proptest::prelude::*;

use super::*;
use crate::json::{
    canonical::{parse_object, to_canonical},
    strategy,
};

fn sent(text: &str) -> String {
    canonical_text(text.as_bytes(), Numbers::AsSent).unwrap()
}

#[test]
fn keys_are_sorted_and_spaces_and_escapes_go() {
    for (given, expected) in [
        ("{}", "{}"),
        (" { } ", "{}"),
        (r#"{"b":[ ],"a":{ }}"#, r#"{"a":{},"b":[]}"#),
        (
            r#"{"b":1,"a":[{"d":2 , "c":3},4]}"#,
            r#"{"a":[{"c":3,"d":2},4],"b":1}"#,
        ),
        (
            r#"{"\u0061":"\u00e9\/\n\u000A\u0001\ud83d\ude00"}"#,
            "{\"a\":\"é/\\n\\n\\u0001😀\"}",
        ),
        // A quote sorts by itself, not by its escape.
        (r#"{"a":1,"\"":2,"\\":3}"#, r#"{"\"":2,"\\":3,"a":1}"#),
        (r#"{"a":1,"b":2,"a":[3]}"#, r#"{"a":[3],"b":2}"#),
        (
            r#"{"a":"\uD800","b":"\udc00\ud800x"}"#,
            r#"{"a":"\ud800","b":"\udc00\ud800x"}"#,
        ),
        (r#"{"a":[true,false,null]}"#, r#"{"a":[true,false,null]}"#),
    ] {
        assert_eq!(sent(given), expected, "{given}");
        assert_eq!(sent(expected), expected);
    }
}

#[test]
fn numbers_keep_their_texts() {
    let text = r#"{"a":[123456789012345678901234567890,-0,1e2,1.50,1E400,1e16]}"#;
    assert_eq!(sent(text), text);
    let read = canonical_text(text.as_bytes(), Numbers::AsRead).unwrap();
    assert_eq!(
        read,
        r#"{"a":[123456789012345678901234567890,0,100.0,1.5,1E400,1e+16]}"#
    );
}

#[test]
fn no_nesting_costs_stack() {
    let deep = |open: &str, close: &str, count: usize| {
        format!("{{\"a\":{}1{}}}", open.repeat(count), close.repeat(count))
    };
    for count in [120, 60_000] {
        let text = deep("[", "]", count);
        assert_eq!(sent(&text), text);
        let text = deep("{\"a\":", "}", count);
        assert_eq!(sent(&text), text);
    }
    let text = deep("[", "]", MAX_NESTING);
    assert!(canonical_text(text.as_bytes(), Numbers::AsSent).is_err());
    // Out of order at every level: as far as that is no trouble.
    let unsorted = |count| deep("{\"b\":0,\"a\":", "}", count);
    assert!(sent(&unsorted(150)).starts_with("{\"a\":{\"a\":"));
    let text = unsorted(20_000);
    assert!(canonical_text(text.as_bytes(), Numbers::AsSent).is_err());
}

#[test]
fn what_is_no_json_is_refused() {
    for bad in [
        "",
        " ",
        "1",
        "[]",
        "\"a\"",
        "null",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{\"a\":1}}",
        "{\"a\":1} x",
        "{\"a\":[1,]}",
        "{\"a\":[1}",
        "{\"a\":[}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":tru}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u+123\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\" 1}",
        "{\"a\":NaN}",
        "{\"a\":\"\\u123é\"}",
    ] {
        assert!(
            canonical_text(bad.as_bytes(), Numbers::AsSent).is_err(),
            "{bad}"
        );
    }
    assert!(canonical_text(b"{\"a\":\"\xff\"}", Numbers::AsSent).is_err());
}

proptest! {
    /// What the strict form takes, this gives as well.
    #[test]
    fn where_there_is_a_strict_form_it_is_the_same(object in strategy::object()) {
        let strict = to_canonical(&object).unwrap();
        prop_assert_eq!(sent(&strict), strict.clone());
        prop_assert_eq!(sent(&serde_json::to_string_pretty(&object).unwrap()), strict);
    }

    #[test]
    fn bytes_never_panic(text in r#"([\[\]{}:,"\\a0\-.eu1]|null| |\\u[0-9a-fA-F]{4}){0,40}"#) {
        let text = format!("{{\"a\":{text}}}");
        if let Ok(once) = canonical_text(text.as_bytes(), Numbers::AsRead) {
            let again = canonical_text(once.as_bytes(), Numbers::AsRead).unwrap();
            prop_assert_eq!(again, once);
        }
        if let Ok(object) = parse_object(text.as_bytes()) {
            let ours = canonical_text(text.as_bytes(), Numbers::AsSent);
            prop_assert!(ours.is_ok(), "{object:?}");
        }
    }
}
