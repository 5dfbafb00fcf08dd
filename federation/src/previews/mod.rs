//! Previews of links (<https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>).
//!
//! [`Previews::preview`] is all that others call. What is at a link is fetched by the egress rules on every hop
//! ([`visit`]), read by a process of its own ([`rhizome_decoder::page`]), its picture is fetched into our files
//! ([`picture`]), and what is told ([`told`]) is kept for a while: in the database what was found, in memory that nothing
//! was. One fetch at a time per link, some at a time altogether.
//!
//! It is on unless the operator switches it off. Others ship it switched off, because it makes a server visit what
//! strangers name; here no address that isn't public is ever connected to, whatever a name or a redirect says, so there
//! is nothing for an operator to fill in first. Like others, it doesn't ask for `robots.txt`: a person has named
//! this one page, and nothing of it is indexed or followed.

mod config;
mod oembed;
mod picture;
mod told;
mod visit;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Url;
use rhizome_decoder::Decoders;
use rhizome_edge::{
    Places,
    limits::{Buckets, ms},
};
use rhizome_storage::{Cache, millis};
use ring::digest::{SHA256, digest};
use ruma::{OwnedUserId, UserId};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{Federation, MatrixError, RawJson, keyed::Keyed, outbound::web::Web};
pub use config::PreviewConfig;

/// So many links are visited at a time.
const AT_ONCE: usize = 20;
/// So many of them for one user.
const OF_A_USER: usize = 3;
/// How long others wait for that.
const QUEUE: Duration = Duration::from_secs(10);
/// So many who ask wait for one link that another has asked for.
const WAITING: usize = 100;
/// How long it is remembered that a link gave nothing, and of how many.
const FAILED_FOR: Duration = Duration::from_mins(5);
const FAILURES: usize = 5_000;
/// Between two looks whether something has expired.
const SWEEP: Duration = Duration::from_hours(1);
/// So many pictures are deleted at once.
const PICTURES: usize = 200;

/// Previews of links. Cheap to clone.
#[derive(Clone)]
pub struct Previews(Arc<Inner>);

struct Inner {
    fed: Federation,
    decoders: Decoders,
    config: PreviewConfig,
    users: Buckets,
    links: Keyed<String>,
    turns: Semaphore,
    /// Who has links visited just now.
    visits: Places<OwnedUserId>,
    /// The web where there are exceptions from what may be visited.
    web: Option<Web>,
    /// Links that gave nothing, and until when (ms) that is told without a look.
    failed: Cache<String, (i64, MatrixError)>,
    /// How many bytes of pictures have come since room was made for them, and who makes it.
    came: AtomicU64,
    making_room: Mutex<()>,
}

impl Previews {
    /// Previews that are fetched by this server's egress rules, and whose pages and pictures these read.
    pub fn new(fed: Federation, decoders: Decoders, config: PreviewConfig) -> Self {
        let ranges = &config.allowed_ranges;
        let web = (!ranges.is_empty()).then(|| fed.outbound().web_with(ranges));
        Self(Arc::new(Inner {
            web: web.flatten(),
            fed,
            decoders,
            config,
            users: Buckets::default(),
            links: Keyed::default(),
            turns: Semaphore::new(AT_ONCE),
            visits: Places::default(),
            failed: Cache::new(FAILURES),
            came: AtomicU64::new(0),
            making_room: Mutex::new(()),
        }))
    }

    /// Whether there are any.
    pub fn enabled(&self) -> bool {
        self.0.config.enabled
    }

