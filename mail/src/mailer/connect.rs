//! A connection to the mail server: encryption and login.

use std::io;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::config::{MailConfig, TlsMode};
use super::failure::{self, Stage};
use super::stream::LineByLine;
use crate::error::{ConfigError, MailError};

/// The ways to log in that are known.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// Where the mail server is and who we are there.
pub(super) struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsMode, TlsParameters)>,
    login: Option<Credentials>,
    hello: ClientId,
    /// How long one of several addresses of the mail server may take to answer.
    per_address: Duration,
}

impl Connector {
    pub(super) fn new(config: &MailConfig) -> Result<Self, ConfigError> {
        let tls = match config.tls {
            TlsMode::None => None,
            mode => Some((mode, tls(config)?)),
        };
        let login = config.login()?;
        Ok(Self {
            host: config.host.clone(),
            port: config.port(),
            tls,
            login: login
                .map(|(user, password)| Credentials::new(user, password.expose().to_owned())),
            hello: ClientId::Domain(config.from.domain().to_owned()),
            per_address: config.timeout / 3,
        })
    }

    /// A new connection, ready for mails.
    pub(super) async fn connect(&self) -> Result<AsyncSmtpConnection, MailError> {
        let failed = |error| failure::read(&error, Stage::Ours, None);
        let mut connection = match &self.tls {
            None => self.plain().await?,
            Some((TlsMode::Implicit, tls)) => {
                let at = (self.host.as_str(), self.port);
                let (most, tls) = (Some(self.per_address), Some(tls.clone()));
                let connected =
                    AsyncSmtpConnection::connect_tokio1(at, most, &self.hello, tls, None);
                connected.await.map_err(failed)?
            }
            Some((_, tls)) => {
                let mut connection = self.plain().await?;
                let secured = connection.starttls(tls.clone(), &self.hello).await;
                secured.map_err(failed)?;
                connection
            }
        };
        if let Some(login) = &self.login {
            let logged_in = connection.auth(&MECHANISMS, login).await;
            logged_in.map_err(failed)?;
        }
        Ok(connection)
    }

    /// A connection that isn't encrypted yet.
    async fn plain(&self) -> Result<AsyncSmtpConnection, MailError> {
        let stream = self.tcp().await.map_err(|error| MailError::Temporary {
            code: None,
            why: format!("the mail server can't be reached: {error}"),
        })?;
        let stream = Box::new(LineByLine(stream));
        let connected = AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await;
        connected.map_err(|error| failure::read(&error, Stage::Ours, None))
    }

    /// The first of the mail server's addresses that answers.
    async fn tcp(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for address in lookup_host((self.host.as_str(), self.port)).await? {
            match timeout(self.per_address, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(late) => last = late.into(),
            }
        }
        Err(last)
    }
}

fn tls(config: &MailConfig) -> Result<TlsParameters, ConfigError> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(file) = &config.ca_file {
        let wrong = |error: &dyn std::fmt::Display| {
            let why = format!("holds no certificates, {}: {error}", file.display());
            ConfigError::new("ca_file", why)
        };
        let pem = std::fs::read(file).map_err(|error| wrong(&error))?;
        let authority = Certificate::from_pem(&pem).map_err(|error| wrong(&error))?;
        builder = builder.add_root_certificate(authority);
    }
    let built = builder.build_rustls();
    built.map_err(|error| ConfigError::new("tls", format!("can't be set up: {error}")))
}
