//! Application services: who they are, what is theirs, and the way to them.
//!
//! A service is registered by a YAML file that the operator names ([`load`]). What is registered is a
//! [`Registrations`], which never changes; [`Services`] holds the one that counts now, and tells who watches it of
//! another. Nothing here serves HTTP, reads a database or knows rooms.
//!
//! ```text
//! load(patterns, server name)                → Registrations, or every problem with file, line and remedy
//! Services::current()                        → Arc<Registrations>: what counts now
//! Registrations::by_token(token)             → whose `as_token` it is
//! Registrations::exclusive_owner_of_user(id) → who alone may make and use this account
//! Registrations::interested_in_user(id)      → all that are to hear of it, by one look
//! AppserviceClient::put(service, path, …)    → what the service answers
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod client;
mod files;
mod namespaces;
mod problem;
mod read;
mod registration;
mod registrations;
mod secret;
mod services;
mod yaml;

pub use self::client::{Answer, AppserviceClient, Call, CallError, PingError};
pub use self::files::{load, parse};
pub use self::namespaces::{Namespace, Namespaces};
pub use self::problem::{LoadError, Problem};
pub use self::registration::{Registration, instance_id};
pub use self::registrations::Registrations;
pub use self::secret::HsToken;
pub use self::services::Services;
