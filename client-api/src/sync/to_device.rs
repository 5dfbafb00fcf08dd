//! The messages for a reader's device (client-server API, "Send-to-Device messaging").
//!
//! A token says how far its device has got with them, where its answer had some: at most 100 go into one, and what
//! the token names is acknowledged when it comes back, and goes. A token that says nothing has got everything up to
//! its position, so that what has come since is what the log says: a device for which nothing comes costs no
//! question and no write.

use std::{collections::HashSet, sync::Arc};

use futures_util::future::poll_immediate;
use rhizome_storage::{
    Cache, CommitError, Pos, Store, Submitted, ToDeviceTaken, UserNo, WaitingMessage,
};
use ruma::{OwnedDeviceId, OwnedUserId};

use super::window::Window;
use crate::{App, MatrixError, place::token::Token, view::seen::Viewer};

/// The most messages of one answer, as the specification recommends.
pub const MOST: usize = 100;
/// About how many bytes of them an answer has; one is always told.
const MOST_BYTES: usize = 2 << 20;
/// Devices of which it is remembered what they have acknowledged.
const REMEMBERED: usize = 20_000;

/// What devices have acknowledged lately: it isn't told again while it is being written, and a client that asks again
/// and again with the same token makes us write once.
#[derive(Debug)]
pub struct Acknowledged(Cache<(UserNo, OwnedDeviceId), Point>);

#[derive(Debug, Clone)]
struct Point {
    epoch: Arc<str>,
    upto: Pos,
    is_written: bool,
}

impl Default for Acknowledged {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// Deletes what the token says that its device has got. The answer is to be awaited before the next token is given
/// out, so that nobody is told twice who begins anew; mostly it is there by then.
pub async fn acknowledge(app: &App, viewer: &Viewer, token: &Token) -> Option<Acknowledging> {
    let upto = token.to_device?;
    let device = (viewer.user, viewer.device_id.clone());
    let acknowledged = &app.sync.acknowledged.0;
    let known = acknowledged.get(&device);
    let known = known.filter(|known| known.epoch == token.epoch && known.upto >= upto);
    if known.is_some_and(|known| known.is_written) {
        return None;
    }
    let point = Point {
        epoch: token.epoch.clone(),
        upto,
        is_written: false,
    };
    acknowledged.insert(device.clone(), point.clone());
    let (user, device_id) = device.clone();
    let taken = ToDeviceTaken {
        user,
        device: device_id,
        upto,
    };
    let submitted = app.store.submit_without_haste(vec![taken.into()].into());
    let submitted = submitted.await;
    let submitted = submitted.inspect_err(not_written).ok()?;
    Some(Acknowledging {
        store: app.store.clone(),
        submitted,
        device,
        point,
    })
}

/// Who can't write, because the disk is full, can read all the same: the next token says it again.
fn not_written(error: &CommitError) {
    tracing::debug!(%error, "what a device has got stays for a while");
}

/// An acknowledgement that is written with what others write, or, as soon as nobody holds this any more, by itself.
#[derive(Debug)]
pub struct Acknowledging {
    store: Store,
    submitted: Submitted,
    device: (UserNo, OwnedDeviceId),
    point: Point,
}

impl Acknowledging {
    /// Waits for it.
    pub async fn done(mut self, app: &App) {
        let written = if let Some(written) = poll_immediate(&mut self.submitted).await {
            written
        } else {
            self.store.hurry();
            (&mut self.submitted).await
        };
        if written.inspect_err(not_written).is_ok() {
            self.point.is_written = true;
            let acknowledged = &app.sync.acknowledged.0;
            acknowledged.insert(self.device.clone(), self.point.clone());
        }
    }
}

impl Drop for Acknowledging {
    fn drop(&mut self) {
        if !self.point.is_written {
            self.store.hurry();
        }
    }
}

/// What one pass found for the reader's device.
#[derive(Debug)]
pub struct Mail {
    /// What it is told.
    pub messages: Vec<WaitingMessage>,
    /// How far it has got with this.
    pub upto: Pos,
    /// Whether something was there, told or ignored.
    pub any: bool,
}

/// Reads what has come since the reader's token, up to a position. What comes of somebody whom the user ignores
/// isn't told, and counts as told.
pub async fn read(
    app: &App,
    viewer: &Viewer,
    since: Option<&Token>,
    window: &Window,
    upto: Pos,
    ignored: &HashSet<OwnedUserId>,
) -> Result<Mail, MatrixError> {
    let window = (window, false);
    read_at_most(app, viewer, since, window, upto, ignored, MOST).await
}

/// The same with at most `most` messages. `unsaid`: the window doesn't say what has come.
pub async fn read_at_most(
    app: &App,
    viewer: &Viewer,
    since: Option<&Token>,
    (window, unsaid): (&Window, bool),
    upto: Pos,
    ignored: &HashSet<OwnedUserId>,
    most: usize,
) -> Result<Mail, MatrixError> {
    let nothing = Mail {
        messages: Vec::new(),
        upto,
        any: false,
    };
    let mut after = since.map_or(Pos(0), Token::told_to_device);
    let caught_up = since.is_some_and(|since| !since.is_behind_to_device());
    let may_hold = unsaid || window.may_hold_for(&viewer.device_id);
    if after >= upto || caught_up && !may_hold {
        return Ok(nothing);
    }
    let device = (viewer.user, viewer.device_id.clone());
    if let Some(known) = app.sync.acknowledged.0.get(&device)
        && known.epoch == app.store.epoch()
    {
        after = after.max(known.upto);
    }
    let waiting = (app.store).to_device(viewer.user, &viewer.device_id, after, upto, most + 1);
    let mut messages = waiting.await?;
    let Some(fits) = fits(&messages, most) else {
        return Ok(nothing);
    };
    let reached = match messages.get(fits - 1) {
        Some(last) if fits < messages.len() => last.pos,
        _ => upto,
    };
    messages.truncate(fits);
    messages.retain(|message| !ignored.contains(&message.sender));
    Ok(Mail {
        messages,
        upto: reached,
        any: true,
    })
}

/// How many of these an answer has; `None` where there are none.
fn fits(messages: &[WaitingMessage], most: usize) -> Option<usize> {
    let mut bytes = 0;
    let fit = messages.iter().take(most).take_while(|message| {
        bytes += message.content.len();
        bytes <= MOST_BYTES
    });
    (!messages.is_empty()).then(|| fit.count().max(1))
}
