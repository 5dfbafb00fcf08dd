//! Sending codes: by mail, or as text messages.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_mail::{Address, MailError};
use ruma::OwnedUserId;
use serde_json::json;

use crate::{
    App,
    auth::validated::{Medium, ThirdParty},
    push::mailing::Unsent,
};

/// What is sent.
pub(super) struct Letter {
    /// Whereto.
    pub(super) to: ThirdParty,
    /// The session's id.
    pub(super) sid: String,
    /// What is to be entered.
    pub(super) code: String,
    /// What it is for.
    pub(super) says: Says,
}

/// What a letter is for.
pub(super) enum Says {
    /// Its code shows that the address is somebody's.
    Code,
    /// Its code sets a new password for this user.
    Reset(OwnedUserId),
    /// This user's account has the address already.
    Known(OwnedUserId),
}

/// Whether codes can be sent so.
pub(crate) fn is_possible(app: &App, medium: Medium) -> bool {
    match medium {
        Medium::Email => app.config.mailing.is_some(),
        Medium::Msisdn => app.config.identity.sms.is_some(),
    }
}

/// Sends it.
///
/// # Errors
/// What the client is told. Why it didn't go out is for the operator.
pub(super) async fn send(app: &App, letter: &Letter) -> Result<(), MatrixError> {
    match letter.to.medium {
        Medium::Email => by_mail(app, letter).await,
        Medium::Msisdn => by_telephone(app, letter).await,
    }
}

async fn by_mail(app: &App, letter: &Letter) -> Result<(), MatrixError> {
    let mailing = app.config.mailing.as_deref();
    let mailing = mailing.ok_or_else(MatrixError::internal)?;
    // As it is known here, not as it was typed: where capitals make a difference, that could be somebody else's.
    let to = Address::parse(&letter.to.address).map_err(|_| MatrixError::internal())?;
    let place = format!("{}/{}", letter.sid, letter.code);
    let sent = match &letter.says {
        Says::Code => mailing.verify(to, &letter.code, &place).await,
        Says::Reset(user) => mailing.reset(to, user, (&letter.code, &place)).await,
        Says::Known(user) => mailing.known(to, user).await,
    };
    sent.map_err(|error| match error {
        Unsent::Mail(MailError::Permanent {
            no_such_address: true,
            ..
        }) => MatrixError::invalid_param("No mail can be sent to this address"),
        Unsent::Mail(error @ (MailError::Permanent { .. } | MailError::Temporary { .. })) => {
            tracing::warn!(%error, "a code doesn't go out");
            unsent()
        }
        // The operator has to do something.
        error => {
            tracing::error!(%error, "codes don't go out");
            unsent()
        }
    })
}

async fn by_telephone(app: &App, letter: &Letter) -> Result<(), MatrixError> {
    let sms = app.config.identity.sms.as_ref();
    let sms = sms.ok_or_else(MatrixError::internal)?;
    let server = &app.config.server_name;
    let of_code = |what: &str| {
        let code = &letter.code;
        format!("{server}: your code {code} {what}. If you didn't ask for it, tell it nobody.")
    };
    let text = match &letter.says {
        Says::Code => of_code("shows that this number is yours"),
        Says::Reset(user) => of_code(&format!("sets a new password for {user}")),
        Says::Known(user) => format!("{server}: this number is that of the account {user}."),
    };
    let body = json!({ "to": format!("+{}", letter.to.address), "text": text });
    let body = body.to_string().into_bytes();
    let brought = app
        .federation
        .bring_to_operators(&sms.url, sms.token.as_deref(), body)
        .await;
    match brought {
        Ok(status) if status.is_success() => Ok(()),
        Ok(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => Err(
            MatrixError::invalid_param("No message can be sent to this number"),
        ),
        Ok(status) => {
            tracing::error!(%status, "a code doesn't go out as a text message");
            Err(unsent())
        }
        Err(error) => {
            tracing::error!(%error, "codes don't go out as text messages");
            Err(unsent())
        }
    }
}

fn unsent() -> MatrixError {
    let message = "The code couldn't be sent now; try again later";
    MatrixError::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message)
}
