//! A homeserver for a demonstration or a test: everything it needs lies in one directory and is gone
//! with it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A certificate authority that lives as long as its directory.
pub struct Authority {
    dir: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// Makes one, with a certificate for `localhost` and `127.0.0.1`, in `dir`.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Rhizome throwaway CA");
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);

        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
            anyhow::Ok(path)
        };
        write("ca.pem", authority.pem())?;
        Ok(Self {
            certificate: write("localhost.pem", leaf.pem())?,
            key: write("localhost.key", key.serialize_pem())?,
            dir: dir.to_owned(),
        })
    }

    /// The authority's own certificate, for those who shall trust it.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The certificate for `localhost`.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The certificate's key.
    pub fn key(&self) -> &Path {
        &self.key
    }
}

/// A homeserver that can run in this process.
pub trait Homeserver: Sized + Send {
    /// What it is started with.
    type Config: Clone + Send;

    /// The configuration of a server for this place: anybody may register, nothing is rationed, other
    /// servers on this machine may be asked, and what fails between servers is tried again soon.
    fn config(place: &Place) -> anyhow::Result<Self::Config>;

    /// Starts one; it listens when this returns.
    fn start(config: Self::Config) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Stops it: its listeners close, its database too.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// What a homeserver has for itself.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name: `localhost` and the port of `federation`.
    pub name: String,
    /// Where its files lie.
    pub dir: PathBuf,
    /// The URL of its database; `None` is SQLite in `dir`.
    pub database: Option<String>,
    /// Where other servers reach it, over TLS with `certificate`.
    pub federation: SocketAddr,
    /// Where clients reach it, in the clear.
    pub client: SocketAddr,
    /// A certificate for `localhost`.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Whose certificates it believes.
    pub ca: PathBuf,
}

/// A homeserver named `localhost:PORT` that other sites with the same authority can reach.
pub struct Site<H: Homeserver> {
    place: Place,
    config: H::Config,
    running: Option<H>,
}

impl<H: Homeserver> Site<H> {
    /// Starts one whose files lie in `dir`; `database` is a URL, or `None` for SQLite in `dir`.
    pub async fn start(
        authority: &Authority,
        dir: &Path,
        database: Option<String>,
    ) -> anyhow::Result<Self> {
        Self::start_with(authority, dir, database, |_| {}).await
    }

    /// The same with a chance to change the configuration.
    pub async fn start_with(
        authority: &Authority,
        dir: &Path,
        database: Option<String>,
        change: impl FnOnce(&mut H::Config),
    ) -> anyhow::Result<Self> {
        let (federation, client) = free_addresses()?;
        let place = Place {
            name: format!("localhost:{}", federation.port()),
            dir: dir.to_owned(),
            database,
            federation,
            client,
            certificate: authority.certificate.clone(),
            key: authority.key.clone(),
            ca: authority.ca(),
        };
        let mut config = H::config(&place)?;
        change(&mut config);
        let mut site = Self {
            place,
            config,
            running: None,
        };
        site.start_again().await?;
        Ok(site)
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Its configuration.
    pub fn config(&self) -> &H::Config {
        &self.config
    }

    /// The base URL of its client API.
    pub fn base(&self) -> String {
        format!("http://{}", self.place.client)
    }

    /// The server, while it runs.
    pub fn running(&self) -> Option<&H> {
        self.running.as_ref()
    }

    /// Stops it: its listeners close, its database too.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Starts it after [`Site::stop`], at the same addresses.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.running = Some(H::start(self.config.clone()).await?);
        Ok(())
    }
}

/// Two addresses on this machine that nobody listens on. The federation port is part of the server's
/// name, so it must be known before the start.
fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let (first, second) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
    Ok((first.local_addr()?, second.local_addr()?))
}
