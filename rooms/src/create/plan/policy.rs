//! What an operator wants of new rooms instead of what their preset says. The request goes before both.

use rhizome_protocol::{Object, RoomRules};
use serde_json::Value;

use super::Preset;

/// A [`Policy`] for each preset.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Of [`Preset::PrivateChat`].
    pub private_chat: Policy,
    /// Of [`Preset::TrustedPrivateChat`].
    pub trusted_private_chat: Policy,
    /// Of [`Preset::PublicChat`].
    pub public_chat: Policy,
}

impl Policies {
    /// The one of a preset.
    pub fn of(&self, preset: Preset) -> &Policy {
        match preset {
            Preset::PrivateChat => &self.private_chat,
            Preset::TrustedPrivateChat => &self.trusted_private_chat,
            Preset::PublicChat => &self.public_chat,
        }
    }
}

/// A join rule that needs no other room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// Anyone may join.
    Public,
    /// Who is invited may join.
    Invite,
    /// Others may ask to be.
    Knock,
}

/// What is so in new rooms of a preset.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Who may join, in rooms of versions that know it.
    pub join_rule: Option<Entrance>,
    /// Whether a room of which the join rule isn't `public` is encrypted, unless `initial_state` says how.
    pub encrypted_unless_public: bool,
    /// Laid over the power levels of the preset, key by key, and those of single events key by key, too.
    pub power_levels: Object,
}

impl Policy {
    pub(super) fn join_rule(&self, rules: &RoomRules, of_preset: &'static str) -> &'static str {
        match self.join_rule {
            Some(Entrance::Public) => "public",
            Some(Entrance::Knock) if rules.auth.knock => "knock",
            // Who wants to know who comes in doesn't want everybody to.
            Some(Entrance::Invite | Entrance::Knock) => "invite",
            None => of_preset,
        }
    }

    pub(super) fn lay_over(&self, levels: &mut Object) {
        for (key, level) in &self.power_levels {
            match (levels.get_mut(key), level) {
                (Some(Value::Object(of_preset)), Value::Object(own)) => {
                    of_preset.extend(own.clone());
                }
                _ => {
                    levels.insert(key.clone(), level.clone());
                }
            }
        }
    }
}
