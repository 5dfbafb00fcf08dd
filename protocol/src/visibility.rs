//! Who may see an event (client-server "Room history visibility").

use crate::{Membership, Object};

/// `m.room.history_visibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryVisibility {
    /// Events since the user was invited.
    Invited,
    /// Events since the user joined.
    Joined,
    /// All events, once the user has joined. What an absent or unknown value means.
    Shared,
    /// All events, for anyone.
    WorldReadable,
}

impl HistoryVisibility {
    /// Reads `content.history_visibility`; `None` is the absent event.
    pub fn of(content: Option<&Object>) -> Self {
        match content.and_then(|content| crate::content::text(content, "history_visibility")) {
            Some("invited") => Self::Invited,
            Some("joined") => Self::Joined,
            Some("world_readable") => Self::WorldReadable,
            _ => Self::Shared,
        }
    }

    /// The name in `content.history_visibility`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Joined => "joined",
            Self::Shared => "shared",
            Self::WorldReadable => "world_readable",
        }
    }
}

/// What matters of the state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The room's history visibility.
    pub visibility: HistoryVisibility,
    /// The reader's membership; `None` if there never was one.
    pub membership: Option<Membership>,
}

/// Whether a user may see an event.
///
/// `before` and `after` are the moments right before and after the event: they differ only if the event
/// itself changes the visibility or the reader's own membership; the laxer one counts. `joined_since` is
/// whether the reader has been joined at any time at or after the event.
pub fn can_see(before: Moment, after: Moment, joined_since: bool) -> bool {
    sees(before, joined_since) || (after != before && sees(after, joined_since))
}

fn sees(moment: Moment, joined_since: bool) -> bool {
    let Moment {
        visibility,
        membership,
    } = moment;
    // 1. world_readable
    visibility == HistoryVisibility::WorldReadable
        // 2. was joined
        || membership == Some(Membership::Join)
        // 3. shared, and joined at any time after the event
        || (visibility == HistoryVisibility::Shared && joined_since)
        // 4. was invited, and invited suffices
        || (visibility == HistoryVisibility::Invited && membership == Some(Membership::Invite))
    // 5. Otherwise, deny.
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{HistoryVisibility as V, *};

    #[test]
    fn the_five_rules() {
        use Membership::{Ban, Invite, Join, Knock, Leave};
        let others = [None, Some(Leave), Some(Ban), Some(Knock)];
        let sees = |visibility, membership, since| {
            let moment = Moment {
                visibility,
                membership,
            };
            can_see(moment, moment, since)
        };
        for since in [false, true] {
            for visibility in [V::Invited, V::Joined, V::Shared, V::WorldReadable] {
                assert!(sees(visibility, Some(Join), since));
            }
            for membership in others {
                assert!(sees(V::WorldReadable, membership, since));
                assert_eq!(sees(V::Shared, membership, since), since);
                assert!(!sees(V::Invited, membership, since));
                assert!(!sees(V::Joined, membership, since));
            }
            assert!(sees(V::Invited, Some(Invite), since));
            assert!(!sees(V::Joined, Some(Invite), since));
            assert_eq!(sees(V::Shared, Some(Invite), since), since);
        }
    }

    #[test]
    fn the_laxer_side_counts() {
        let joined = Moment {
            visibility: V::Joined,
            membership: Some(Membership::Join),
        };
        let left = Moment {
            visibility: V::Joined,
            membership: Some(Membership::Leave),
        };
        let open = Moment {
            visibility: V::WorldReadable,
            membership: None,
        };
        assert!(can_see(joined, left, false), "one's own leaving");
        assert!(can_see(left, joined, false), "one's own joining");
        assert!(
            can_see(open, left, false) && can_see(left, open, false),
            "a change of visibility"
        );
        assert!(!can_see(left, left, true));
    }

    #[test]
    fn strange_values_mean_shared() {
        for content in [
            json!({}),
            json!({"history_visibility": 1}),
            json!({"history_visibility": "x"}),
        ] {
            assert_eq!(V::of(content.as_object()), V::Shared);
        }
        assert_eq!(V::of(None), V::Shared);
        for visibility in [V::Invited, V::Joined, V::Shared, V::WorldReadable] {
            assert_eq!(
                V::of(json!({"history_visibility": visibility.as_str()}).as_object()),
                visibility
            );
        }
    }
}
