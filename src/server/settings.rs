//! From the configuration to what the crates want to know.

use std::path::Path;

use anyhow::Context as _;
use rhizome_client_api::config as client_api;
use rhizome_decoder::Decoders;
use rhizome_federation::{
    FederationConfig, OldVerifyKey,
    previews::PreviewConfig,
    servers::{ServerLists, ServerRules},
};
use rhizome_media::{
    MediaConfig, Place, RemoteConfig, S3Config, ScannerConfig, SealKey, StillConfig, StoreConfig,
};

use super::{rates, registration};
use crate::config::{
    Config, EncryptionByDefault, Entrance, Federation, LOCAL, MediaStore, Rate, RoomPolicy,
    Scanner, Secret, StoreKind, Turn, UnauthenticatedDownloads, VisibleUsers, Welcome, WellKnown,
};

/// The largest body that another server may send: a transaction can reach about 10 MiB.
const LARGEST: usize = 12 << 20;
/// Where a store for files is that has no regions.
const REGION: &str = "us-east-1";

/// The settings of the client API.
pub(crate) fn client(config: &Config) -> client_api::ClientConfig {
    let mut out = client_api::ClientConfig::new(config.server.name.clone());
    out.well_known_client.clone_from(&config.well_known.client);
    out.well_known_server = config.well_known.server.as_ref().map(ToString::to_string);
    out.default_room_version = config.server.default_room_version.clone();
    out.encryption_by_default = match config.rooms.encryption_by_default {
        EncryptionByDefault::Off => client_api::EncryptionByDefault::Off,
        EncryptionByDefault::Invite => client_api::EncryptionByDefault::Invite,
        EncryptionByDefault::All => client_api::EncryptionByDefault::All,
    };
    out.room_policies = client_api::Policies {
        private_chat: policy(&config.rooms.private_chat),
        trusted_private_chat: policy(&config.rooms.trusted_private_chat),
        public_chat: policy(&config.rooms.public_chat),
    };
    out.forget_on_leave = config.rooms.forget_on_leave;
    out.found_users = match config.user_directory.visible {
        VisibleUsers::Known => client_api::FoundUsers::Known,
        VisibleUsers::AllLocal => client_api::FoundUsers::AllLocal,
    };
    out.profile_fields = client_api::ProfileFields {
        allowed: config.profiles.allowed_fields.clone(),
        disallowed: config.profiles.disallowed_fields.clone(),
    };
    let notices = &config.server_notices;
    let speaker = notices.user(&config.server.name);
    out.notices = speaker.map(|user| client_api::Notices {
        user,
        display_name: notices.display_name.clone(),
        avatar_url: notices.avatar_url.clone(),
        room_name: Some(notices.room_name.clone()).filter(|name| !name.is_empty()),
    });
    registration::apply(&config.registration, &mut out);
    out.access_token_lifetime_ms =
        u64::try_from(config.sessions.access_token_lifetime.0.as_millis()).unwrap_or(u64::MAX);
    out.refresh_token_lifetime = config.sessions.refresh_token_lifetime.map(|span| span.0);
    out.lasting_token_lifetime = config.sessions.lasting_token_lifetime.map(|span| span.0);
    out.reauthentication_window = config.sessions.reauthentication_window.0;
    let login_token = config.sessions.login_token_lifetime.0;
    out.login_tokens = (!login_token.is_zero()).then_some(login_token);
    // What is wrong with it, the check of the configuration has said.
    out.jwt = config.jwt.login().ok().flatten();
    out.rate_limits = rates::of_clients(config);
    let identity = &config.identity;
    out.identity = client_api::Identity {
        base: config.client_base(),
        sms: identity.sms.as_ref().map(|sms| client_api::Sms {
            url: sms.url.clone(),
            token: sms.token.as_ref().map(|token| token.expose().to_owned()),
        }),
        next_hosts: identity.next_link_hosts.clone(),
        hide_known: identity.hide_known_addresses,
        servers: identity.servers.clone(),
    };
    out.discovery = discovery(&config.well_known);
    out.turn = turn(&config.turn);
    out.welcome = welcome(&config.welcome);
    out.delayed = client_api::DelayedLimits {
        max_delay: config.delayed_events.max_delay.0,
        most: config.delayed_events.max_scheduled,
    };
    let media = &config.media;
    out.unauthenticated_media = match (media.unauthenticated_downloads, media.frozen_since) {
        (UnauthenticatedDownloads::Open, _) => client_api::Unauthenticated::Open,
        (UnauthenticatedDownloads::Frozen, Some(day)) => client_api::Unauthenticated::Before(day.0),
        (UnauthenticatedDownloads::Frozen, None) => client_api::Unauthenticated::Closed,
    };
    out
}

fn discovery(from: &WellKnown) -> client_api::Discovery {
    let contacts = from.contacts.iter().cloned();
    client_api::Discovery {
        client_extra: from.client_extra.clone(),
        contacts: contacts
            .map(|contact| client_api::Contact {
                role: contact.role,
                matrix_id: contact.matrix_id,
                email_address: contact.email_address,
            })
            .collect(),
        support_page: from.support_page.clone(),
        policy_server_key: from.policy_server_key.clone(),
    }
}

