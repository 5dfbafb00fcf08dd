//! Mail that the server sends: about missed messages ([`Digest`]), and letters of a few lines ([`Confirm`], [`Verify`],
//! [`Reset`], [`Known`], [`Approved`]).
//!
//! Nothing here knows the database or HTTP. The caller gathers what a mail tells, keeps the time, and remembers who got
//! what; here it becomes text, and goes to the operator's mail server.
//!
//! ```text
//! Address::parse(text)                          → is this an address that mail goes to? (errors are 400s for its client)
//! Throttle::next(oldest_unread, sent, now)      → when a user's next digest may go
//! UnsubscribeKey::sign(subscription)            → a token for its link; check(token) knows it again
//! Templates::digest(digest)                     → Content: subject, text, HTML
//! Mailer::send(mail)                            → the mail server has it, or why it hasn't
//! ```
//!
//! # The caller's part
//!
//! * **Who gets mails.** Only addresses whose owners said so: a [`Confirm`] goes first, and its link is good for one user
//!   and one address. How many of them are sent is to be bounded, by user, by address and by who asks.
//! * **What is in a digest.** Messages that are unread, weren't in a mail yet, and that push rules make a notification of,
//!   in rooms that the user is in. Encrypted ones are [`Body::Encrypted`]. There may be more of everything than is told:
//!   [`MAX_ROOMS`], [`MAX_MESSAGES`], [`MAX_INVITES`] are, the rest is counted.
//! * **When.** After a mail, [`Sent::again`] is kept for its user, and forgotten once they read something.
//! * **What became of it.** After [`MailError::Temporary`] the mail comes again later, or is made anew then, as the next
//!   one of [`Throttle`]. After [`MailError::Permanent`] it doesn't; where `no_such_address` is set, the pusher goes.
//!   [`MailError::Config`] is for the operator, and nothing of the user's changes. Texts are for the log.
//! * **No more of them.** The link of [`Mail::list`] answers a `POST` whose body is `List-Unsubscribe=One-Click` without
//!   a login (RFC 8058), deletes the pusher that [`UnsubscribeKey::check`] names, and says the same whether there was
//!   one. A `GET` shows a page with a button, as mail scanners follow links. It has to be an `https` link.
//! * **Secrets.** The unsubscribe secret has at least 32 random bytes and is kept; with another one, links in old mails
//!   are dead.
//!
//! # Safe by construction
//!
//! Users choose names and texts, not headers, recipients or links. [`Address`] and [`Link`] are checked when they are
//! made; all that goes into headers becomes one line without control characters and marks of direction; bodies are
//! encoded, and what is put into HTML is escaped, whatever the operator's templates say. Letters may go to people who
//! never heard of us, so they name users by their ids alone.
//!
//! # Example
//!
//! ```
//! use std::time::SystemTime;
//! use rhizome_mail::{
//!     Address, Digest, Link, Mail, MailConfig, MailError, Mailer, Sent, Subscription, Templates, Throttle,
//!     UnsubscribeKey,
//! };
//!
//! # struct Error;
//! # impl<E: std::error::Error> From<E> for Error { fn from(_: E) -> Self { Error } }
//! # fn unread(_: &Subscription, unsubscribe: Link) -> Digest { unreachable!("{unsubscribe:?}") }
//! # fn at_start(secret: &[u8]) -> Result<(Mailer, Templates, UnsubscribeKey), Error> {
//! let mut config = MailConfig::new("mail.example.org", Address::parse("matrix@example.org")?);
//! config.from_name = "Example".to_owned();
//! let mailer = Mailer::new(&config)?;
//! let templates = Templates::load(None)?;
//! let key = UnsubscribeKey::new(secret)?;
//! # Ok((mailer, templates, key)) }
//!
//! # async fn tell(
//! #     mailer: &Mailer, templates: &Templates, key: &UnsubscribeKey, of: &Subscription,
//! #     oldest: SystemTime, sent: Option<Sent>,
//! # ) -> Result<Option<Sent>, Error> {
//! let now = SystemTime::now();
//! if Throttle::default().next(oldest, sent, now) > now {
//!     return Ok(sent); // later
//! }
//! let link = format!("https://example.org/unsubscribe?token={}", key.sign(of));
//! let digest = unread(of, Link::parse(&link)?);
//! let content = templates.digest(&digest)?;
//! let mail = Mail::list(Address::parse(&of.pushkey)?, content, digest.unsubscribe);
//! match mailer.send(mail).await {
//!     Ok(()) => Ok(Some(Sent::again(sent, now))),
//!     Err(MailError::Permanent { no_such_address: true, .. }) => { /* delete the pusher */ Ok(None) }
//!     Err(error) => { /* log it, and try again later */ Err(error.into()) }
//! }
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod address;
mod clean;
mod content;
mod digest;
mod error;
mod letters;
mod link;
mod mailer;
mod message;
mod templates;
mod throttle;
mod unsubscribe;

pub use address::{Address, AddressError};
pub use content::{Content, Mail};
pub use digest::{
    Body, Digest, Invite, MAX_INVITES, MAX_MESSAGES, MAX_ROOMS, Message, Person, Room,
};
pub use error::{ConfigError, MailError, TemplateError};
pub use letters::{Approved, Confirm, Known, Reset, Verify};
pub use link::{Link, LinkError, LinkTemplate};
pub use mailer::{MailConfig, Mailer, Password, TlsMode};
pub use templates::Templates;
pub use throttle::{Sent, Throttle};
pub use unsubscribe::{Subscription, UnsubscribeKey};
