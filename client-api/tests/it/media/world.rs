//! A server with files, pictures that say what they are, and strangers who have files.

use std::{
    collections::HashMap,
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use http::{HeaderMap, Method, Request, header};
use rhizome_client_api::{ClientConfig, Files, LinkPreviews, MatrixError, RemoteFiles};
use rhizome_edge::RawJson;
use rhizome_media::{
    Content, FetchError, Fetched, Format, Made, Media, MediaConfig, MediaError, PictureError,
    Pictures, Place, Reading, Wanted,
};
use rhizome_storage::{Clock, Options, Store, testing::TestDatabase};
use ruma::{ServerName, UserId};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWrite};

use crate::asking::{HttpAnswer, SERVER, START_MS, Server, User, config, text};

/// The settings of a test's server.
pub struct Settings {
    pub client: ClientConfig,
    pub media: MediaConfig,
    /// Whether there are previews of links.
    pub previews: bool,
}

/// A server with files.
pub struct World {
    server: Server,
    pub media: Media,
    pub strangers: Arc<Strangers>,
}

impl Deref for World {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// Runs a test on both databases.
pub async fn each(test: impl AsyncFn(World)) {
    each_with(|_| {}, test).await;
}

/// The same with other settings.
pub async fn each_with(change: impl Fn(&mut Settings), test: impl AsyncFn(World)) {
    for database in TestDatabase::both().await {
        let clock = Clock::manual(START_MS);
        let options = Options {
            clock: clock.clone(),
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let client = config();
        let media = MediaConfig::new(client.server_name.clone(), folder.path());
        let mut settings = Settings {
            client,
            media,
            previews: true,
        };
        change(&mut settings);
        let media = Media::open(store.clone(), settings.media, Arc::new(Painter)).unwrap();
        let strangers = Arc::new(Strangers::of(media.clone()));
        let files = Files {
            media: media.clone(),
            remote: strangers.clone(),
            previews: settings.previews.then(|| strangers.clone() as _),
        };
        let server = Server::with_files(store.clone(), clock, settings.client, (files, folder));
        test(World {
            server,
            media,
            strangers,
        })
        .await;
        store.close().await;
        database.remove().await;
    }
}

/// What a file begins with that the painter takes for a picture.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest";

/// From this width on a picture is the file itself.
pub const LARGE: u32 = 1_000;

/// Makes pictures that say what they are.
struct Painter;

impl Pictures for Painter {
    fn most_bytes(&self) -> u64 {
        1_000
    }

    fn thumbnails<'a>(
        &'a self,
        mut file: Reading,
        wanted: &'a [Wanted],
    ) -> BoxFuture<'a, Result<Vec<Made>, PictureError>> {
        async move {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await.unwrap();
            if !bytes.starts_with(b"\x89PNG") {
                return Err(PictureError::NotAPicture);
            }
            Ok(wanted.iter().map(paint).collect())
        }
        .boxed()
    }

    fn blurhash(&self, mut file: Reading) -> BoxFuture<'_, Result<String, PictureError>> {
        async move {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await.unwrap();
            let is_picture = bytes.starts_with(b"\x89PNG");
            is_picture
                .then(|| "LEHV6nWB2yk8pyo0adR*.7kCMdnj".to_owned())
                .ok_or(PictureError::NotAPicture)
        }
        .boxed()
    }

    fn strip<'a>(
        &'a self,
        _: Reading,
        _: &'a mut (dyn AsyncWrite + Send + Unpin),
    ) -> BoxFuture<'a, Result<(), PictureError>> {
        async { Err(PictureError::NotAPicture) }.boxed()
    }
}

/// A picture; of what is wide enough the file itself.
fn paint(wanted: &Wanted) -> Made {
    let (width, height, method) = (wanted.width, wanted.height, wanted.method.name());
    let (animated, format) = (wanted.animated, wanted.format);
    let is_whole = width >= LARGE;
    let text = format!("{width}x{height} {method} {animated} {format:?}");
    let content_type = match format {
        Format::Webp if !is_whole => "image/webp",
        _ => "image/png",
    };
    Made {
        bytes: (!is_whole).then(|| text.into()),
        content_type: content_type.to_owned(),
    }
}

/// What a server elsewhere has.
#[derive(Debug, Clone, Default)]
pub struct Stranger {
    pub content_type: Option<&'static str>,
    pub name: Option<&'static str>,
    pub pieces: Vec<Result<Bytes, FetchError>>,
    pub length: Option<u64>,
}

