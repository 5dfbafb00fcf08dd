//! What providers of devices may learn, so that the device can show it without asking us first.

use serde::Deserialize;

use crate::detail::Detail;
use crate::notification::{Device, Notification};

/// The key of a pusher's data that says what providers may carry: `names` of people and rooms, or `text`, too.
/// Without it they get ids and counts.
const KEY: &str = "org.rhizome.show";
/// The most characters of a text; the rest is for the app to fetch.
const MAX_TEXT: usize = 500;

/// What is told to people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown<'a> {
    /// Who it's from.
    pub(crate) sender: &'a str,
    /// Where it's said.
    pub(crate) room: Option<&'a str>,
    /// What they say.
    pub(crate) text: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    body: String,
}

/// How much of a notification goes to a provider: nothing but ids of what is encrypted, and of the rest what the pusher
/// wants.
pub(crate) fn wanted(notification: &Notification, device: &Device) -> Detail {
    let most = Detail::private(device, notification.event.as_ref());
    let asked = match device.text(KEY) {
        Some("text") => Detail::Full,
        Some("names") => Detail::WithoutContent,
        _ => Detail::EventIdOnly,
    };
    most.min(asked)
}

/// What is shown at this detail, which [`wanted`] bounds.
pub(crate) fn shown(notification: &Notification, detail: Detail) -> Option<Shown<'_>> {
    if detail < Detail::WithoutContent {
        return None;
    }
    let event = notification.event.as_ref()?;
    let text = || {
        let content: Content = serde_json::from_str(event.content.as_ref()?.get()).ok()?;
        Some(content.body.chars().take(MAX_TEXT).collect())
    };
    Some(Shown {
        sender: event
            .sender_display_name
            .as_deref()
            .unwrap_or(&event.sender),
        room: event.room_name.as_deref(),
        text: if detail == Detail::Full { text() } else { None },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{device, encrypted, message};

    fn text(notification: &Notification) -> Option<String> {
        shown(notification, Detail::Full)?.text
    }

    #[test]
    fn providers_learn_what_the_pusher_wants_and_nothing_encrypted() {
        let wants = |notification: &Notification, data| wanted(notification, &device("key", &data));
        let hello = message("hello");
        assert_eq!(wants(&hello, json!({})), Detail::EventIdOnly);
        assert_eq!(
            wants(&hello, json!({ KEY: "names" })),
            Detail::WithoutContent
        );
        assert_eq!(wants(&hello, json!({ KEY: "text" })), Detail::Full);
        assert_eq!(
            wants(&hello, json!({ KEY: "everything" })),
            Detail::EventIdOnly
        );
        assert_eq!(wants(&hello, json!({ KEY: true })), Detail::EventIdOnly);
        let ids = json!({ KEY: "text", "format": "event_id_only" });
        assert_eq!(wants(&hello, ids), Detail::EventIdOnly);
        assert_eq!(
            wants(&encrypted(), json!({ KEY: "text" })),
            Detail::EventIdOnly
        );
    }

    #[test]
    fn people_are_told_who_where_and_what() {
        let mut hello = message("hello");
        let expected = Shown {
            sender: "Major Tom",
            room: Some("Mission Control"),
            text: Some("hello".to_owned()),
        };
        assert_eq!(shown(&hello, Detail::Full), Some(expected));
        assert_eq!(shown(&hello, Detail::WithoutContent).unwrap().text, None);
        assert_eq!(shown(&hello, Detail::EventIdOnly), None);
        let event = hello.event.as_mut().unwrap();
        (event.sender_display_name, event.room_name) = (None, None);
        let shown = shown(&hello, Detail::WithoutContent).unwrap();
        assert_eq!((shown.sender, shown.room), ("@major:example.org", None));
    }

    #[test]
    fn texts_are_cut_where_a_character_ends() {
        assert_eq!(text(&message(&"ä".repeat(600))), Some("ä".repeat(500)));
        assert_eq!(text(&encrypted()), None);
        let mut odd = message("hello");
        for content in [r#"{"body":1}"#, r#"{"body":"a","body":"b"}"#, "[]", "null"] {
            let raw = serde_json::from_str(content).unwrap();
            odd.event.as_mut().unwrap().content = Some(raw);
            assert_eq!(text(&odd), None, "{content}");
        }
    }
}
