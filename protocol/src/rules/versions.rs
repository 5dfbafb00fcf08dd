//! The room versions, each as its difference from one before it.

use std::sync::LazyLock;

use ruma::RoomVersionId;

use super::{AuthRules, EventIdFormat, FormatRules, RedactionRules, Resolution, RoomRules};

const FORMAT_V1: FormatRules = FormatRules {
    event_id: EventIdFormat::Explicit,
    strict_json: false,
    key_validity: false,
    limits_in_bytes: false,
    room_id_is_create_hash: false,
    create_in_auth_events: true,
    redacts_in_content: false,
    creator_in_content: true,
};
const FORMAT_V3: FormatRules = FormatRules {
    event_id: EventIdFormat::Hash,
    ..FORMAT_V1
};
const FORMAT_V4: FormatRules = FormatRules {
    event_id: EventIdFormat::UrlSafeHash,
    ..FORMAT_V3
};
const FORMAT_V5: FormatRules = FormatRules {
    key_validity: true,
    ..FORMAT_V4
};
const FORMAT_V6: FormatRules = FormatRules {
    strict_json: true,
    ..FORMAT_V5
};
const FORMAT_V11: FormatRules = FormatRules {
    limits_in_bytes: true,
    redacts_in_content: true,
    creator_in_content: false,
    ..FORMAT_V6
};
const FORMAT_V12: FormatRules = FormatRules {
    room_id_is_create_hash: true,
    create_in_auth_events: false,
    ..FORMAT_V11
};

const REDACTION_V1: RedactionRules = RedactionRules {
    keep_old_top_level: true,
    keep_aliases: true,
    keep_allow: false,
    keep_authorised_via: false,
    keep_create: false,
    keep_redacts: false,
    keep_invite_level: false,
    keep_third_party_signed: false,
};
const REDACTION_V6: RedactionRules = RedactionRules {
    keep_aliases: false,
    ..REDACTION_V1
};
const REDACTION_V8: RedactionRules = RedactionRules {
    keep_allow: true,
    ..REDACTION_V6
};
const REDACTION_V9: RedactionRules = RedactionRules {
    keep_authorised_via: true,
    ..REDACTION_V8
};
const REDACTION_V11: RedactionRules = RedactionRules {
    keep_old_top_level: false,
    keep_create: true,
    keep_redacts: true,
    keep_invite_level: true,
    keep_third_party_signed: true,
    ..REDACTION_V9
};

const AUTH_V1: AuthRules = AuthRules {
    special_aliases: true,
    special_redaction: true,
    limit_notifications: false,
    knock: false,
    restricted: false,
    knock_restricted: false,
    integer_levels: false,
    privileged_creators: false,
    owned_state: false,
};
const AUTH_V3: AuthRules = AuthRules {
    special_redaction: false,
    ..AUTH_V1
};
const AUTH_V6: AuthRules = AuthRules {
    special_aliases: false,
    limit_notifications: true,
    ..AUTH_V3
};
const AUTH_V7: AuthRules = AuthRules {
    knock: true,
    ..AUTH_V6
};
const AUTH_V8: AuthRules = AuthRules {
    restricted: true,
    ..AUTH_V7
};
const AUTH_V10: AuthRules = AuthRules {
    knock_restricted: true,
    integer_levels: true,
    ..AUTH_V8
};
const AUTH_V12: AuthRules = AuthRules {
    privileged_creators: true,
    ..AUTH_V10
};

const V1: RoomRules = RoomRules {
    version: RoomVersionId::V1,
    format: FORMAT_V1,
    redaction: REDACTION_V1,
    auth: AUTH_V1,
    resolution: Resolution::V1,
};
const V2: RoomRules = RoomRules {
    version: RoomVersionId::V2,
    resolution: Resolution::V2,
    ..V1
};
const V3: RoomRules = RoomRules {
    version: RoomVersionId::V3,
    format: FORMAT_V3,
    auth: AUTH_V3,
    ..V2
};
const V4: RoomRules = RoomRules {
    version: RoomVersionId::V4,
    format: FORMAT_V4,
    ..V3
};
const V5: RoomRules = RoomRules {
    version: RoomVersionId::V5,
    format: FORMAT_V5,
    ..V4
};
const V6: RoomRules = RoomRules {
    version: RoomVersionId::V6,
    format: FORMAT_V6,
    redaction: REDACTION_V6,
    auth: AUTH_V6,
    ..V5
};
const V7: RoomRules = RoomRules {
    version: RoomVersionId::V7,
    auth: AUTH_V7,
    ..V6
};
const V8: RoomRules = RoomRules {
    version: RoomVersionId::V8,
    redaction: REDACTION_V8,
    auth: AUTH_V8,
    ..V7
};
const V9: RoomRules = RoomRules {
    version: RoomVersionId::V9,
    redaction: REDACTION_V9,
    ..V8
};
const V10: RoomRules = RoomRules {
    version: RoomVersionId::V10,
    auth: AUTH_V10,
    ..V9
};
const V11: RoomRules = RoomRules {
    version: RoomVersionId::V11,
    format: FORMAT_V11,
    redaction: REDACTION_V11,
    ..V10
};
const V12: RoomRules = RoomRules {
    version: RoomVersionId::V12,
    format: FORMAT_V12,
    auth: AUTH_V12,
    resolution: Resolution::V2_1,
    ..V11
};

pub(super) static SUPPORTED: [RoomRules; 12] = [V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12];

/// Versions of proposals, which the specification doesn't have.
pub(super) static PROPOSED: LazyLock<Vec<RoomRules>> = LazyLock::new(|| {
    let owned = |version: &str, base: RoomRules| {
        let version = RoomVersionId::try_from(version).ok()?;
        let auth = AuthRules {
            owned_state: true,
            ..base.auth
        };
        Some(RoomRules {
            version,
            auth,
            ..base
        })
    };
    let owned = [
        // MSC3757: state that belongs to a user.
        owned("org.matrix.msc3757.10", V10),
        owned("org.matrix.msc3757.11", V11),
    ];
    owned.into_iter().flatten().collect()
});
