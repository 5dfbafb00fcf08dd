//! A reader of the log for one device: what `/sync` asks once and a socket asks all the time.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rhizome_storage::{Heard, Interest, MembershipRow, Pos, Store, UserNo};
use tokio::time::Instant;

use super::{
    Ask, Devices, News, delivery,
    presence::{self, PresencePart, Span},
    room::Loader,
    sticky::StickyNews,
    to_device::{self, Acknowledging},
    window::Window,
    write,
};
use crate::{
    App, MatrixError,
    auth::standing,
    figures::OneOf,
    place::token::Token,
    view::{filter::FilterDefinition, ignored::Unwanted, scan::Budget, seen::Viewer},
};

/// A reader of the log for one device, kept by a request or a socket.
pub struct Reader {
    app: App,
    viewer: Viewer,
    ask: Ask,
    /// Up to where the client has been told everything.
    since: Option<Token>,
    interest: Option<Interest>,
    /// There were messages for the device, in this answer or a frame before, that nobody has acknowledged.
    unacknowledged: bool,
}

impl Reader {
    /// A reader that goes on from `since`.
    pub fn new(app: App, viewer: Viewer, ask: Ask, since: Option<Token>) -> Reader {
        Reader {
            app,
            viewer,
            ask,
            since,
            interest: None,
            unacknowledged: false,
        }
    }

    /// Whether the client has been told anything yet.
    pub fn has_position(&self) -> bool {
        self.since.is_some()
    }

    /// Goes on from where it is with another filter.
    pub fn set_filter(&mut self, filter: Arc<FilterDefinition>) {
        self.ask.filter = filter;
    }

    /// The next news. Waits for some at most `timeout`; the first answer of all, one with
    /// `full_state`, and one at the end of the server are given at once.
    pub async fn next(&mut self, timeout: Duration) -> Result<News, MatrixError> {
        let deadline = Instant::now() + timeout;
        let at_once = self.since.is_none() || self.ask.full_state;
        // What is awaited before and after is boxed, as a pass is: a reader who waits holds none of its room.
        let acknowledging = Box::pin(self.acknowledge()).await;
        Box::pin(self.app.store.log().refresh()).await?;
        let news = self.await_news(at_once, deadline).await;
        if let Some(acknowledging) = acknowledging {
            Box::pin(acknowledging.done(&self.app)).await;
        }
        news
    }

    /// Deletes the messages for the device that the client's token says it has got.
    pub async fn acknowledge(&self) -> Option<Acknowledging> {
        let since = self.since.as_ref()?;
        if let Err(error) = delivery::got(&self.app, &self.viewer, since.pos).await {
            tracing::warn!(%error, "whether a user tells what has reached their devices isn't known");
        }
        to_device::acknowledge(&self.app, &self.viewer, since).await
    }

    async fn await_news(&mut self, at_once: bool, deadline: Instant) -> Result<News, MatrixError> {
        loop {
            let news = Box::pin(self.pass()).await?;
            let over = at_once || Instant::now() >= deadline || self.app.shutdown.is_cancelled();
            if !news.is_empty() || over {
                return Ok(news);
            }
            if news.next.is_behind() {
                // All that was looked at is of people whom the user ignores, or is past.
                continue;
            }
            let _waits = OneOf::new(&self.app.counts.polls);
            tokio::select! {
                () = self.woken() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(news),
                () = self.app.shutdown.cancelled() => return Ok(news),
            }
        }
    }