    /// What is told of a link: the answer's JSON. `language`: the client's `Accept-Language`, whose first is asked for.
    ///
    /// # Errors
    /// 403 `M_FORBIDDEN` if it may not be visited or there are no previews here, 400 if it is no link, 429 if the user or
    /// all want too many, 502 if nothing can be had of it.
    pub async fn preview(
        &self,
        user: &UserId,
        link: &str,
        language: Option<&str>,
    ) -> Result<RawJson, MatrixError> {
        if !self.enabled() {
            return Err(MatrixError::forbidden(
                "There are no previews of links here",
            ));
        }
        let url = visit::link(link)?;
        if !self.permits(&url) {
            return Err(MatrixError::forbidden(
                "There are no previews of this link here",
            ));
        }
        let language = language.and_then(visit::first_language);
        let key = key(&url, language.as_deref());
        if let Some(known) = self.known(&key).await? {
            return Ok(known);
        }
        let wait = || MatrixError::limit_exceeded(1_000);
        self.count(user)?;
        let one = self.0.links.lock_among(key.clone(), WAITING).await;
        let _one = one.ok_or_else(wait)?;
        // Another may have fetched it meanwhile.
        if let Some(known) = self.known(&key).await? {
            return Ok(known);
        }
        let place = self.0.visits.take(user.to_owned(), OF_A_USER);
        let _place = place.ok_or_else(wait)?;
        let turn = tokio::time::timeout(QUEUE, self.0.turns.acquire()).await;
        let _turn = turn.map_err(|_| wait())?;
        let told = match self.fetch(url, language.as_deref()).await {
            Ok(told) => told,
            Err(error) => {
                if matches!(error.status.as_u16(), 403 | 502) {
                    let until = self.now().saturating_add(millis(FAILED_FOR));
                    self.0.failed.insert(key, (until, error.clone()));
                }
                return Err(error);
            }
        };
        let expires = self.now().saturating_add(millis(self.0.config.keep));
        let store = self.0.fed.store();
        store.put_url_preview(&key, &told, expires).await?;
        Ok(RawJson::from_text(told))
    }

    /// What is known of a link without a look.
    async fn known(&self, key: &str) -> Result<Option<RawJson>, MatrixError> {
        if let Some((until, error)) = self.0.failed.get(key)
            && self.now() < until
        {
            return Err(error);
        }
        let told = self.0.fed.store().url_preview(key).await?;
        Ok(told.map(RawJson::from_text))
    }

    fn now(&self) -> i64 {
        self.0.fed.store().clock().now_ms()
    }

    /// How many new links a user may have visited is limited.
    fn count(&self, user: &UserId) -> Result<(), MatrixError> {
        let Some(rate) = self.0.config.rate else {
            return Ok(());
        };
        let now = ms(self.0.fed.store().clock().monotonic());
        let taken = self.0.users.take(rate, user, 1, now);
        taken.map_err(MatrixError::limit_exceeded)
    }

    /// Deletes what has expired, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let clock = self.0.fed.store().clock();
        while stop.run_until_cancelled(clock.sleep(SWEEP)).await.is_some() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(error = %error.message, "expired previews of links aren't deleted");
            }
        }
    }

    /// Deletes previews that have expired, and pictures of such.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sweep(&self) -> Result<(), MatrixError> {
        let store = self.0.fed.store();
        store.expire_url_previews().await?;
        loop {
            let stale = store.stale_preview_pictures(PICTURES).await?;
            self.delete_pictures(&stale).await?;
            if stale.len() < PICTURES {
                break;
            }
        }
        self.make_room().await
    }

    /// Deletes the oldest pictures, if there is no room for all of them.
    async fn make_room(&self) -> Result<(), MatrixError> {
        let (store, most) = (self.0.fed.store(), self.0.config.pictures_size);
        let origin = self.0.fed.server_name().as_str();
        let mut size = store.preview_pictures_size(origin).await?;
        while size > most {
            let mut oldest = store.preview_pictures(origin, PICTURES).await?;
            if oldest.is_empty() {
                break;
            }
            oldest.retain(|(_, bytes)| {
                let goes = size > most;
                size -= if goes { (*bytes).min(size) } else { 0 };
                goes
            });
            let ids: Vec<String> = oldest.into_iter().map(|(id, _)| id).collect();
            self.delete_pictures(&ids).await?;
        }
        Ok(())
    }

    /// A picture has come. When a tenth of what they may have is new, room is made, by one at a time.
    async fn has_come(&self, bytes: u64) -> Result<(), MatrixError> {
        let before = self.0.came.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) < self.0.config.pictures_size / 10 {
            return Ok(());
        }
        let Ok(_one) = self.0.making_room.try_lock() else {
            return Ok(());
        };
        self.0.came.store(0, Ordering::Relaxed);
        self.make_room().await
    }

    async fn delete_pictures(&self, ids: &[String]) -> Result<(), MatrixError> {
        let origin = self.0.fed.server_name().as_str();
        let names: Vec<_> = ids.iter().map(|id| (origin, id.as_str())).collect();
        self.0.fed.media().discard(&names).await?;
        self.0.fed.store().forget_preview_pictures(ids).await?;
        Ok(())
    }
}

/// What a preview is kept by.
fn key(url: &Url, language: Option<&str>) -> String {
    let text = format!("{}\n{url}", language.unwrap_or_default());
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
