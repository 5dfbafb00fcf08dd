//! A homeserver for a demonstration or a test: everything it needs lies in one directory and is gone
//! with it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::{Api, Config, Listener, RegistrationMode, Secret, Span, Tls, server_name};
use crate::server::{self, Running};

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

    /// The certificate for `localhost` with its key.
    pub fn tls(&self) -> Tls {
        Tls {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

/// A homeserver named `localhost:PORT` that other sites with the same authority can reach.
pub struct Site {
    config: Config,
    running: Option<Running>,
}

impl Site {
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
        change: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        let mut config = config(authority, dir, database)?;
        change(&mut config);
        let mut site = Self {
            config,
            running: None,
        };
        site.start_again().await?;
        Ok(site)
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        self.config.server.name.as_str()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The base URL of its client API.
    pub fn base(&self) -> String {
        format!("http://{}", self.config.listeners[1].address)
    }

    /// The server, while it runs.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// Stops it: its listeners close, its database too.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// Starts it after [`Site::stop`], at the same addresses.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let running = server::start(self.config.clone()).await?;
        self.running = Some(running);
        Ok(())
    }
}

fn config(authority: &Authority, dir: &Path, database: Option<String>) -> anyhow::Result<Config> {
    let (federation, client) = free_addresses()?;
    let mut config = Config::default();
    let name = format!("localhost:{}", federation.port());
    config.server.name = server_name(&name).map_err(anyhow::Error::msg)?;
    dir.clone_into(&mut config.server.data_dir);
    config.database.url = database.map(Secret::new);
    config.listeners = vec![
        Listener {
            address: federation,
            apis: vec![Api::Federation],
            tls: Some(authority.tls()),
        },
        Listener {
            address: client,
            apis: vec![Api::Client, Api::Admin, Api::WellKnown],
            tls: None,
        },
    ];
    config.http.drain_timeout = Span::secs(5);
    config.registration.mode = RegistrationMode::Open;
    config
        .registration
        .strangers_may_register_and_i_accept_the_abuse = true;
    config.rate_limits.enabled = false;
    config.federation.extra_ca_certificates = vec![authority.ca()];
    config.federation.allowed_ranges = vec!["127.0.0.0/8".parse()?, "::1/128".parse()?];
    config.federation.trusted_key_servers = Vec::new();
    config.federation.request_timeout = Span::secs(10);
    config.federation.retry_min = Span::millis(200);
    config.federation.retry_max = Span::secs(1);
    Ok(config)
}

/// Two addresses on this machine that nobody listens on. The federation port is part of the server's
/// name, so it must be known before the start.
fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let (first, second) = (TcpListener::bind(any)?, TcpListener::bind(any)?);
    Ok((first.local_addr()?, second.local_addr()?))
}
