//! Mails about missed messages: what it takes to send them, and the links in them.

use std::hash::Hash;

use rhizome_edge::limits::{Buckets, Rate};
use rhizome_mail::{
    Address, Confirm, Content, Digest, Link, LinkTemplate, Mail, MailError, Mailer, Subscription,
    TemplateError, Templates, Throttle, UnsubscribeKey,
};
use rhizome_storage::PusherKey;
use ruma::{OwnedServerName, UserId};

use crate::MatrixError;

/// Where links in mails lead to, after the client API's address.
pub(crate) const PLACE: &str = "_matrix/client/unstable/org.rhizome.mail";
/// How often a user may have an address asked whether it wants mails.
const BY_USER: Rate = Rate {
    per_second: 1.0 / (4.0 * 3600.0),
    burst: 5,
};
/// How often an address is asked, whoever says so: it may be a stranger's.
const OF_ADDRESS: Rate = Rate {
    per_second: 1.0 / (24.0 * 3600.0),
    burst: 3,
};

/// What it takes to send mails.
#[derive(Debug)]
pub struct Mailing {
    server: OwnedServerName,
    base: String,
    mailer: Mailer,
    templates: Templates,
    key: UnsubscribeKey,
    throttle: Throttle,
    links: LinkTemplate,
    asked: Buckets,
}

/// Why a mail didn't go out, or wasn't made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsent {
    /// By the mail server.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// It can't be written.
    #[error("the mail can't be written: {0}")]
    Written(#[from] TemplateError),
    /// Its link is too long for a mail.
    #[error("the mail's link can't be made: {0}")]
    Link(#[from] rhizome_mail::LinkError),
}

impl Mailing {
    /// Of a server of this name, whose client API is at `base`, which ends without a slash.
    pub fn new(
        server: OwnedServerName,
        base: String,
        mailer: Mailer,
        templates: Templates,
        key: UnsubscribeKey,
    ) -> Self {
        Self {
            server,
            base,
            mailer,
            templates,
            key,
            throttle: Throttle::default(),
            links: LinkTemplate::default(),
            asked: Buckets::default(),
        }
    }

    /// With how long users are left alone.
    #[must_use]
    pub fn with_throttle(mut self, throttle: Throttle) -> Self {
        self.throttle = throttle;
        self
    }

    /// With where rooms and events are shown.
    #[must_use]
    pub fn with_links(mut self, links: LinkTemplate) -> Self {
        self.links = links;
        self
    }

    /// Whether the mail server lets us in.
    ///
    /// # Errors
    /// Why it doesn't.
    pub async fn check(&self) -> Result<(), MailError> {
        self.mailer.check().await
    }

    pub(crate) fn server(&self) -> &OwnedServerName {
        &self.server
    }

    pub(crate) fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    pub(crate) fn links(&self) -> &LinkTemplate {
        &self.links
    }

    /// Takes one from what a user, and an address, may be asked.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED`
    pub(super) fn may_ask(
        &self,
        user: &UserId,
        address: &Address,
        now_ms: u64,
    ) -> Result<(), MatrixError> {
        let take = |rate, who: (&str, &str)| self.take(rate, who, now_ms);
        take(BY_USER, ("user", user.as_str()))?;
        let address = address.as_str().to_lowercase();
        take(OF_ADDRESS, ("address", &address))
    }

    fn take(&self, rate: Rate, who: impl Hash, now_ms: u64) -> Result<(), MatrixError> {
        let taken = self.asked.take(rate, who, 1, now_ms);
        taken.map_err(MatrixError::limit_exceeded)
    }

    /// By which there are no more mails.
    pub(crate) fn stops(&self, user: &UserId, pusher: &PusherKey) -> Result<Link, Unsent> {
        Ok(self.link("stop", &self.token(user, pusher))?)
    }

    /// Asks an address whether it wants mails.
    pub(crate) async fn ask(
        &self,
        user: &UserId,
        pusher: &PusherKey,
        (to, ack): (Address, &str),
    ) -> Result<(), Unsent> {
        let token = format!("{}/{ack}", self.token(user, pusher));
        let content = self.templates.confirm(&Confirm {
            server: self.server.to_string(),
            user: user.to_string(),
            link: self.link("start", &token)?,
        })?;
        Ok(self.mailer.send(Mail::new(to, content)).await?)
    }

    /// Tells an address what was missed.
    pub(crate) async fn tell(&self, to: Address, digest: Digest) -> Result<(), Unsent> {
        let content: Content = self.templates.digest(&digest)?;
        let mail = Mail::list(to, content, digest.unsubscribe);
        Ok(self.mailer.send(mail).await?)
    }

    /// Whose mails a token of ours is about.
    pub(super) fn subscription(&self, token: &str) -> Option<Subscription> {
        self.key.check(token)
    }

    fn token(&self, user: &UserId, pusher: &PusherKey) -> String {
        self.key.sign(&Subscription {
            user: user.to_string(),
            app_id: pusher.app_id.clone(),
            pushkey: pusher.pushkey.clone(),
        })
    }

    pub(super) fn templates(&self) -> &Templates {
        &self.templates
    }

    pub(super) async fn send(&self, mail: Mail) -> Result<(), Unsent> {
        Ok(self.mailer.send(mail).await?)
    }

    pub(super) fn link(&self, what: &str, token: &str) -> Result<Link, rhizome_mail::LinkError> {
        Link::parse(&format!("{}/{PLACE}/{what}/{token}", self.base))
    }
}
