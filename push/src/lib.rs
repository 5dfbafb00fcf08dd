//! How a notification is handed to those that show it: HTTP gateways, Web Push services, Apple's and Google's push
//! services.
//!
//! Nothing here does I/O or knows the time. A [`Channel`] makes requests ([`PushRequest`]) and says what their answers
//! mean ([`Outcome`]); the caller sends them, keeps the time, waits, and deletes pushers.
//!
//! ```text
//! Channel::check(&device)                             → is this a pusher that can be set? (errors are 400s for its client)
//! Channel::next(&notification, &device, detail, now)  → Step: the next request
//! Channel::read(&answer, &device, now)                → Reading: what its answer means
//! deliver(&channel, &notification, &device, now, send) → Outcome: all of it, for one notification and one device
//! Backoff::delay(failures, asked, seed)               → how long to wait before trying again
//! ```
//!
//! | channel | for pushers | set up by |
//! |---|---|---|
//! | [`Gateways`] | of kind `http`, whose `data.url` names a gateway | nothing |
//! | [`UnifiedPush`] | of kind `http`, whose `data.url` names this server; the pushkey is an endpoint | this server's address |
//! | [`WebPush`] | of kind `webpush` (MSC4174), whose `data.url` is a push resource | a key, which is to be kept, and a contact |
//! | [`Apns`] | of apps that the operator lists; the pushkey is a device's token | Apple's `.p8` key and its ids |
//! | [`Fcm`] | of the operator's apps; the pushkey is a registration | Google's service account |
//!
//! # The caller's part
//!
//! * **Outcomes.** After [`Outcome::Accepted`] and [`Outcome::Dropped`] the notification is done with. After
//!   [`Outcome::Rejected`], too, and the pushers with these pushkeys, of the same app and user, are deleted. After
//!   [`Outcome::Again`] the same notification comes again after [`Backoff::delay`], `after` being what the other side
//!   asked for, until [`Backoff::gives_up`]. Texts are for the log: they hold nothing that others may not read.
//! * **Sending.** Redirects aren't followed, no header is added but what the connection needs, no cookies are kept.
//!   Requests that are [`NamedBy::User`] go by the egress rules, and those that these forbid are [`SendError::Refused`];
//!   whatever else goes wrong is [`SendError::Failed`]. An answer is waited for during [`ANSWER_TIME`], and read up to
//!   [`ANSWER_BODY`]; what is beyond is cut off. Apple's service speaks HTTP/2 alone.
//! * **Channels** hold tokens and are shared by all who send: they lock for moments. Each is made once.
//! * **Counts alone** are a notification without an event ([`Notification::badge`]).
//! * **Web Push** has its pushers say that they are there: [`WebPush::activation`] is sent and read as any other
//!   ([`Channel::read`]), tokens and their expiry are the caller's. [`WebPush::public_key`] is for the capability.
//!
//! # What goes out
//!
//! Gateways get what the Push Gateway API has, or ids and counts where `data.format` is `event_id_only`. The others never
//! get anything of an encrypted event but its ids, counts and priority. Web Push is encrypted for its subscriber, so it has
//! what a gateway would get of the rest. Apple and Google read what they carry, so they get names and texts only
//! where the pusher's data says so: `"org.rhizome.show": "names"` or `"text"`. `data.default_payload` is in every
//! message, for Google the strings of it. What is too large is left out step by step ([`Detail`]): content, names, what
//! the pusher adds.
//!
//! ```
//! use std::time::SystemTime;
//! use rhizome_push::{Backoff, Channel, Device, Notification, Outcome, PushAnswer, PushRequest, SendError, deliver};
//!
//! async fn send(request: PushRequest) -> Result<PushAnswer, SendError> {
//! #   Err(SendError::Failed(format!("no network for {request:?}"))) /*
//!     …
//! #   */
//! }
//!
//! # async fn notify(channel: &dyn Channel, notification: &Notification, device: &Device, failures: u32) {
//! match deliver(channel, notification, device, SystemTime::now, send).await {
//!     Outcome::Accepted | Outcome::Dropped { .. } => { /* on to the next */ }
//!     Outcome::Rejected(pushkeys) => { /* delete these pushers */ }
//!     Outcome::Again { after, .. } => {
//!         let wait = Backoff::default().delay(failures + 1, after, 7);
//!         /* and once more then */
//!     }
//! }
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod apns;
mod backoff;
mod body;
mod channel;
mod detail;
mod endpoint;
mod error;
mod fcm;
mod gateway;
mod jwt;
mod message;
mod notification;
mod outcome;
mod pusher;
mod shown;
#[cfg(test)]
mod testing;
mod unified;
mod webpush;

pub use apns::{Apns, ApnsConfig};
pub use backoff::Backoff;
pub use channel::{Channel, Step, deliver};
pub use detail::Detail;
pub use error::{BuildError, ConfigError, PusherError};
pub use fcm::Fcm;
pub use gateway::Gateways;
pub use message::{ANSWER_BODY, ANSWER_TIME, NamedBy, PushAnswer, PushRequest, SendError};
pub use notification::{Counts, Device, Event, Notification, Prio};
pub use outcome::{Outcome, Reading};
pub use pusher::Schemes;
pub use unified::UnifiedPush;
pub use webpush::WebPush;
