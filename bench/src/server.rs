//! The server that is driven: an address on this machine, and how accounts are made there.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, bail, ensure};

/// A homeserver on loopback. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where its client API listens, without TLS.
    pub address: SocketAddr,
    /// The secret of `/_synapse/admin/v1/register`; without one registration must be open.
    pub secret: Option<Arc<str>>,
    /// What JSON Web Tokens are signed with there, if who logs in with one is made: hashing passwords takes longest of
    /// making accounts.
    pub jwt_secret: Option<Arc<str>>,
    run: Arc<str>,
    count: Arc<AtomicU64>,
}

impl Server {
    /// The server at `url`. `run` is part of every name made there, so that a server can be driven again.
    pub fn new(url: &str, secret: Option<&str>, run: &str) -> anyhow::Result<Self> {
        Ok(Self {
            address: loopback(url)?,
            secret: secret.map(Arc::from),
            jwt_secret: None,
            run: Arc::from(run),
            count: Arc::new(AtomicU64::new(0)),
        })
    }

    /// The same, where accounts are made by tokens, without passwords.
    #[must_use]
    pub fn with_jwt(self, secret: Option<&str>) -> Self {
        let jwt_secret = secret.map(Arc::from);
        Self { jwt_secret, ..self }
    }

    /// A word that nothing on this server has been named with.
    pub fn fresh(&self, kind: &str) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{kind}{}-{number}", self.run)
    }
}

/// The address that `url` names, which must be one of this machine's own.
fn loopback(url: &str) -> anyhow::Result<SocketAddr> {
    let Some(authority) = url.strip_prefix("http://") else {
        bail!("{url}: write http://ADDRESS:PORT; the client API is driven without TLS");
    };
    let authority = authority.trim_end_matches('/');
    let address = match authority.strip_prefix("localhost:") {
        Some(port) => {
            let port = port.parse().with_context(|| format!("{url}: no port"))?;
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
        }
        None => authority
            .parse()
            .with_context(|| format!("{url}: write http://ADDRESS:PORT"))?,
    };
    ensure!(
        address.ip().is_loopback(),
        "{url}: load goes to loopback addresses only"
    );
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_driven() {
        for url in [
            "http://127.0.0.1:8008",
            "http://[::1]:8008/",
            "http://localhost:1",
        ] {
            assert!(loopback(url).is_ok(), "{url}");
        }
        for url in [
            "http://192.0.2.1:8008",
            "http://0.0.0.0:8008",
            "http://example.org:8008",
            "http://localhost.example.org:80",
            "https://127.0.0.1:8448",
            "http://127.0.0.1",
            "127.0.0.1:8008",
        ] {
            assert!(loopback(url).is_err(), "{url}");
        }
    }

    #[test]
    fn names_are_made_once() {
        let server = Server::new("http://127.0.0.1:1", None, "x").unwrap();
        assert_ne!(server.fresh("u"), server.clone().fresh("u"));
    }
}
