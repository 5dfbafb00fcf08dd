//! What can be set about previews.

use std::time::Duration;

use ipnet::IpNet;
use rhizome_edge::limits::Rate;

/// Settings of previews.
#[derive(Debug, Clone)]
pub struct PreviewConfig {
    /// Whether there are any.
    pub enabled: bool,
    /// If there are any here, only links to these hosts, and those below them, are visited.
    pub allowed_hosts: Vec<String>,
    /// Links to these hosts, and those below them, are never visited.
    pub denied_hosts: Vec<String>,
    /// Ranges that may be connected to although they aren't public.
    pub allowed_ranges: Vec<IpNet>,
    /// The most bytes of a page that are read.
    pub page_size: usize,
    /// The most bytes of a picture.
    pub picture_size: u64,
    /// How many bytes pictures of previews may have together.
    pub pictures_size: u64,
    /// Time for a page, and time for a picture.
    pub timeout: Duration,
    /// How long what was found is told without another look.
    pub keep: Duration,
    /// How many links that aren't known a user may have visited; `None`: as many as they like.
    pub rate: Option<Rate>,
}

impl Default for PreviewConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            allowed_hosts: Vec::new(),
            denied_hosts: Vec::new(),
            allowed_ranges: Vec::new(),
            page_size: 1 << 20,
            picture_size: 10 << 20,
            pictures_size: 1 << 30,
            timeout: Duration::from_secs(15),
            keep: Duration::from_hours(1),
            rate: Some(Rate {
                per_second: 1.0,
                burst: 50,
            }),
        }
    }
}
