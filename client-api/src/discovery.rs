//! What the server can do: versions, capabilities.

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson};
use rhizome_protocol::RoomRules;
use rhizome_rooms::create::plan::Preset;
use rhizome_storage::millis;
use ruma::api::client::discovery::{get_capabilities::v3 as capabilities, get_supported_versions};
use serde_json::json;

use crate::{
    App, Ruma,
    account::contact::list,
    config::{EncryptionByDefault, Entrance},
};

/// The versions of the specification of which clients may use everything (docs/supported.md, "Versions"). What isn't here of
/// them, clients find out otherwise before they use it, or only the operator could make them.
const VERSIONS: [&str; 18] = [
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11",
    "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18",
];
/// What is here of newer versions and of proposals, under the names that clients ask for. Of what is in the versions above,
/// those that some clients ask for all the same.
const FEATURES: &[&str] = &[
    "computer.gingershaped.msc4466",
    "fi.mau.msc2246.stable",
    "fi.mau.msc2815",
    "net.zemos.msc4383",
    "org.matrix.e2e_cross_signing",
    "org.matrix.label_based_filtering",
    "org.matrix.msc2285.stable",
    "org.matrix.msc3026.busy_presence",
    "org.matrix.msc3391",
    "org.matrix.msc3440.stable",
    "org.matrix.msc3814",
    "org.matrix.msc3827.stable",
    "org.matrix.msc3874",
    "org.matrix.msc3881",
    "org.matrix.msc3890",
    "org.matrix.msc3912",
    "org.matrix.msc3916.stable",
    "org.matrix.msc4028",
    "org.matrix.msc4069",
    "org.matrix.msc4140",
    "org.matrix.msc4155",
    "org.matrix.msc4262",
    "org.matrix.msc4306",
    "org.matrix.msc4308",
    "org.matrix.msc4354",
    "org.matrix.msc4380",
    "org.matrix.msc4380.stable",
    "org.matrix.simplified_msc3575",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133.stable",
];

/// `GET /_matrix/client/versions`
pub async fn versions(
    State(app): State<App>,
    Ruma { .. }: Ruma<get_supported_versions::Request>,
) -> Result<RawJson, MatrixError> {
    let features = FEATURES.iter().map(|name| ((*name).to_owned(), true));
    let features: BTreeMap<String, bool> = features.chain(encrypted_anyway(&app)).collect();
    let software = app.federation.config();
    RawJson::of(&json!({
        "versions": VERSIONS,
        "unstable_features": features,
        // MSC4383
        "net.zemos.msc4383.server": {
            "name": software.software_name,
            "version": software.software_version,
        },
    }))
}

/// Of which presets rooms are encrypted although their creator doesn't ask for it, as some clients want to know it.
fn encrypted_anyway(app: &App) -> impl Iterator<Item = (String, bool)> {
    let presets = [
        ("private", Preset::PrivateChat),
        ("trusted_private", Preset::TrustedPrivateChat),
        ("public", Preset::PublicChat),
    ];
    let presets = presets.map(|(name, preset)| {
        let rule = app.config.room_policies.of(preset).join_rule;
        let public = rule.map_or(preset == Preset::PublicChat, |rule| {
            rule == Entrance::Public
        });
        let is = match app.config.encryption_by_default {
            EncryptionByDefault::Off => false,
            EncryptionByDefault::Invite => !public,
            EncryptionByDefault::All => true,
        };
        (name, is)
    });
    let name = |preset| format!("io.element.e2ee_forced.{preset}");
    presets
        .into_iter()
        .map(move |(preset, is)| (name(preset), is))
}

/// `GET /_matrix/client/v3/capabilities`
pub async fn capabilities(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<capabilities::Request>,
) -> Result<RawJson, MatrixError> {
    let account = app.store.account(&who.user_id).await?;
    let has_password = account
        .as_ref()
        .is_some_and(|one| one.password_hash.is_some());
    let can_confirm = has_password || (app.config.jwt.is_some() && !who.is_guest);
    let administers = account.is_some_and(|one| one.admin);
    let available: BTreeMap<&str, &str> = RoomRules::supported()
        .map(|rules| (rules.version.as_str(), "stable"))
        .collect();
    let fields = &app.config.profile_fields;
    let mut capabilities = json!({
        "m.room_versions": { "default": app.config.default_room_version, "available": available },
        "m.change_password": { "enabled": true },
        "m.set_displayname": { "enabled": fields.allow("displayname") },
        "m.set_avatar_url": { "enabled": fields.allow("avatar_url") },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": list::may_change(&app) },
        "m.get_login_token": { "enabled": can_confirm && app.config.login_tokens.is_some() },
        "m.forget_forced_upon_leave": { "enabled": app.config.forget_on_leave },
        "im.nheko.msc3664.related_event_match": { "enabled": true },
    });
    if !fields.allowed.is_empty() {
        capabilities["m.profile_fields"]["allowed"] = json!(fields.allowed);
    } else if !fields.disallowed.is_empty() {
        capabilities["m.profile_fields"]["disallowed"] = json!(fields.disallowed);
    }
    let delayed = app.config.delayed;
    capabilities["org.matrix.msc4140.delayed_events"] =
        json!({ "max_delay_ms": millis(delayed.max_delay), "max_scheduled": delayed.most });
    if let Some(web) = app.config.channels.web_push() {
        capabilities["m.webpush"] = json!({ "enabled": true, "vapid": web.public_key() });
    }
    if administers {
        capabilities["m.account_moderation"] = json!({ "lock": true, "suspend": true });
    }
    RawJson::of(&json!({ "capabilities": capabilities }))
}
