//! `[identity]`: e-mail addresses and telephone numbers of users.

use std::path::PathBuf;

use ruma::OwnedServerName;
use serde::Deserialize;

use super::units::Secret;
use super::{Problems, secrets::read_secret};

/// E-mail addresses and telephone numbers of users. Mails go out as `[mail]` says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Who sends text messages. Without it users have no telephone numbers.
    pub sms: Option<Sms>,
    /// The hosts where users may be sent on to from the page on which they confirm an address. Default: that
    /// of the well-known client.
    pub next_link_hosts: Option<Vec<String>>,
    /// Whether who asks for a code isn't told whether an account has the address.
    pub hide_known_addresses: bool,
    /// The identity servers that users may use. Default: any.
    pub servers: Option<Vec<OwnedServerName>>,
}

/// Who sends text messages.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sms {
    /// Where they are brought.
    pub url: String,
    /// A bearer token for it.
    pub token: Option<Secret>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
}

impl Identity {
    pub(super) fn read_secrets(&mut self, problems: &mut Problems) {
        if let Some(sms) = &mut self.sms {
            let file = sms.token_file.clone();
            read_secret(
                "identity.sms.token",
                &mut sms.token,
                file.as_deref(),
                problems,
            );
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let url = self.sms.as_ref().map(|sms| sms.url.as_str());
        if let Some(url) = url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            problems.add(
                "identity.sms",
                "its url is no web address",
                "write where text messages are brought, such as `https://sms.example.org/send`",
            );
        }
        let hosts = self.next_link_hosts.iter().flatten();
        for host in hosts.filter(|host| host.is_empty() || host.contains(['/', ':', '@'])) {
            problems.add(
                "identity.next_link_hosts",
                format!("`{host}` is no host"),
                "write hosts alone, such as `app.example.org`",
            );
        }
    }
}
