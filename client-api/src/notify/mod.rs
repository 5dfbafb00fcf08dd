//! Telling users of what they want to be notified of, where they aren't listening (client-server API, "Push
//! Notifications"; Push Gateway API).
//!
//! A reader of the log ([`find`]) finds who is to be told of what, and writes it down together with how far it has
//! read. For each pusher for which something waits a task hands it over ([`tell`]), one after the other: what was
//! acknowledged is deleted, what fails comes again, and what has been read meanwhile isn't told. Nothing of it is on
//! the path of a message.

mod acknowledged;
mod choose;
mod digest;
mod find;
mod invites;
mod mails;
mod tasks;
mod tell;
mod told;

use std::sync::Arc;

use rhizome_federation::outbound::{Messenger, Reach};
use rhizome_storage::LogReader;
use tokio_util::sync::CancellationToken;

use self::{find::FindPushes, tell::Teller};
use crate::App;

/// The name of the reader.
const READER: &str = "push";

/// Tells users' pushers what they are to be notified of, until `stop`, whenever this process is the one that does.
/// `reach`: what addresses may be connected to that users name.
pub async fn run(app: &App, reach: &Reach, stop: &CancellationToken) {
    let outbound = app.federation.outbound();
    let messengers = outbound.messenger(reach);
    let messengers = messengers.zip(outbound.messenger(&Reach::default()));
    let Some((to_users, to_operators)) = messengers else {
        tracing::error!("notifications can't be sent");
        return stop.cancelled().await;
    };
    let messengers = Messengers {
        to_users,
        to_operators,
    };
    let teller = Arc::new(Teller::new(app.clone(), messengers, stop.clone()));
    let reader = LogReader::new(&app.store, READER, FindPushes::new(app, teller));
    reader.run(stop).await;
}

/// By whom an address was named is by what rules it is connected to.
struct Messengers {
    to_users: Messenger,
    to_operators: Messenger,
}
