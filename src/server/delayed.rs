//! What is done later than it was asked for: what is sent when its time has come, and what takes its time.

use rhizome_client_api as client_api;

use crate::tasks::Tasks;

/// Sends events that users have sent for later, and does tasks.
pub(crate) fn run(tasks: &Tasks, app: &client_api::App) {
    let at = app.clone();
    tasks.supervise("delayed events", move |stop| {
        let sending = client_api::send_delayed(at.clone(), stop);
        async move { Ok(sending.await?) }
    });
    let at = app.clone();
    tasks.supervise("tasks", move |stop| {
        let working = client_api::tasks::run(at.clone(), stop);
        async move { Ok(working.await?) }
    });
}
