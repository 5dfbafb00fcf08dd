//! `[metrics]`: figures for who watches over the server.

use std::net::SocketAddr;

use serde::Deserialize;
use serde::de::Deserializer;

use super::Problems;
use super::listeners::{Listener, de_address};

/// Figures for who watches over the server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// IP address and port at which Prometheus finds `/metrics`; `None`: nowhere, and nothing is measured for it.
    #[serde(deserialize_with = "de_some_address")]
    pub listen: Option<SocketAddr>,
}

fn de_some_address<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SocketAddr>, D::Error> {
    de_address(d).map(Some)
}

impl Metrics {
    pub(super) fn check(&self, listeners: &[Listener], problems: &mut Problems) {
        let Some(address) = self.listen else {
            return;
        };
        let mut others = listeners.iter().map(|listener| listener.address);
        if address.port() != 0 && others.any(|other| other == address) {
            problems.add(
                "metrics.listen",
                format!("the address {address} is that of a listener, which is for clients or other servers"),
                "give metrics an address of their own, such as \"127.0.0.1:9108\"",
            );
        }
    }
}
