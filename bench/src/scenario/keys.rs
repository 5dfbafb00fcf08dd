//! Keys for end-to-end encryption: devices upload theirs, others claim them.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::Method;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value, json};

use crate::{
    drive::{Span, closed, each},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person},
    probe::Usage,
    stats::{Latencies, count},
    world::{WIDTH, World},
};

/// One-time keys of a device, as clients upload them.
pub(super) const KEYS: usize = 50;

const CLAIM: &str = "/_matrix/client/v3/keys/claim";

/// An upload that is made beforehand, so that signing isn't measured.
pub(super) struct Upload {
    person: Person,
    device: String,
    body: String,
}

/// A device whose keys are claimed.
pub(super) struct Target {
    user: String,
    device: String,
}

/// The object with a signature of the device.
fn signed(key: &Ed25519KeyPair, user: &str, device: &str, mut object: Value) -> Value {
    // Its keys are in order already, as the canonical form wants them.
    let signature = key.sign(object.to_string().as_bytes());
    let signature = STANDARD_NO_PAD.encode(signature.as_ref());
    object["signatures"] = json!({ user: { format!("ed25519:{device}"): signature } });
    object
}

impl Upload {
    pub(super) async fn prepare(
        account: &Account,
        number: usize,
        keys: usize,
    ) -> Result<Self, Failure> {
        let mut person = Person::new(account)?;
        let device = person.device().await?;
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(Failure::of)?;
        let public = STANDARD_NO_PAD.encode(key.public_key().as_ref());
        let user = &account.id;
        let own = signed(
            &key,
            user,
            &device,
            json!({
                "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
                "device_id": device,
                "keys": { format!("curve25519:{device}"): public, format!("ed25519:{device}"): public },
                "user_id": user,
            }),
        );
        let one_time: Map<String, Value> = (0..keys)
            .map(|n| {
                let bytes = [number.to_be_bytes(), n.to_be_bytes(), [1; 8], [2; 8]].concat();
                let one = json!({ "key": STANDARD_NO_PAD.encode(bytes) });
                (
                    format!("signed_curve25519:{n:06}"),
                    signed(&key, user, &device, one),
                )
            })
            .collect();
        let body = json!({ "device_keys": own, "one_time_keys": one_time }).to_string();
        Ok(Self {
            person,
            device,
            body,
        })
    }

    pub(super) async fn send(mut self) -> Result<Target, Failure> {
        let path = "/_matrix/client/v3/keys/upload";
        let connection = &mut self.person.connection;
        connection.call(Method::POST, path, Some(self.body)).await?;
        Ok(Target {
            user: self.person.account.id,
            device: self.device,
        })
    }
}

/// New devices that have nothing uploaded yet, and their uploads.
async fn uploads(world: &mut World, keys: usize) -> anyhow::Result<Vec<Upload>> {
    let devices = world.plan.devices;
    let made = world.one.register(&world.plan, devices, WIDTH).await;
    let accounts = made.all(devices, "registering")?;
    let numbered = accounts.iter().enumerate();
    let done = each(
        numbered,
        WIDTH,
        world.plan.setup_limit,
        async |(number, account)| Upload::prepare(account, number, keys).await,
    )
    .await;
    done.all(devices, "making keys")
}

/// Devices upload their keys, 50 to give out among them.
pub async fn upload(world: &mut World) -> anyhow::Result<Outcome> {
    let uploads = uploads(world, KEYS).await?;
    let before = world.probe.read()?;
    let done = each(uploads, world.plan.senders, world.plan.limit, Upload::send).await;
    let usage = world.probe.since(before)?;
    let what = format!(
        "{} at a time, {KEYS} one-time keys each",
        world.plan.senders
    );
    let outcome = Outcome::new(&done.samples, &usage, what);
    let latencies = Latencies::new(done.samples.latencies);
    let per_second = count(latencies.count()) / usage.wall.as_secs_f64();
    Ok(outcome
        .figure("uploads/s", vec![per_second], Better::Higher)
        .latency("answer", &latencies)
        .cost(&usage, latencies.count(), "per upload"))
}

/// Somebody who claims keys of one device after the other.
struct Claimer<'a> {
    person: Person,
    targets: &'a [Target],
    next: usize,
    step: usize,
}

impl Claimer<'_> {
    async fn claim(&mut self, keys: usize) -> Result<(), Failure> {
        let mut wanted: Map<String, Value> = Map::new();
        for _ in 0..keys {
            let target = &self.targets[self.next % self.targets.len()];
            self.next += self.step;
            let device = json!({ &target.device: "signed_curve25519" });
            wanted.insert(target.user.clone(), device);
        }
        let body = json!({ "one_time_keys": wanted }).to_string();
        let connection = &mut self.person.connection;
        let answer = connection.call(Method::POST, CLAIM, Some(body)).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(Failure::of)?;
        let given = answer["one_time_keys"].as_object().map_or(0, Map::len);
        if given < keys {
            return Err(Failure::of(format_args!(
                "{given} of {keys} keys were given"
            )));
        }
        Ok(())
    }
}

/// Keys are claimed, `keys` by each request, by several at once.
pub async fn claim(world: &mut World, keys: usize, aim: Option<&str>) -> anyhow::Result<Outcome> {
    let devices = world.plan.devices;
    let uploads = uploads(world, world.plan.one_time_keys).await?;
    let uploaded = each(uploads, WIDTH, world.plan.setup_limit, Upload::send).await;
    let targets = uploaded.all(devices, "uploading keys")?;
    let people = world.one.people(&world.plan, world.plan.senders).await?;
    let step = people.len();
    let mut claimers: Vec<_> = (people.into_iter().enumerate())
        .map(|(next, person)| Claimer {
            person,
            targets: &targets,
            next,
            step,
        })
        .collect();
    let span = Span {
        warm: world.plan.warm,
        measured: world.plan.measured,
    };
    let keys = keys.min(devices / step.max(1)).max(1);
    let claiming = async |claimer: &mut Claimer<'_>| claimer.claim(keys).await;
    let (samples, usage) = closed(&mut claimers, span, &world.probe, claiming).await?;
    let what = format!("closed loop, {step} at once, {keys} a request");
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    Ok(rate(outcome, &usage, &latencies, keys, aim))
}

fn rate(
    outcome: Outcome,
    usage: &Usage,
    latencies: &Latencies,
    keys: usize,
    aim: Option<&str>,
) -> Outcome {
    let claims = latencies.count() * keys;
    let per_second = count(claims) / usage.wall.as_secs_f64();
    let outcome = outcome.figure("claims/s", vec![per_second], Better::Higher);
    let outcome = match aim {
        Some(aim) => outcome.aim(aim),
        None => outcome,
    };
    outcome
        .latency("answer", latencies)
        .cost(usage, claims, "per claim")
}
