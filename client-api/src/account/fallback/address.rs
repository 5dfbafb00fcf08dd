//! An address is shown to be somebody's, in a browser: a code goes to it, which comes back by the mail's link or is entered.

use std::net::IpAddr;

use http::StatusCode;
use rhizome_edge::{Content, MatrixError};
use rhizome_storage::{Tried, random};

use super::{
    form::Form,
    page::{address_form, code_form, done},
};
use crate::{
    App,
    account::contact::{ask, submit},
    auth::{
        uia::{self, Given, Opened},
        validated::{self, Medium},
    },
};

/// Goes on with what a form says: an address, or the session in which a code went out.
pub(super) async fn confirm(
    app: &App,
    medium: Medium,
    opened: &Opened,
    form: &Form,
    peer: Option<IpAddr>,
) -> Result<Content, MatrixError> {
    let (Some(sid), Some(secret)) = (form.get("sid"), form.get("secret")) else {
        return begin(app, medium, opened, form, peer).await;
    };
    let again = |why: &str| code_form(medium, (sid, secret), Some(why));
    let code = form.get("code").unwrap_or_default().trim();
    if !code.is_empty() {
        let why = match submit::tried(app, sid, Some(secret), code).await? {
            Tried::Right(_) => None,
            Tried::Wrong => Some("The code is wrong."),
            Tried::Gone => Some("The code isn't good any more. Please begin again."),
        };
        if let Some(why) = why {
            return Ok(again(why).with_status(StatusCode::BAD_REQUEST));
        }
    }
    let given = Given::ThirdParty(medium, sid, secret);
    match uia::complete(app, opened, given, peer).await {
        Ok(Ok(())) => Ok(done()),
        Ok(Err(why)) => Ok(again(&why).with_status(StatusCode::BAD_REQUEST)),
        Err(error) if error.status == StatusCode::INTERNAL_SERVER_ERROR => Err(error),
        Err(error) => Ok(again(&error.message).with_status(error.status)),
    }
}

/// Sends a code to the address that the form says.
async fn begin(
    app: &App,
    medium: Medium,
    opened: &Opened,
    form: &Form,
    peer: Option<IpAddr>,
) -> Result<Content, MatrixError> {
    let given = form.get("address").unwrap_or_default();
    let secret = random::secret()?;
    let address = match medium {
        Medium::Email => validated::email(given),
        Medium::Msisdn => validated::msisdn(given),
    };
    let sid = match address {
        Ok(address) => ask::in_browser(app, opened.of_addresses(), address, &secret, peer).await,
        Err(error) => Err(error),
    };
    match sid {
        Ok(sid) => Ok(code_form(medium, (&sid, &secret), None)),
        Err(error) if error.status == StatusCode::INTERNAL_SERVER_ERROR => Err(error),
        Err(error) => Ok(address_form(medium, Some(&error.message)).with_status(error.status)),
    }
}
