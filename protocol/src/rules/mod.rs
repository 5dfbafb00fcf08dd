//! Room versions as data: every difference between two versions is a field, never a `match` in logic.

mod versions;

use ruma::RoomVersionId;

use crate::{
    Object,
    canonical::{self, Strictness},
};

/// Everything that distinguishes one room version from another.
#[derive(Debug)]
pub struct RoomRules {
    /// The version's identifier.
    pub version: RoomVersionId,
    /// The form of events, ids and hashes.
    pub format: FormatRules,
    /// What a redaction keeps.
    pub redaction: RedactionRules,
    /// The authorization rules.
    pub auth: AuthRules,
    /// Which state resolution algorithm merges forks.
    pub resolution: Resolution,
}

/// How events of a version look on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatRules {
    /// How the event id comes about ([v1], [v3] and [v4] "Event IDs"). With ids of the servers' own choosing,
    /// `prev_events` and `auth_events` are pairs of an id and hashes ([v1] "Event format").
    ///
    /// [v1]: https://spec.matrix.org/v1.19/rooms/v1/
    /// [v3]: https://spec.matrix.org/v1.19/rooms/v3/
    /// [v4]: https://spec.matrix.org/v1.19/rooms/v4/
    pub event_id: EventIdFormat,
    /// Numbers are integers within ±(2^53−1) (v6+, "Canonical JSON"); before, others are tolerated.
    pub strict_json: bool,
    /// A signing key counts only up to its `valid_until_ts` (v5+, "Signing key validity period").
    pub key_validity: bool,
    /// The string limits of received events count bytes (v11+, server-server "Size limits"), not code points.
    pub limits_in_bytes: bool,
    /// The room id is the create event's id with `!` for `$`; the create event has none (v12+, "Room IDs").
    pub room_id_is_create_hash: bool,
    /// `auth_events` names the create event (up to v11; v12 "Event format").
    pub create_in_auth_events: bool,
    /// `redacts` stands in `content` (v11+, "Event format"), not at the top level.
    pub redacts_in_content: bool,
    /// The create event's `content.creator` names the creator (up to v10); later it is the sender
    /// (v11 "Event format").
    pub creator_in_content: bool,
}

/// How event ids are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventIdFormat {
    /// `$opaque:server`, chosen by the sending server, in the event (v1, v2).
    Explicit,
    /// `$` and the reference hash in standard base64 (v3).
    Hash,
    /// `$` and the reference hash in URL-safe base64 (v4+).
    UrlSafeHash,
}

/// What survives a redaction, beyond what survives in every version (each version's "Redactions").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedactionRules {
    /// The top-level fields `membership`, `origin` and `prev_state` survive (up to v10).
    pub keep_old_top_level: bool,
    /// `m.room.aliases` keeps `aliases` (up to v5).
    pub keep_aliases: bool,
    /// `m.room.join_rules` keeps `allow` (v8+).
    pub keep_allow: bool,
    /// `m.room.member` keeps `join_authorised_via_users_server` (v9+).
    pub keep_authorised_via: bool,
    /// `m.room.create` keeps all of its content (v11+).
    pub keep_create: bool,
    /// `m.room.redaction` keeps `redacts` in its content (v11+).
    pub keep_redacts: bool,
    /// `m.room.power_levels` keeps `invite` (v11+).
    pub keep_invite_level: bool,
    /// `m.room.member` keeps `third_party_invite.signed` (v11+).
    pub keep_third_party_signed: bool,
}

/// The differences between the versions' authorization rules (each version's "Authorisation rules").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthRules {
    /// `m.room.aliases` has a rule of its own (rule 4, up to v5).
    pub special_aliases: bool,
    /// Redactions are judged by the domains of event ids (rule 11 of v1 and v2); later by who wrote what,
    /// when they are applied (v3 "Handling redactions").
    pub special_redaction: bool,
    /// The limits on `notifications` levels are checked (rules 9.4 and 9.5 of v6+).
    pub limit_notifications: bool,
    /// The join rule and membership `knock` exist (rules 4.2.4, 4.4.1 and 4.6 of v7+).
    pub knock: bool,
    /// The join rule `restricted` exists (rules 4.2 and 4.3.5 of v8+).
    pub restricted: bool,
    /// The join rule `knock_restricted` exists (rules 4.3.5 and 4.7.1 of v10+).
    pub knock_restricted: bool,
    /// Power levels must be integers (rules 9.1 to 9.3 of v10+); before, also strings of digits, and up to
    /// v5 fractions ("Deprecated event content schemas").
    pub integer_levels: bool,
    /// Creators (the create event's sender and `additional_creators`) have infinite power (rules 1.4 and
    /// 10.4 of v12+).
    pub privileged_creators: bool,
    /// State with a key that begins with a user's id belongs to that user, and to whoever has more power than they
    /// (MSC3757); in all others it is the user's alone, and the id is all of the key (rule 9).
    pub owned_state: bool,
}

/// A state resolution algorithm (each version's "State resolution").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Version 1: the deepest allowed event wins.
    V1,
    /// Versions 2 to 11.
    V2,
    /// Version 12: starts from the empty state and adds the conflicted state subgraph.
    V2_1,
}

impl RoomRules {
    /// The rules of `version`, or `None` if it is unknown or not supported.
    pub fn get(version: &RoomVersionId) -> Option<&'static RoomRules> {
        Self::named(version.as_str())
    }

    /// The rules of the version with this identifier, as it stands in `content.room_version`.
    pub fn named(version: &str) -> Option<&'static RoomRules> {
        Self::known().find(|rules| rules.version.as_str() == version)
    }

    /// All versions that rooms here may have: the supported ones, and those of proposals.
    pub fn known() -> impl Iterator<Item = &'static RoomRules> {
        Self::supported().chain(versions::PROPOSED.iter())
    }

    /// All supported versions, oldest first. Those of proposals aren't among them: they are for whoever asks for one by
    /// its name.
    pub fn supported() -> impl Iterator<Item = &'static RoomRules> {
        versions::SUPPORTED.iter()
    }

    /// The rules that a create event's content names; an absent `room_version` means version 1
    /// (client-server `m.room.create`).
    pub fn of_create(content: &Object) -> Option<&'static RoomRules> {
        match content.get("room_version") {
            None => Self::named("1"),
            Some(version) => version.as_str().and_then(Self::named),
        }
    }

    /// The identifier as text.
    pub fn id(&self) -> &str {
        self.version.as_str()
    }

    /// What becomes of numbers in events that canonical JSON doesn't have.
    pub(crate) fn strictness(&self) -> Strictness {
        if self.format.strict_json {
            Strictness::Strict
        } else {
            Strictness::Tolerant
        }
    }

    /// The greatest `depth` that an event may have; deeper ones than that stay there.
    pub fn max_depth(&self) -> i64 {
        if self.format.strict_json {
            canonical::MAX_INT
        } else {
            i64::MAX
        }
    }
}

impl PartialEq for RoomRules {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for RoomRules {}
