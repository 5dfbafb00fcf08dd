//! Files: up, down, and in other sizes.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use jpeg_encoder::{ColorType, Encoder};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    drive::{Span, closed},
    http::Failure,
    outcome::{Better, Outcome},
    person::Person,
    probe::{Probe, Usage},
    stats::{Latencies, count},
    world::World,
};

const UPLOAD: &str = "/_matrix/media/v3/upload";
const MIB: usize = 1 << 20;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Somebody with files.
struct Owner {
    person: Person,
    /// Bytes that nobody else has; the first eight say which file it is.
    bytes: Vec<u8>,
    files: u64,
    last: String,
}

impl Owner {
    async fn upload(&mut self) -> Result<(), Failure> {
        self.files += 1;
        self.bytes[..8].copy_from_slice(&self.files.to_be_bytes());
        let body = Bytes::copy_from_slice(&self.bytes);
        self.last = upload(&mut self.person, "application/octet-stream", body).await?;
        Ok(())
    }

    async fn download(&mut self) -> Result<(), Failure> {
        let path = format!("/_matrix/client/v1/media/download/{}", self.last);
        let size = self.person.connection.download(&path).await?;
        if size == self.bytes.len() as u64 {
            Ok(())
        } else {
            Err(Failure::of(format_args!("{size} bytes came")))
        }
    }
}

/// Server and id of a new file, as they stand in paths.
async fn upload(person: &mut Person, kind: &str, body: Bytes) -> Result<String, Failure> {
    let answer = person.connection.upload(UPLOAD, kind, body).await?;
    let answer: Value = serde_json::from_slice(&answer).map_err(Failure::of)?;
    let uri = answer["content_uri"].as_str().unwrap_or_default();
    let file = uri.strip_prefix("mxc://").map(str::to_owned);
    file.ok_or_else(|| Failure::of("an answer without content_uri"))
}

/// Bytes that can't be made smaller, the same for the same seed.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

async fn owners(world: &mut World) -> anyhow::Result<Vec<Owner>> {
    let (clients, size) = world.plan.files;
    let accounts = world.one.accounts(&world.plan, clients).await?;
    let owners = (1..).zip(&accounts).map(|(seed, account)| {
        anyhow::Ok(Owner {
            person: Person::new(account)?,
            bytes: noise(size, seed),
            files: 0,
            last: String::new(),
        })
    });
    owners.collect()
}

/// Uploads, or downloads of what was uploaded, in a closed loop.
pub async fn small(world: &mut World, down: bool) -> anyhow::Result<Outcome> {
    let (clients, size) = world.plan.files;
    let mut owners = owners(world).await?;
    for owner in &mut owners {
        owner.upload().await?;
    }
    let span = Span {
        warm: world.plan.warm,
        measured: world.plan.measured,
    };
    let operation = async |owner: &mut Owner| {
        if down {
            owner.download().await
        } else {
            owner.upload().await
        }
    };
    let (samples, usage) = closed(&mut owners, span, &world.probe, operation).await?;
    let what = format!("{clients} clients, {} KiB each", size / 1024);
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    let per_second = count(latencies.count()) / usage.wall.as_secs_f64();
    let (name, aim) = if down {
        ("downloads/s", "2,500")
    } else {
        ("uploads/s", "900")
    };
    let mib = latencies.count() * size / MIB;
    Ok(outcome
        .figure(name, vec![per_second], Better::Higher)
        .aim(aim)
        .latency("answer", &latencies)
        .cost(&usage, mib, "per MiB"))
}

/// One large file up and down, and what that takes of memory.
pub async fn large(world: &mut World) -> anyhow::Result<Outcome> {
    let size = world.plan.large_file;
    let account = world.one.accounts(&world.plan, 1).await?;
    let mut person = Person::new(account.first().context("there is no account")?)?;
    // What is made at the first upload isn't this one's.
    upload(&mut person, "text/plain", Bytes::from_static(b"first")).await?;
    let body = Bytes::from(noise(size, 7));
    let idle = world.probe.memory()?.map_or(0, |memory| memory.pss);
    let before = world.probe.read()?;
    let start = Instant::now();
    let up = upload(&mut person, "application/octet-stream", body);
    let (file, highest_up) = watched(&world.probe, up).await?;
    let took_up = start.elapsed();
    let path = format!("/_matrix/client/v1/media/download/{}", file?);
    let start = Instant::now();
    let down = person.connection.download(&path);
    let (came, highest_down) = watched(&world.probe, down).await?;
    let took_down = start.elapsed();
    anyhow::ensure!(came? == size as u64, "not all came back");
    let usage: Usage = world.probe.since(before)?;
    let mib = count(size / MIB);
    let above = [highest_up, highest_down].map(|kib| {
        let above = usize::try_from(kib.saturating_sub(idle)).unwrap_or(usize::MAX);
        count(above) / 1024.0
    });
    let mut outcome = Outcome::new(
        &crate::drive::Samples::default(),
        &usage,
        format!("{mib} MiB"),
    );
    outcome.operations = 2;
    Ok(outcome
        .figure(
            "up / down, MiB/s",
            [took_up, took_down]
                .map(|took| mib / took.as_secs_f64())
                .to_vec(),
            Better::Higher,
        )
        .figure(
            "memory above idle, up / down, MiB",
            above.to_vec(),
            Better::Lower,
        )
        .aim("30")
        .cost(&usage, 2 * size / MIB, "per MiB"))
}

