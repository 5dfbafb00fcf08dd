//! Which extensions are wanted, and of which rooms. One that nobody knows is passed over.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The extensions of a request. A further one is a field here, and a function in `sliding/extensions`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Messages for the device (MSC3885).
    pub to_device: Option<ToDevice>,
    /// Devices of others, and what this one has to give out (MSC3884).
    pub e2ee: Option<Plain>,
    /// Account data (MSC3959).
    pub account_data: Option<Scope>,
    /// Receipts (MSC3960).
    pub receipts: Option<Scope>,
    /// Who is typing (MSC3961).
    pub typing: Option<Scope>,
    /// Which threads the user follows (MSC4308).
    #[serde(rename = "io.element.msc4308.thread_subscriptions")]
    pub threads: Option<Threads>,
    /// Sticky events (MSC4354).
    #[serde(rename = "org.matrix.msc4354.sticky_events")]
    pub sticky: Option<Sticky>,
    /// Profiles (MSC4262), …
    pub profiles: Option<Profiles>,
    /// … and by the name that they have until they are in the specification.
    #[serde(rename = "org.matrix.msc4262.profiles")]
    pub unstable_profiles: Option<Profiles>,
}

/// Profiles of those with whom the user shares rooms.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Profiles {
    /// Of which rooms' members, whatever happens to them.
    #[serde(flatten)]
    pub scope: Scope,
    /// Which fields; `None`: all.
    pub fields: Option<BTreeSet<String>>,
}

impl Profiles {
    /// Whether a field is wanted.
    pub fn has(&self, field: &str) -> bool {
        let fields = self.fields.as_ref();
        fields.is_none_or(|fields| fields.contains(field))
    }
}

/// Which threads the user follows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Threads {
    /// Whether that is wanted.
    pub enabled: Option<bool>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Sticky events.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sticky {
    /// Whether they are wanted.
    pub enabled: Option<bool>,
    /// Up to where the client has got them.
    pub since: Option<String>,
}

/// An extension with nothing to choose.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Plain {
    /// Whether it is wanted.
    pub enabled: Option<bool>,
}

/// Messages for the device.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ToDevice {
    /// Whether they are wanted.
    pub enabled: Option<bool>,
    /// At most so many.
    pub limit: Option<u64>,
    /// Up to where the device has got them.
    pub since: Option<String>,
}

/// An extension of rooms. Without `lists` it is of all lists, without `rooms` of all subscriptions.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// Whether it is wanted.
    pub enabled: Option<bool>,
    /// Of which lists' rooms; `*`: of all.
    pub lists: Option<BTreeSet<String>>,
    /// Of which rooms; `*`: of all that are subscribed to.
    pub rooms: Option<BTreeSet<String>>,
}

impl Extensions {
    /// What is wanted of messages for the device.
    pub fn to_device(&self) -> Option<&ToDevice> {
        self.to_device
            .as_ref()
            .filter(|it| it.enabled == Some(true))
    }

    /// What is wanted of threads.
    pub fn threads(&self) -> Option<&Threads> {
        self.threads.as_ref().filter(|it| it.enabled == Some(true))
    }

    /// What is wanted of sticky events.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref().filter(|it| it.enabled == Some(true))
    }

    /// What is wanted of profiles, and under which name.
    pub fn profiles(&self) -> Option<(&'static str, &Profiles)> {
        let named = [
            ("profiles", &self.profiles),
            ("org.matrix.msc4262.profiles", &self.unstable_profiles),
        ];
        let wanted = |it: &&Profiles| it.scope.enabled == Some(true);
        let mut named = named
            .into_iter()
            .filter_map(|(name, it)| Some((name, it.as_ref().filter(wanted)?)));
        named.next()
    }

    /// Whether devices of others are wanted.
    pub fn wants_e2ee(&self) -> bool {
        self.e2ee
            .as_ref()
            .is_some_and(|it| it.enabled == Some(true))
    }
}

/// The scope of an extension, if it is wanted.
pub fn wanted(scope: Option<&Scope>) -> Option<&Scope> {
    scope.filter(|scope| scope.enabled == Some(true))
}

impl Scope {
    /// Whether a room is in it that stands in these lists, and, if `subscribed`, is wanted by itself.
    pub fn has(&self, room: &str, lists: &[&str], subscribed: bool) -> bool {
        let listed = match &self.lists {
            None => !lists.is_empty(),
            Some(wanted) => {
                let mut lists = lists.iter();
                lists.any(|list| wanted.contains(*list) || wanted.contains("*"))
            }
        };
        let by_itself = match &self.rooms {
            None => subscribed,
            Some(rooms) => rooms.contains(room) || subscribed && rooms.contains("*"),
        };
        listed || by_itself
    }
}
