//! The ways on which notifications go out, with the operator's keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rhizome_client_api::{self as client_api, Channels};
use rhizome_federation::outbound::Reach;
use rhizome_push::{Apns, ApnsConfig, Fcm, Schemes, UnifiedPush, WebPush};

use crate::config::{self, Config};
use crate::tasks::Tasks;

use super::{mailing::mailing, secret_file};

/// What apps show of a notification that says nothing: the text that they have for this name.
const LOC_KEY: &str = "NOTIFICATION";

/// The settings of the client API with all ways that are configured.
pub(crate) fn with_ways(
    client: client_api::ClientConfig,
    config: &Config,
) -> anyhow::Result<client_api::ClientConfig> {
    Ok(client_api::ClientConfig {
        channels: channels(config)?,
        mailing: mailing(config)?,
        quiet_while_active: config.push.quiet_while_active.map(|span| span.0),
        ..client
    })
}

fn channels(config: &Config) -> anyhow::Result<Channels> {
    let from = &config.push;
    let schemes = if from.allow_http {
        Schemes::Any
    } else {
        Schemes::Https
    };
    let mut channels = Channels::new(schemes);
    if from.unified_push {
        let own = format!("{}/_matrix/push/v1/notify", config.client_base());
        let own = own.parse().context("well_known.client is no address")?;
        channels = channels.with_unified_push(UnifiedPush::new(own, schemes));
    }
    if let Some(web) = &from.web {
        let path = web.key_path.clone();
        let path = path.unwrap_or_else(|| config.server.data_dir.join("web-push.key"));
        let key = secret_file::load_or_create(&path, || {
            WebPush::generate_key().context("no key can be made")
        })?;
        let channel = WebPush::new(&key, &web.contact, schemes)
            .with_context(|| format!("push.web can't be used with {}", path.display()))?;
        channels = channels.with_web_push(channel);
    }
    for one in &from.apns {
        channels = channels.with_app("apns", one.app_id.clone(), Arc::new(apns(one)?));
    }
    for one in &from.fcm {
        let path = &one.account_path;
        let account = read(path)?;
        let channel = Fcm::new(&account, Fcm::ENDPOINT)
            .with_context(|| format!("push.fcm can't be used with {}", path.display()))?;
        channels = channels.with_app("fcm", one.app_id.clone(), Arc::new(channel));
    }
    Ok(channels)
}

/// Tells users' apps of notifications, if they are to be told.
pub(crate) fn notify(tasks: &Tasks, app: client_api::App, config: &Config) {
    if !config.push.enabled {
        return;
    }
    let reach = Reach {
        denied: config.federation.denied_ranges.clone(),
        allowed: config.push.allowed_ranges.clone(),
    };
    tasks.supervise("notifications", move |stop| {
        let (app, reach) = (app.clone(), reach.clone());
        async move {
            client_api::notify::run(&app, &reach, &stop).await;
            Ok(())
        }
    });
}

fn apns(from: &config::Apns) -> anyhow::Result<Apns> {
    let topic = from.topic.clone().unwrap_or_else(|| from.app_id.clone());
    let endpoint = if from.sandbox {
        ApnsConfig::SANDBOX
    } else {
        ApnsConfig::PRODUCTION
    };
    let config = ApnsConfig {
        key: read(&from.key_path)?,
        key_id: from.key_id.clone(),
        team_id: from.team_id.clone(),
        topics: BTreeMap::from([(from.app_id.clone(), topic)]),
        endpoint: endpoint.to_owned(),
        loc_key: LOC_KEY.to_owned(),
    };
    Apns::new(config)
        .with_context(|| format!("push.apns can't be used with {}", from.key_path.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} can't be read", path.display()))
}