fn turn(from: &Turn) -> Option<client_api::Turn> {
    let known = |secret: &Option<Secret>| {
        let secret = secret.as_ref()?;
        Some(secret.expose().to_owned())
    };
    let secret = known(&from.shared_secret).map(client_api::TurnCredentials::Secret);
    let shared = || {
        let (user, password) = (from.user.clone()?, known(&from.password)?);
        Some(client_api::TurnCredentials::Shared { user, password })
    };
    let credentials = secret.or_else(shared)?;
    (!from.uris.is_empty()).then(|| client_api::Turn {
        uris: from.uris.clone(),
        credentials,
        ttl: from.ttl.0,
        guests: from.guests,
    })
}

fn welcome(from: &Welcome) -> Option<client_api::Welcome> {
    let clients = from.clients.iter().cloned();
    let software = concat!("Rhizome ", env!("CARGO_PKG_VERSION"));
    from.enabled.then(|| client_api::Welcome {
        title: from.title.clone(),
        text: from.text.clone(),
        clients: clients.map(|client| (client.name, client.url)).collect(),
        software: from.show_version.then(|| software.to_owned()),
    })
}

/// The settings of files.
pub(crate) fn media(config: &Config) -> anyhow::Result<MediaConfig> {
    let from = &config.media;
    let data_dir = &config.server.data_dir;
    let stores = from.places().into_iter().map(|place| match place {
        None => StoreConfig {
            name: LOCAL.to_owned(),
            place: Place::Disk(from.path(data_dir)),
        },
        Some(store) => StoreConfig {
            name: store.name.clone(),
            place: match store.kind {
                StoreKind::Disk => Place::Disk(store.folder(data_dir)),
                StoreKind::S3 => Place::S3(s3(store, data_dir)),
            },
        },
    });
    Ok(MediaConfig {
        stores: stores.collect(),
        keys: from.key_file.as_deref().map_or(Ok(Vec::new()), seal_keys)?,
        max_upload_size: from.max_upload_size.0,
        pending_for: from.pending_uploads_expire_after.0,
        most_pending: from.max_pending_uploads,
        quota: from
            .quota
            .iter()
            .map(|one| (one.size.0, one.per.0))
            .collect(),
        quota_info_uri: from.quota_info_uri.as_deref().map(Into::into),
        strip: from.strip_metadata,
        any_thumbnail: from.any_thumbnail_size,
        still: video_still(&from.video_still),
        remote: RemoteConfig {
            max_size: from.max_remote_size.0,
            cache_size: from.remote_cache_size.0,
            cache_age: Some(from.remote_cache_age.0),
            blocked_servers: from.blocked_servers.clone(),
            ..RemoteConfig::default()
        },
        forbidden_hashes: from.forbidden_hashes.clone(),
        scanner: from.scanner.as_ref().map(scanner),
        grace: from.delete_after.0,
        ..MediaConfig::new(config.server.name.clone(), "")
    })
}

fn s3(from: &MediaStore, data_dir: &Path) -> S3Config {
    let secret = |secret: &Option<Secret>| {
        let secret = secret.as_ref().map(Secret::expose);
        secret.unwrap_or_default().to_owned()
    };
    S3Config {
        endpoint: from.endpoint.clone(),
        public_endpoint: from.public_endpoint.clone(),
        region: from.region.as_deref().unwrap_or(REGION).to_owned(),
        bucket: from.bucket.clone(),
        prefix: from.prefix.clone(),
        access_key: secret(&from.access_key),
        secret_key: secret(&from.secret_key),
        path_style: from.path_style.unwrap_or(true),
        spool: from.folder(data_dir),
        patience: S3Config::PATIENCE,
        part_size: S3Config::PART_SIZE,
    }
}

/// Keys from a file: a line for each, its name and 64 hexadecimal digits. The first one is for new files.
fn seal_keys(path: &Path) -> anyhow::Result<Vec<SealKey>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("media.key_file {shown} can't be read"))?;
    let mut keys: Vec<SealKey> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split_once(char::is_whitespace);
        let key = key.and_then(|(id, digits)| SealKey::of_hex(id, digits.trim()));
        let key = key.with_context(|| {
            format!("{shown}:{}: write a name and 64 hexadecimal digits, such as those of `openssl rand -hex 32`", number + 1)
        })?;
        if keys.iter().any(|other| other.id == key.id) {
            anyhow::bail!("{shown}:{}: the name is used twice", number + 1);
        }
        keys.push(key);
    }
    // Without any, files would lie there as they came although they are not to.
    if keys.is_empty() {
        anyhow::bail!("media.key_file {shown} holds no key");
    }
    Ok(keys)
}

/// What takes stills of films, if anything does.
fn video_still(command: &[String]) -> Option<StillConfig> {
    (!command.is_empty()).then(|| StillConfig::new(command.to_owned()))
}

