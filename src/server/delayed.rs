//! What is sent when its time has come.

use rhizome_client_api as client_api;

use crate::tasks::Tasks;

/// Sends events that users have sent for later.
pub(crate) fn send_delayed(tasks: &Tasks, app: client_api::App) {
    tasks.supervise("delayed events", move |stop| {
        let sending = client_api::send_delayed(app.clone(), stop);
        async move { Ok(sending.await?) }
    });
}