    /// Waits until something may concern the reader. To be called after a pass.
    pub async fn woken(&self) {
        match &self.interest {
            Some(interest) => interest.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Writes news as an answer, or, with `kind`, as a frame.
    pub fn write(&self, news: &News, kind: Option<&str>) -> String {
        write::answer(
            news,
            &self.viewer,
            &self.ask,
            self.app.store.clock().now_ms(),
            kind,
        )
    }

    /// One pass: what is new since the reader's position, which moves on.
    pub async fn pass(&mut self) -> Result<News, MatrixError> {
        let (upto, now, rows) = self.moment().await?;
        let store = &self.app.store;
        let after = self.since.as_ref().map(|token| token.pos);
        let process = store.ephemeral().process();
        let heard = self
            .since
            .as_ref()
            .map_or_else(Heard::default, |token| token.heard(&now, process));
        let mut next = Token::new(store, upto, now.clone().after(&heard));
        let window = if let Some(after) = after {
            let window = Window::read(store, self.viewer.user, &rows, after, upto).await?;
            standing::may_listen(&self.app, self.viewer.user, window.to_device.ended).await?;
            window
        } else {
            self.app
                .sync
                .lazy
                .forget(&(self.viewer.user, self.viewer.device_id.clone()));
            Window::default()
        };
        let ignored = self
            .app
            .sync
            .ignored
            .of(store, self.viewer.user, after, upto, &window)
            .await?;
        let counts = &self.app.sync.counts;
        let span = (after, upto);
        counts
            .advance(store, self.viewer.user, &rows, span, &window)
            .await?;
        let since = self.since.as_ref();
        let mail = to_device::read(&self.app, &self.viewer, since, &window, upto, &ignored).await?;
        self.unacknowledged |= mail.any;
        next.to_device = self.unacknowledged.then_some(mail.upto);
        let sticky = StickyNews::read(store, &rows, Some(&window), since, upto).await?;
        next.sticky = sticky.upto;
        let told = since.map_or(0, |token| token.presence_after(&now, process));
        let of = (&self.viewer, &self.ask.filter.presence);
        let span = Span {
            after,
            heard: told,
            upto: now.of(process),
        };
        let presence = PresencePart::read(store, of, &rows, span, &ignored).await?;
        if let Some(upto) = presence.upto {
            next.leave_presence(process, upto);
        }
        let mut loader = self.loader(&ignored, after, upto, heard);
        loader.sticky = sticky.rooms;
        let mut news = loader.rooms(&rows, &window, next.clone()).await?;
        news.account_data = loader.global_account_data(&window).await?;
        news.devices = loader.devices(&rows, &window).await?;
        let viewer = &self.viewer;
        news.keys = store.key_counts(viewer.user, &viewer.device_id).await?;
        news.to_device = mail.messages;
        news.presence = presence;
        self.since = Some(next);
        Ok(news)
    }

    /// Whose devices the client must look at again, and whose it may forget, since the reader's position; without
    /// one, since ever.
    pub async fn devices(&mut self) -> Result<Devices, MatrixError> {
        self.app.store.log().refresh().await?;
        let (upto, _, rows) = self.moment().await?;
        let after = self.since.as_ref().map_or(Pos(0), |token| token.pos);
        let store = &self.app.store;
        let window = Window::read(store, self.viewer.user, &rows, after, upto).await?;
        let nobody = Unwanted::default();
        let loader = self.loader(&nobody, Some(after), upto, Heard::default());
        loader.devices(&rows, &window).await
    }

    fn loader<'a>(
        &'a self,
        ignored: &'a Unwanted,
        after: Option<Pos>,
        upto: Pos,
        heard: Heard,
    ) -> Loader<'a> {
        Loader {
            store: &self.app.store,
            lazy: &self.app.sync.lazy,
            counts: &self.app.sync.counts,
            viewer: &self.viewer,
            ask: &self.ask,
            ignored,
            after,
            upto,
            heard,
            budget: Budget::new(self.app.config.max_timeline_bytes),
            all_account_data: tokio::sync::OnceCell::new(),
            first: OnceLock::new(),
            sticky: HashMap::new(),
        }
    }

    async fn moment(&mut self) -> Result<Moment, MatrixError> {
        let new = || self.app.store.log().interest(self.viewer.user);
        let interest = self.interest.get_or_insert_with(new);
        interest.follow_presence(presence::limit(&self.ask.filter.presence) > 0);
        moment(&self.app.store, self.viewer.user, interest).await
    }
}

/// The position at which a pass ends, in the log and of what isn't in it, and the reader's memberships as of it.
pub(super) type Moment = (Pos, Heard, Arc<[MembershipRow]>);

/// A moment for a pass; from here on wakes what comes later.
pub(super) async fn moment(
    store: &Store,
    user: UserNo,
    interest: &Interest,
) -> Result<Moment, MatrixError> {
    let log = store.log();
    loop {
        // First of all: what comes after the head is read must not be slept over.
        interest.listen().await?;
        let rows = store.memberships_of(user).await?;
        let heard = store.ephemeral().heard();
        let upto = log.head();
        let again = store.memberships_of(user).await?;
        // Nothing may have moved beyond the position, or before it but after `rows` was read.
        if (Arc::ptr_eq(&again, &rows) || again == rows)
            && rows.iter().all(|row| row.pos <= upto && row.since <= upto)
        {
            return Ok((upto, heard, rows));
        }
        // Memberships read from the database may be ahead of what this process has heard of.
        log.refresh().await?;
        tokio::task::yield_now().await;
    }
}
