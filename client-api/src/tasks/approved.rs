//! Who waited for the operator's approval is told by mail that they can log in.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_mail::{Address, MailError};
use rhizome_storage::{Medium, Task};
use ruma::UserId;

use super::Step;
use crate::{App, push::mailing::Unsent};

/// Sends the mail; `progress` says how many went out. A server that sends none has nothing to do, nor has one whose user has
/// no address any more.
///
/// # Errors
/// What is to be tried again, or can't be sent at all.
pub(super) async fn step(app: &App, task: &Task) -> Result<Step, MatrixError> {
    let done = |progress| Step {
        progress,
        place: None,
        result: None,
    };
    let user_id = UserId::parse(task.what.as_str())
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let account = app.store.account(&user_id).await?;
    let account = account.filter(|account| !account.deactivated && !account.awaits_approval);
    let (Some(mailing), Some(account)) = (app.config.mailing.as_deref(), account) else {
        return Ok(done(0));
    };
    let addresses = app.store.third_parties(account.user).await?;
    let mut addresses = addresses.iter().map(|one| &one.third_party);
    let Some(address) = addresses.find(|one| one.medium == Medium::Email) else {
        return Ok(done(0));
    };
    let to = Address::parse(&address.address)
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    mailing.approved(to, &user_id).await.map_err(failed)?;
    Ok(done(1))
}

/// A mail server that doesn't take it now may take it later.
fn failed(error: Unsent) -> MatrixError {
    match error {
        Unsent::Mail(MailError::Temporary { .. } | MailError::Config { .. }) => {
            let text = format!("The mail doesn't go out now: {error}");
            MatrixError::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", text)
        }
        error => MatrixError::invalid_param(format!("The mail can't be sent: {error}")),
    }
}
