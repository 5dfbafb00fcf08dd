//! Application services are told what happens (<https://spec.matrix.org/v1.19/application-service-api/#pushing-events>).
//!
//! A reader of the log ([`reader`]) finds whom each entry concerns ([`interest`], [`news`]) and hands it to the queues of these
//! services ([`queue`]). Each service has a task of its own ([`service`]), which puts what waits into a transaction
//! ([`gather`], [`batch`], [`write`]), writes that down as it is, and sends it until it is acknowledged; so the number of
//! a transaction never stands for two contents, whatever ends the process in between. One that is slow or dead keeps
//! nobody waiting but itself: it is left with its place in the log, and reads on from there when it is back. What isn't in the
//! log ([`ephemeral`]) is told to those that want it, as it is when it is told.
//!
//! Nothing of this is on the path of a message, and without services nothing of it is there.

mod batch;
mod ephemeral;
mod gather;
mod interest;
mod news;
mod queue;
mod reader;
mod service;
mod write;

use std::sync::Arc;

use rhizome_storage::LogReader;
use tokio_util::sync::CancellationToken;

use self::{
    interest::Hearers,
    reader::{Reader, Work},
};
use crate::App;

/// The name of the reader.
const READER: &str = "application services";

/// Tells the services that count, until `stop`, whenever this process is the one that does.
pub async fn run(app: &App, stop: &CancellationToken) {
    let mut counting = app.federation.services().watch();
    while !stop.is_cancelled() {
        let registrations = counting.borrow_and_update().clone();
        let hearers = Arc::new(Hearers::all(&registrations, &app.config.server_name));
        let others = async {
            // It changes for as long as there is a server.
            if counting.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        if hearers.services.is_empty() {
            stop.run_until_cancelled(others).await;
            continue;
        }
        let turn = stop.child_token();
        let mut telling = Box::pin(tell(app, &hearers, &turn));
        tokio::select! {
            () = &mut telling => {}
            () = others => {
                turn.cancel();
                telling.await;
            }
        }
    }
}

/// Tells these services until `stop`.
async fn tell(app: &App, hearers: &Arc<Hearers>, stop: &CancellationToken) {
    let reader = Arc::new(Reader::new(app, hearers, stop));
    let reading = LogReader::new(&app.store, READER, Work(reader.clone()));
    // The lease is given back when nothing is under way any more.
    let told = CancellationToken::new();
    let ending = async {
        stop.cancelled().await;
        reader.end().await;
        told.cancel();
    };
    tokio::join!(reading.run(&told), ending);
}
