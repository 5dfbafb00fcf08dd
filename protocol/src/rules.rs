//! Room versions as data: every difference between two versions is a field, never a `match` in logic.

use ruma::RoomVersionId;

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
    /// How the event id comes about.
    pub event_id: EventIdFormat,
    /// The string limits of received events count bytes (v11+), not code points.
    pub limits_in_bytes: bool,
    /// The room id is the create event's id with `!` for `$`; the create event has none (v12+).
    pub room_id_is_create_hash: bool,
    /// `auth_events` names the create event (up to v11).
    pub create_in_auth_events: bool,
    /// `redacts` stands in `content` (v11+), not at the top level.
    pub redacts_in_content: bool,
    /// The create event's `content.creator` names the creator (up to v10); later it is the sender.
    pub creator_in_content: bool,
}

/// How event ids are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventIdFormat {
    /// Chosen by the sending server, in the event (v1, v2).
    Explicit,
    /// `$` and the reference hash in standard base64 (v3).
    Hash,
    /// `$` and the reference hash in URL-safe base64 (v4+).
    UrlSafeHash,
}

/// What survives a redaction, beyond what survives in every version.
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

/// The differences between the versions' authorization rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthRules {
    /// `m.room.aliases` has a rule of its own (up to v5).
    pub special_aliases: bool,
    /// Redactions are checked by domain here (v1, v2).
    pub special_redaction: bool,
    /// The limits on `notifications` levels are checked (v6+).
    pub limit_notifications: bool,
    /// The join rule and membership `knock` exist (v7+).
    pub knock: bool,
    /// The join rule `restricted` exists (v8+).
    pub restricted: bool,
    /// The join rule `knock_restricted` exists (v10+).
    pub knock_restricted: bool,
    /// Power levels must be integers, not strings of digits (v10+).
    pub integer_levels: bool,
    /// Creators (the create event's sender and `additional_creators`) have infinite power (v12+).
    pub privileged_creators: bool,
}

/// A state resolution algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Versions 2 to 11.
    V2,
    /// Version 12: starts from the empty state and adds the conflicted state subgraph.
    V2_1,
}

const FORMAT_V10: FormatRules = FormatRules {
    event_id: EventIdFormat::UrlSafeHash,
    limits_in_bytes: false,
    room_id_is_create_hash: false,
    create_in_auth_events: true,
    redacts_in_content: false,
    creator_in_content: true,
};
const FORMAT_V11: FormatRules = FormatRules {
    limits_in_bytes: true,
    redacts_in_content: true,
    creator_in_content: false,
    ..FORMAT_V10
};
const FORMAT_V12: FormatRules = FormatRules {
    room_id_is_create_hash: true,
    create_in_auth_events: false,
    ..FORMAT_V11
};

const REDACTION_V10: RedactionRules = RedactionRules {
    keep_old_top_level: true,
    keep_aliases: false,
    keep_allow: true,
    keep_authorised_via: true,
    keep_create: false,
    keep_redacts: false,
    keep_invite_level: false,
    keep_third_party_signed: false,
};
const REDACTION_V11: RedactionRules = RedactionRules {
    keep_old_top_level: false,
    keep_create: true,
    keep_redacts: true,
    keep_invite_level: true,
    keep_third_party_signed: true,
    ..REDACTION_V10
};

const AUTH_V10: AuthRules = AuthRules {
    special_aliases: false,
    special_redaction: false,
    limit_notifications: true,
    knock: true,
    restricted: true,
    knock_restricted: true,
    integer_levels: true,
    privileged_creators: false,
};
const AUTH_V12: AuthRules = AuthRules {
    privileged_creators: true,
    ..AUTH_V10
};

static V10: RoomRules = RoomRules {
    version: RoomVersionId::V10,
    format: FORMAT_V10,
    redaction: REDACTION_V10,
    auth: AUTH_V10,
    resolution: Resolution::V2,
};
static V11: RoomRules = RoomRules {
    version: RoomVersionId::V11,
    format: FORMAT_V11,
    redaction: REDACTION_V11,
    auth: AUTH_V10,
    resolution: Resolution::V2,
};
static V12: RoomRules = RoomRules {
    version: RoomVersionId::V12,
    format: FORMAT_V12,
    redaction: REDACTION_V11,
    auth: AUTH_V12,
    resolution: Resolution::V2_1,
};

static SUPPORTED: [&RoomRules; 3] = [&V10, &V11, &V12];

impl RoomRules {
    /// The rules of `version`, or `None` if it is unknown or not supported.
    pub fn get(version: &RoomVersionId) -> Option<&'static RoomRules> {
        Self::named(version.as_str())
    }

    /// The rules of the version with this identifier, as it stands in `content.room_version`.
    pub fn named(version: &str) -> Option<&'static RoomRules> {
        Self::supported().find(|rules| rules.version.as_str() == version)
    }

    /// All supported versions, oldest first.
    pub fn supported() -> impl Iterator<Item = &'static RoomRules> {
        SUPPORTED.iter().copied()
    }

    /// The identifier as text.
    pub fn id(&self) -> &str {
        self.version.as_str()
    }
}

impl PartialEq for RoomRules {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for RoomRules {}