/// What comes of `work`, and the most memory (KiB) that the server had meanwhile.
async fn watched<T>(probe: &Probe, work: impl Future<Output = T>) -> anyhow::Result<(T, u64)> {
    let mut most = 0;
    let mut work = std::pin::pin!(work);
    loop {
        let now = probe.memory()?.map_or(0, |memory| memory.pss);
        most = most.max(now);
        tokio::select! {
            done = &mut work => return Ok((done, most)),
            () = sleep(LOOK) => {}
        }
    }
}

/// Pictures of a camera's size: what the first thumbnail of each costs, and one that was made.
pub async fn thumbnails(world: &mut World) -> anyhow::Result<Outcome> {
    let (pictures, width, height) = world.plan.pictures;
    let account = world.one.accounts(&world.plan, 1).await?;
    let mut person = Person::new(account.first().context("there is no account")?)?;
    let mut files = Vec::new();
    for number in 0..pictures {
        let picture = picture(width, height, number)?;
        files.push(upload(&mut person, "image/jpeg", picture.into()).await?);
    }
    // What is made of them beside the uploads is over then.
    settled(&world.probe).await?;
    let asked = async |person: &mut Person, query: &str| -> anyhow::Result<_> {
        let before = world.probe.read()?;
        let (mut samples, mut latencies) = (crate::drive::Samples::default(), Vec::new());
        for file in &files {
            let path = format!("/_matrix/client/v1/media/thumbnail/{file}?{query}");
            let start = Instant::now();
            match person.connection.download(&path).await {
                Ok(_) => latencies.push(start.elapsed()),
                Err(failure) => samples.fail(&failure),
            }
        }
        samples.latencies.clone_from(&latencies);
        Ok((samples, world.probe.since(before)?))
    };
    // No size that anybody makes beforehand.
    let query = "width=400&height=300&method=scale";
    let (samples, usage) = asked(&mut person, query).await?;
    let (again, _) = asked(&mut person, query).await?;
    let what = format!("{pictures} JPEGs of {width}×{height}, 400×300 asked for");
    let mut outcome = Outcome::new(&samples, &usage, what);
    outcome.errors += again.errors;
    let made = samples.latencies.len();
    Ok(outcome
        .latency("first answer", &Latencies::new(samples.latencies))
        .cost(&usage, made, "per first thumbnail (aim: 120)")
        .latency(
            "answer of one that is there",
            &Latencies::new(again.latencies),
        ))
}

/// Waits until the server has nothing more to do, but not for ever.
async fn settled(probe: &Probe) -> anyhow::Result<()> {
    for _ in 0..60 {
        let before = probe.read()?;
        sleep(Duration::from_secs(1)).await;
        let usage = probe.since(before)?;
        if usage.server.unwrap_or_default() * 20 < usage.wall {
            break;
        }
    }
    Ok(())
}

/// Something like a photograph: slow changes of colour with some grain.
fn picture(width: u16, height: u16, number: usize) -> anyhow::Result<Vec<u8>> {
    let grain = noise(1 << 16, number as u64 + 1);
    let mut pixels = Vec::with_capacity(usize::from(width) * usize::from(height) * 3);
    for y in 0..height {
        for x in 0..width {
            let place = usize::from(x) * 31 + usize::from(y) * 17;
            let grain = grain[place % grain.len()] >> 4;
            for shade in [x >> 4, y >> 4, (x + y) >> 5] {
                let [_, shade] = shade.to_be_bytes();
                pixels.push(shade.wrapping_add(grain));
            }
        }
    }
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, 90).encode(&pixels, width, height, ColorType::Rgb)?;
    Ok(jpeg)
}
