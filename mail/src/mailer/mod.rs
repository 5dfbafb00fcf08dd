//! Hands mails to the operator's mail server (RFC 5321).

mod config;
mod connect;
mod failure;
mod pool;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::content::Mail;
use crate::error::{ConfigError, MailError};
use crate::{clean, message};
pub use config::{MailConfig, Password, TlsMode};
use connect::Connector;
use failure::Stage;
use pool::Pool;

/// The most characters of the name that mails come from.
const MAX_NAME: usize = 100;

/// Sends mails. Clones share connections.
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    connector: Connector,
    pool: Arc<Pool>,
    places: Semaphore,
    from: Mailbox,
    timeout: Duration,
}

impl Mailer {
    /// Reads the settings. It doesn't connect yet.
    pub fn new(config: &MailConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let name = clean::line(&config.from_name, MAX_NAME);
        let name = (!name.is_empty()).then_some(name);
        Ok(Self(Arc::new(Inner {
            connector: Connector::new(config)?,
            pool: Pool::new(config.idle),
            places: Semaphore::new(config.at_once),
            from: Mailbox::new(name, config.from.for_smtp()),
            timeout: config.timeout,
        })))
    }

    /// Sends a mail; after `Ok` the mail server has taken it. It waits while too many go at once.
    pub async fn send(&self, mail: Mail) -> Result<(), MailError> {
        let inner = &*self.0;
        let bytes = message::write(&mail, &inner.from)?;
        // It is never closed.
        let _place = inner.places.acquire().await;
        let sent = timeout(inner.timeout, inner.deliver(&mail, &bytes)).await;
        let sent = sent.unwrap_or_else(|_| Err(failure::late()));
        if let Err(error) = &sent {
            debug!(%error, "a mail didn't go out");
        }
        sent
    }

    /// Whether the mail server lets us in. For a look at start, and for operators who want to know.
    pub async fn check(&self) -> Result<(), MailError> {
        let inner = &*self.0;
        let _place = inner.places.acquire().await;
        let connected = timeout(inner.timeout, inner.connector.connect()).await;
        let connection = connected.unwrap_or_else(|_| Err(failure::late()))?;
        pool::close(connection).await;
        Ok(())
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailer({})", self.0.from)
    }
}

impl Inner {
    /// Who drops this half-way drops the connection with it.
    async fn deliver(&self, mail: &Mail, bytes: &[u8]) -> Result<(), MailError> {
        let mut connection = match self.pool.take().await {
            Some(connection) => connection,
            None => self.connector.connect().await?,
        };
        let handed_over = self.hand_over(&mut connection, mail, bytes).await;
        let Err((error, stage)) = handed_over else {
            self.pool.keep(connection);
            return Ok(());
        };
        if failure::is_answer(&error) {
            self.pool.keep(connection);
        }
        Err(failure::read(&error, stage, Some(mail.to.as_str())))
    }

    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &Mail,
        bytes: &[u8],
    ) -> Result<(), (Error, Stage)> {
        let ours = |error| (error, Stage::Ours);
        let its = |error| (error, Stage::Its);
        let from = MailFrom::new(Some(self.from.email.clone()), vec![]);
        connection.command(from).await.map_err(ours)?;
        let to = Rcpt::new(mail.to.for_smtp(), vec![]);
        connection.command(to).await.map_err(its)?;
        connection.command(Data).await.map_err(its)?;
        connection.message(bytes).await.map_err(its)?;
        Ok(())
    }
}