/// Servers elsewhere, by which their files are fetched.
pub struct Strangers {
    media: Media,
    files: Mutex<HashMap<String, Result<Stranger, FetchError>>>,
    /// What was fetched, and how long it was waited for.
    pub asked: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Strangers {
    fn of(media: Media) -> Self {
        Self {
            media,
            files: Mutex::default(),
            asked: Arc::default(),
        }
    }

    pub fn have(&self, id: &str, file: Result<Stranger, FetchError>) {
        self.files.lock().unwrap().insert(id.to_owned(), file);
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl RemoteFiles for Strangers {
    fn file<'a>(
        &'a self,
        origin: &'a ServerName,
        media_id: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>> {
        let nothing = Err(FetchError::NotFound);
        let files = self.files.lock().unwrap();
        let file = files.get(media_id).cloned().unwrap_or(nothing);
        drop(files);
        let (asked, name) = (self.asked.clone(), format!("{origin}/{media_id}"));
        let fetch = move || async move {
            asked.lock().unwrap().push((name, wait));
            file.map(|file| Fetched {
                content_type: file.content_type.map(ToOwned::to_owned),
                name: file.name.map(ToOwned::to_owned),
                length: file.length,
                body: stream::iter(file.pieces).boxed(),
            })
        };
        let patience = Duration::from_mins(1);
        self.media.remote(origin, media_id, patience, fetch).boxed()
    }

    fn thumbnail<'a>(
        &'a self,
        origin: &'a ServerName,
        media_id: &'a str,
        wanted: Wanted,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>> {
        async move {
            let file = self.file(origin, media_id, wait).await?;
            self.media.thumbnail(&file, wanted).await
        }
        .boxed()
    }
}

impl LinkPreviews for Strangers {
    fn preview<'a>(
        &'a self,
        user: &'a UserId,
        link: &'a str,
        language: Option<&'a str>,
    ) -> BoxFuture<'a, Result<RawJson, MatrixError>> {
        let told = json!({ "og:title": link, "og:locale": language, "for": user });
        async move {
            if link.starts_with("https://") {
                return RawJson::of(&told);
            }
            Err(MatrixError::bad_gateway("There is nothing"))
        }
        .boxed()
    }
}

pub const UPLOAD: &str = "/_matrix/media/v3/upload";
pub const CREATE: &str = "/_matrix/media/v1/create";

/// The path of a download of a file of ours.
pub fn download(id: &str) -> String {
    format!("/_matrix/client/v1/media/download/{SERVER}/{id}")
}

/// The same for who doesn't say who they are.
pub fn old_download(id: &str) -> String {
    format!("/_matrix/media/v3/download/{SERVER}/{id}")
}

/// The id of one of our files, from an answer that has its address.
pub fn id_of(answer: HttpAnswer) -> String {
    let uri = text(&answer.ok()["content_uri"]);
    let id = uri.strip_prefix(&format!("mxc://{SERVER}/"));
    id.unwrap_or_else(|| panic!("{uri}")).to_owned()
}

/// A request with headers.
pub fn request(
    method: Method,
    path: &str,
    user: Option<&User>,
    headers: &[(&str, &str)],
) -> Request<Body> {
    with_body(method, path, user, headers, Body::empty())
}

/// The same with a body.
pub fn with_body(
    method: Method,
    path: &str,
    user: Option<&User>,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(user) = user {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", user.token));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

/// A header of an answer; empty if there is none.
pub fn told<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

impl World {
    /// A user uploads a file; gives its id.
    pub async fn upload(&self, user: &User, kind: &str, name: &str, bytes: &[u8]) -> String {
        let query = if name.is_empty() {
            String::new()
        } else {
            format!("?filename={}", crate::harness::esc(name))
        };
        let path = format!("{UPLOAD}{query}");
        let headers = [("content-type", kind)];
        let body = Body::from(bytes.to_vec());
        let request = with_body(Method::POST, &path, Some(user), &headers, body);
        id_of(self.raw(request).await)
    }

    pub async fn get(&self, user: &User, path: &str) -> HttpAnswer {
        self.get_with(user, path, &[]).await
    }

    pub async fn get_with(&self, user: &User, path: &str, headers: &[(&str, &str)]) -> HttpAnswer {
        self.raw(request(Method::GET, path, Some(user), headers))
            .await
    }

    /// A request of somebody who doesn't say who they are.
    pub async fn anybody(&self, path: &str) -> HttpAnswer {
        self.raw(request(Method::GET, path, None, &[])).await
    }

    /// How many files lie in the store, finished or not.
    pub fn files(&self) -> usize {
        let mut count = 0;
        for store in &self.media.config().stores {
            #[allow(irrefutable_let_patterns, reason = "there are more kinds of places")]
            let Place::Disk(folder) = &store.place else {
                continue;
            };
            let mut folders: Vec<PathBuf> = vec![folder.clone()];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else {
                        count += 1;
                    }
                }
            }
        }
        count
    }
}
