//! What is of buckets alone: parts, addresses, and a store that doesn't answer as it should.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::multipart::MultipartStore as _;
use rhizome_media::{
    Media, MediaConfig, MediaError, NewFile, NoPictures, Place, S3Config, SealKey,
};
use rhizome_protocol::Refusal as _;
use rhizome_storage::testing::{eventually, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::bucket;
use crate::world::{ALICE, World, body, each, in_a_bucket, lay, lost, noise, ours, read, taken};

/// As small as parts may be.
const PART: u64 = 5 << 20;

fn config(world: &World) -> &S3Config {
    match world.place() {
        Place::S3(config) => config,
        Place::Disk(_) => panic!("the files are to be in a bucket"),
    }
}

/// Changes how the bucket is used.
fn with(change: impl Fn(&mut S3Config)) -> impl Fn(&mut MediaConfig) {
    move |config| match &mut config.stores[0].place {
        Place::S3(config) => change(config),
        Place::Disk(_) => {}
    }
}

async fn try_upload(media: &Media, bytes: &[u8]) -> Result<String, MediaError> {
    let uploaded = media.upload(Some(ALICE), NewFile::default(), body(bytes));
    match uploaded.await {
        Ok(uploaded) => Ok(uploaded.media_id),
        Err(rhizome_media::UploadError::Media(error)) => Err(error),
        Err(rhizome_media::UploadError::Body(never)) => match never {},
    }
}

#[tokio::test]
async fn what_is_large_goes_in_parts() {
    for keys in [
        vec![],
        vec![SealKey {
            id: "one".to_owned(),
            key: [1; 32],
        }],
    ] {
        let parts = with(|config| config.part_size = PART);
        let settings = |config: &mut MediaConfig| {
            parts(config);
            config.keys.clone_from(&keys);
        };
        in_a_bucket(settings, async |world| {
            let bytes = noise(12 << 20, 50);
            let id = world.upload(&bytes).await;
            let found = world.find(&id).await.unwrap();
            assert!(read(&found).await == bytes);
            let across = 5 << 20;
            let part = found.read(Some(across - 10..across + 10)).await.unwrap();
            let part: Vec<bytes::Bytes> =
                futures_util::TryStreamExt::try_collect(part).await.unwrap();
            let across = usize::try_from(across).unwrap();
            assert_eq!(part.concat(), bytes[across - 10..across + 10]);
            let lies = world.files().await;
            assert_eq!((lies[0].len(), lies[1].len()), (1, 0));
        })
        .await;
    }
}

#[tokio::test]
async fn parts_that_were_never_completed_are_swept() {
    in_a_bucket(
        |_| {},
        async |world| {
            let client = bucket::client(config(world));
            let lost = bucket::location(config(world), &lost(0));
            let id = client.create_multipart(&lost).await.unwrap();
            // Somebody else's in the same place, as its name says.
            let strange = bucket::location(config(world), "backup/abcd-half");
            let strange_id = client.create_multipart(&strange).await.unwrap();
            let part = bytes::Bytes::from(noise(5 << 20, 51));
            client.put_part(&lost, &id, 0, part.into()).await.unwrap();
            // Others' are none of ours.
            let other = S3Config {
                prefix: bucket::prefix(),
                ..config(world).clone()
            };
            let others = bucket::location(&other, &crate::world::lost(0));
            let other_id = client.create_multipart(&others).await.unwrap();
            assert_eq!(world.media.sweep().await.unwrap().unwrap().unfinished, 0);
            world.clock.advance(Duration::from_hours(2));
            assert_eq!(world.media.sweep().await.unwrap().unwrap().unfinished, 1);
            assert_eq!(world.media.sweep().await.unwrap().unwrap().unfinished, 0);
            client.abort_multipart(&others, &other_id).await.unwrap();
            let strange = client.abort_multipart(&strange, &strange_id);
            strange.await.unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn more_files_than_a_page_has_are_listed() {
    in_a_bucket(
        |_| {},
        async |world| {
            let id = world.upload(b"known").await;
            let place = world.place();
            let lost: Vec<String> = (0..1_005).map(lost).collect();
            for some in lost.chunks(50) {
                let some = some.iter().map(|key| lay(place, key, Some(b"x")));
                futures_util::future::join_all(some).await;
            }
            world.clock.advance(Duration::from_hours(2));
            assert_eq!(world.media.sweep().await.unwrap().unwrap().orphans, 1_005);
            assert_eq!(world.files().await[0].len(), 1);
            assert!(world.find(&id).await.is_some());
        },
    )
    .await;
}

#[tokio::test]
async fn addresses_lead_to_what_lies_in_a_bucket_for_a_while() {
    bucket::provide();
    let http = reqwest::Client::new();
    each(async |world| {
        let bytes = noise(100_000, 52);
        let id = world.upload(&bytes).await;
        let found = world.find(&id).await.unwrap();
        let disposition = "attachment; filename*=utf-8''na%20me.png";
        let address = async |valid_for| {
            let address = found.redirect_for(valid_for, "image/png", disposition);
            address.await.unwrap()
        };
        let Some(long) = address(Duration::from_mins(1)).await else {
            assert_eq!(world.disk, crate::world::Disk::Local);
            return;
        };
        let answer = http.get(&long).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "image/png");
        assert_eq!(answer.headers()["content-disposition"], disposition);
        assert_eq!(answer.bytes().await.unwrap(), bytes);
        // It is for this, and for nothing else.
        let other = long.replace("image%2Fpng", "text%2Fhtml");
        assert_ne!(other, long);
        assert_eq!(http.get(other).send().await.unwrap().status(), 403);
        let put = http.put(&long).body("other bytes").send();
        assert_eq!(put.await.unwrap().status(), 403);
        let short = address(Duration::from_secs(1)).await.unwrap();
        eventually("it holds no more", async || {
            http.get(&short).send().await.unwrap().status() == 403
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_encrypted_or_kept_to_us_has_no_address() {
    let sealed = |config: &mut MediaConfig| {
        config.keys = vec![SealKey {
            id: "one".to_owned(),
            key: [1; 32],
        }];
    };
    let no_address = async |world: &World| {
        let id = world.upload(b"not for strangers").await;
        let found = world.find(&id).await.unwrap();
        let address = found.redirect("text/plain", "inline");
        assert_eq!(address.await.unwrap(), None);
    };
    in_a_bucket(sealed, no_address).await;
    in_a_bucket(with(|config| config.public_endpoint = None), no_address).await;
}

#[tokio::test]
async fn what_was_changed_on_its_way_is_not_taken() {
    in_a_bucket(
        |_| {},
        async |world| {
            let between = Between::begin(config(world)).await;
            let media = between.media(world, |_| {});
            between.change.store(1, Ordering::SeqCst);
            let id = soon("it is sent again", try_upload(&media, &noise(50_000, 53))).await;
            let row = world
                .store
                .media(ours().as_str(), &id.unwrap())
                .await
                .unwrap()
                .unwrap();
            let lies = taken(world.place(), &row.blob.unwrap().key).await;
            assert!(lies == noise(50_000, 53));
        },
    )
    .await;
}

#[tokio::test]
async fn a_store_that_fails_is_asked_again() {
    in_a_bucket(
        |_| {},
        async |world| {
            let bytes = noise(200_000, 54);
            let between = Between::begin(config(world)).await;
            for (failures, works) in [(2, true), (100, false)] {
                let media = between.media(world, |_| {});
                between.fail.store(failures, Ordering::SeqCst);
                let bytes = [&bytes[..], &failures.to_le_bytes()].concat();
                let uploaded = soon("it says", try_upload(&media, &bytes)).await;
                assert_eq!(uploaded.is_ok(), works, "{uploaded:?}");
                if let Err(error) = uploaded {
                    is_told(&error, config(world));
                }
            }
            between.fail.store(0, Ordering::SeqCst);
            let id = world.upload(&bytes).await;
            let media = between.media(world, |_| {});
            between.fail.store(2, Ordering::SeqCst);
            let found = media.find(ours(), &id, Duration::ZERO).await.unwrap();
            assert!(read(&found).await == bytes);
            assert!(world.files().await[1].is_empty());
        },
    )
    .await;
}

#[tokio::test]
async fn a_store_that_says_nothing_is_not_waited_for() {
    in_a_bucket(
        |_| {},
        async |world| {
            let id = world.upload(&noise(1_000, 55)).await;
            let between = Between::begin(config(world)).await;
            between.hang.store(1, Ordering::SeqCst);
            let media = between.media(world, |config| config.patience = Duration::from_millis(100));
            // More than fits into the buffers of a connection, and less.
            for size in [20 << 20, 10] {
                let uploaded = soon("it says", try_upload(&media, &noise(size, 56))).await;
                is_told(&uploaded.unwrap_err(), config(world));
            }
            let found = media.find(ours(), &id, Duration::ZERO).await.unwrap();
            let reading = soon("it says", found.read(None)).await;
            is_told(&reading.unwrap_err(), config(world));
            let swept = soon("it says", media.sweep()).await.unwrap().unwrap();
            assert_eq!((swept.failed, swept.orphans), (1, 0));
            assert_eq!(world.files().await.map(|files| files.len()), [1, 0]);
        },
    )
    .await;
}

/// Clients hear that the server is busy, the log what happened, and neither a secret.
fn is_told(error: &MediaError, config: &S3Config) {
    assert!(matches!(error, MediaError::Unreachable(_)), "{error:?}");
    assert!(error.status() == 503 && error.is_for_the_log());
    let said = format!("{error} {error:?}");
    for secret in [&config.secret_key, "Signature", "uploadId"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_not_ours_is_an_error() {
    in_a_bucket(
        |_| {},
        async |world| {
            let open = |change: &dyn Fn(&mut S3Config)| {
                let mut other = world.media.config().clone();
                with(change)(&mut other);
                Media::open(world.store.clone(), other, Arc::new(NoPictures)).unwrap()
            };
            let id = world.upload(b"here").await;
            for media in [
                open(&|config| "nowhere".clone_into(&mut config.bucket)),
                open(&|config| "wrong".clone_into(&mut config.secret_key)),
            ] {
                let failed = try_upload(&media, b"anything").await.unwrap_err();
                assert!(matches!(failed, MediaError::Bytes(_)), "{failed:?}");
                let found = media.find(ours(), &id, Duration::ZERO).await.unwrap();
                assert!(found.read(None).await.is_err());
            }
            assert_eq!(read(&world.find(&id).await.unwrap()).await, b"here");
        },
    )
    .await;
}

/// Stands between the service and the store.
struct Between {
    endpoint: String,
    /// So many connections are answered with 500.
    fail: Arc<AtomicUsize>,
    /// Of so many a byte is changed.
    change: Arc<AtomicUsize>,
    /// Whether nothing is answered.
    hang: Arc<AtomicUsize>,
}

impl Between {
    async fn begin(config: &S3Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let behind = config.endpoint.strip_prefix("http://").unwrap().to_owned();
        let all: [Arc<AtomicUsize>; 3] = Default::default();
        let [fail, change, hang] = all.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(one(socket, behind.clone(), all.clone()));
            }
        });
        Self {
            endpoint,
            fail,
            change,
            hang,
        }
    }

    /// The same files through this.
    fn media(&self, world: &World, change: impl Fn(&mut S3Config)) -> Media {
        let mut config = world.media.config().clone();
        with(|config: &mut S3Config| {
            config.endpoint.clone_from(&self.endpoint);
            change(config);
        })(&mut config);
        Media::open(world.store.clone(), config, Arc::new(NoPictures)).unwrap()
    }
}

/// Takes one, if there is one left.
fn take(from: &AtomicUsize) -> bool {
    let taken = from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    });
    taken.is_ok()
}

async fn one(mut socket: TcpStream, behind: String, all: [Arc<AtomicUsize>; 3]) {
    let [fail, change, hang] = all;
    if hang.load(Ordering::SeqCst) > 0 {
        std::future::pending::<()>().await;
    }
    if take(&fail) {
        whole(&mut socket).await;
        let answer = b"HTTP/1.1 500 oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _ = socket.write_all(answer).await;
        return;
    }
    let mut store = TcpStream::connect(behind).await.unwrap();
    if take(&change) {
        let mut request = whole(&mut socket).await;
        *request.last_mut().unwrap() ^= 1;
        store.write_all(&request).await.unwrap();
    }
    let _ = copy_bidirectional(&mut socket, &mut store).await;
}

/// A request with its body.
async fn whole(socket: &mut TcpStream) -> Vec<u8> {
    let (mut got, mut wanted) = (Vec::new(), usize::MAX);
    while got.len() < wanted {
        let mut piece = [0; 8_192];
        let read = socket.read(&mut piece).await.unwrap();
        if read == 0 {
            break;
        }
        got.extend_from_slice(&piece[..read]);
        if wanted == usize::MAX
            && let Some(end) = got.windows(4).position(|end| end == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&got[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            wanted = end + 4 + length;
        }
    }
    got
}
