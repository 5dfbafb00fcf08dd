//! `[push]`: notifications to users' apps.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::Problems;
use super::units::Span;

/// Notifications to users' apps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Push {
    /// Whether anybody is notified.
    pub enabled: bool,
    /// Ranges that may be connected to although `federation.denied_ranges` has them, for gateways.
    pub allowed_ranges: Vec<IpNet>,
    /// Whether the addresses of gateways may begin with `http://`.
    pub allow_http: bool,
    /// Whether pushers may name this server as their gateway, and an endpoint of UnifiedPush as their key.
    pub unified_push: bool,
    /// Devices aren't told while their users are active on others, nor for so long after it. Default: always at once.
    pub quiet_while_active: Option<Span>,
    /// Web Push, to browsers and apps that take it.
    pub web: Option<WebPush>,
    /// Apple's service, for the operator's own apps.
    pub apns: Vec<Apns>,
    /// Google's service, for the operator's own apps.
    pub fcm: Vec<Fcm>,
}

/// Web Push.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebPush {
    /// By which push services reach the operator: `mailto:` or `https:`.
    pub contact: String,
    /// The key that subscriptions are bound to; it is made if it isn't there.
    pub key_path: Option<PathBuf>,
}

/// Apple's service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apns {
    /// The `app_id` of pushers.
    pub app_id: String,
    /// The app's bundle id, if it isn't the `app_id`.
    pub topic: Option<String>,
    /// The `.p8` file with the key.
    pub key_path: PathBuf,
    /// The key's id.
    pub key_id: String,
    /// The team's id.
    pub team_id: String,
    /// The service for apps in development.
    #[serde(default)]
    pub sandbox: bool,
}

/// Google's service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fcm {
    /// The `app_id` of pushers.
    pub app_id: String,
    /// The file with the service account's key.
    pub account_path: PathBuf,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_ranges: Vec::new(),
            allow_http: false,
            unified_push: true,
            quiet_while_active: None,
            web: None,
            apns: Vec::new(),
            fcm: Vec::new(),
        }
    }
}

impl Push {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(web) = &self.web
            && !web.contact.starts_with("mailto:")
            && !web.contact.starts_with("https://")
        {
            problems.add(
                "push.web.contact",
                format!(
                    "`{}` is neither an address for mail nor a page",
                    web.contact
                ),
                "write it as in `mailto:admin@example.org` or `https://example.org/contact`",
            );
        }
        let apps = self.apns.iter().map(|apns| &apns.app_id);
        let apps: Vec<&String> = apps.chain(self.fcm.iter().map(|fcm| &fcm.app_id)).collect();
        for (index, app) in apps.iter().enumerate() {
            if app.is_empty() || apps[..index].contains(app) {
                problems.add(
                    "push",
                    format!("the app `{app}` is empty or named twice"),
                    "each `app_id` of push.apns and push.fcm is one app's",
                );
            }
        }
    }
}
