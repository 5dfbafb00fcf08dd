//! `[url_previews]`: previews of links that users see in messages.

use ipnet::IpNet;
use serde::Deserialize;

use super::Problems;
use super::units::{Size, Span};

/// Previews of links that users see in messages.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UrlPreviews {
    /// Whether there are any.
    pub enabled: bool,
    /// If set, only links to these hosts, and those below them, are visited.
    pub allowed_hosts: Vec<String>,
    /// Links to these hosts, and those below them, are never visited.
    pub denied_hosts: Vec<String>,
    /// Ranges that may be connected to although `federation.denied_ranges` has them.
    pub allowed_ranges: Vec<IpNet>,
    /// How much of a page is read.
    pub max_page_size: Size,
    /// The largest picture that is fetched for a preview.
    pub max_picture_size: Size,
    /// How much is kept of pictures of previews.
    pub picture_cache_size: Size,
    /// Time for a page, and time for its picture.
    pub timeout: Span,
    /// How long what was found is told without another look.
    pub keep: Span,
}

impl Default for UrlPreviews {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_hosts: Vec::new(),
            denied_hosts: Vec::new(),
            allowed_ranges: Vec::new(),
            max_page_size: Size::mib(1),
            max_picture_size: Size::mib(10),
            picture_cache_size: Size::mib(1 << 10),
            timeout: Span::secs(15),
            keep: Span::secs(3600),
        }
    }
}

impl UrlPreviews {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (key, hosts) in [
            ("allowed_hosts", &self.allowed_hosts),
            ("denied_hosts", &self.denied_hosts),
        ] {
            for (index, host) in hosts.iter().enumerate() {
                let fits =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
                if host.is_empty() || host.starts_with('.') || !host.chars().all(fits) {
                    problems.add(
                        format!("url_previews.{key}.{index}"),
                        format!("`{host}` is no host's name"),
                        "write it as in `example.org`: in small letters, without https://, * or a port; those below it are meant, too",
                    );
                }
            }
        }
    }
}