fn scanner(from: &Scanner) -> ScannerConfig {
    match from {
        Scanner::Http(address) => ScannerConfig::Http(address.clone()),
        Scanner::Clamd(path) if path.starts_with('/') => ScannerConfig::ClamdUnix(path.into()),
        Scanner::Clamd(address) => ScannerConfig::ClamdTcp(address.clone()),
    }
}

/// The settings of previews of links.
pub(crate) fn previews(config: &Config) -> PreviewConfig {
    let from = &config.url_previews;
    let limits = &config.rate_limits;
    // A server that talks to no other connects to nothing.
    let ranges = Some(&from.allowed_ranges).filter(|_| config.federation.enabled);
    PreviewConfig {
        allowed_ranges: ranges.cloned().unwrap_or_default(),
        enabled: from.enabled,
        allowed_hosts: from.allowed_hosts.clone(),
        denied_hosts: from.denied_hosts.clone(),
        page_size: usize::try_from(from.max_page_size.0).unwrap_or(usize::MAX),
        picture_size: from.max_picture_size.0,
        pictures_size: from.picture_cache_size.0,
        timeout: from.timeout.0,
        keep: from.keep.0,
        rate: limits.enabled.then_some(rhizome_edge::limits::Rate {
            per_second: limits.url_preview.per_second,
            burst: limits.url_preview.burst,
        }),
    }
}

/// What decodes pictures.
pub(crate) fn decoders(config: &Config) -> Decoders {
    if config.media.decode_in_process {
        Decoders::in_process()
    } else {
        Decoders::new(rhizome_decoder::Settings::default())
    }
}

fn policy(policy: &RoomPolicy) -> client_api::Policy {
    let levels = serde_json::to_value(&policy.power_levels).unwrap_or_default();
    client_api::Policy {
        join_rule: policy.join_rule.map(|rule| match rule {
            Entrance::Public => client_api::Entrance::Public,
            Entrance::Invite => client_api::Entrance::Invite,
            Entrance::Knock => client_api::Entrance::Knock,
        }),
        power_levels: levels.as_object().cloned().unwrap_or_default(),
        ..client_api::Policy::default()
    }
}

/// The settings of federation, certificate authorities read. `old_verify_keys`: all that this server signed with before.
pub(crate) fn federation(
    config: &Config,
    old_verify_keys: Vec<OldVerifyKey>,
) -> anyhow::Result<FederationConfig> {
    let from = &config.federation;
    let mut extra_ca_pem = Vec::new();
    for path in &from.extra_ca_certificates {
        let pem = std::fs::read_to_string(path)
            .with_context(|| format!("the CA certificate {} can't be read", path.display()))?;
        extra_ca_pem.push(pem);
    }
    // Switched off: nothing is reachable, whoever asks for it.
    let everything = || {
        ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|range| range.parse().ok())
            .collect()
    };
    let (allowed_ranges, denied_ranges) = if from.enabled {
        (from.allowed_ranges.clone(), from.denied_ranges.clone())
    } else {
        (Vec::new(), everything())
    };
    let limits = &config.rate_limits;
    let rate = |rate: Rate| rhizome_edge::limits::Rate {
        per_second: rate.per_second,
        burst: rate.burst,
    };
    let rate_limits = rhizome_federation::RateLimits {
        enabled: limits.enabled,
        transaction: rate(limits.federation_transaction),
        state: rate(limits.federation_state),
        media: rate(limits.federation_media),
        other: rate(limits.federation_other),
        unsigned: rate(limits.federation_unsigned),
        keys: rate(limits.federation_keys),
        work: rate(limits.federation_work),
    };
    Ok(FederationConfig {
        rate_limits,
        max_body_bytes: usize::try_from(config.http.max_request_size.0)
            .map_or(LARGEST, |most| most.min(LARGEST)),
        extra_ca_pem,
        enabled: from.enabled,
        servers: servers(from),
        invites: Some(rate(config.rate_limits.federation_invite))
            .filter(|_| config.rate_limits.enabled),
        allowed_ranges,
        denied_ranges,
        trusted_key_servers: from
            .trusted_key_servers
            .iter()
            .filter(|server| **server != config.server.name)
            .cloned()
            .collect(),
        old_verify_keys,
        request_timeout: from.request_timeout.0,
        retry_min: from.retry_min.0,
        retry_max: from.retry_max.0,
        tell_device_names: from.tell_device_names,
        partial_joins: from.partial_joins,
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..FederationConfig::default()
    })
}

/// Which other servers are spoken with.
fn servers(from: &Federation) -> ServerRules {
    let (inbound, outbound) = (&from.inbound, &from.outbound);
    ServerRules {
        both: ServerLists::new(&from.allowed_servers, &from.denied_servers),
        inbound: ServerLists::new(&inbound.allowed_servers, &inbound.denied_servers),
        outbound: ServerLists::new(&outbound.allowed_servers, &outbound.denied_servers),
    }
}
