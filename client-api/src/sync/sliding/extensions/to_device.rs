//! Messages for the device (MSC3885), with a token of their own.

use rhizome_storage::WaitingMessage;

use super::Context;
use crate::{
    MatrixError,
    place::token::{Token, position},
    sync::{
        pieces,
        sliding::request::extensions::ToDevice,
        to_device::{self, MOST},
    },
    view::json::Json,
};

/// Messages for the device.
#[derive(Debug)]
pub struct Mail {
    messages: Vec<WaitingMessage>,
    next: Token,
}

/// Reads what has come since the token.
pub async fn read(context: &Context<'_>, asked: &ToDevice) -> Result<Mail, MatrixError> {
    let (app, loader) = (context.app, context.loader);
    let since = match &asked.since {
        Some(since) => position(&app.store, since).await?,
        None => None,
    };
    // What came before the connection's position the window doesn't say.
    let covers = since
        .as_ref()
        .zip(loader.after)
        .is_some_and(|(since, after)| since.pos >= after);
    let most = asked
        .limit
        .map_or(MOST, |limit| usize::try_from(limit).unwrap_or(MOST));
    let mail = to_device::read_at_most(
        app,
        loader.viewer,
        since.as_ref(),
        (context.window, !covers),
        loader.upto,
        loader.ignored,
        most.clamp(1, MOST),
    );
    let mail = mail.await?;
    let mut next = Token::new(&app.store, loader.upto, context.moment.1.clone());
    next.to_device = mail.any.then_some(mail.upto);
    Ok(Mail {
        messages: mail.messages,
        next,
    })
}

impl Mail {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.next.is_behind_to_device()
    }

    /// Up to where it is told.
    pub fn upto(&self) -> String {
        self.next.to_string()
    }

    /// Writes it.
    pub fn write(&self, json: &mut Json) {
        json.open().key("next_batch").string(&self.next.to_string());
        pieces::to_device_list(json.key("events"), &self.messages);
        json.close();
    }
}
