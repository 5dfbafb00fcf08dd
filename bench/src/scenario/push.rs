//! Notifications: from sending a message to the push gateway's request.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use crate::{
    drive::{Series, Span, closed, paced},
    http::Failure,
    outcome::{Better, Outcome},
    person::{Person, Room, message},
    stats::{Latencies, count},
    world::World,
};

/// A notification is given up after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is told, by pushkey.
type Phones = Arc<Mutex<Vec<mpsc::UnboundedSender<Instant>>>>;

/// Push gateways on this machine, and what they are told by pushkey.
pub struct Gateways {
    addresses: Vec<SocketAddr>,
    told: Phones,
}

impl Gateways {
    /// Begins to listen, on a loopback address for each.
    pub async fn start(number: usize) -> anyhow::Result<Self> {
        let told = Phones::default();
        let mut addresses = Vec::with_capacity(number);
        for host in (1..).take(number) {
            let host = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + host);
            let listener = TcpListener::bind((host, 0)).await?;
            addresses.push(listener.local_addr()?);
            tokio::spawn(listen(listener, told.clone()));
        }
        Ok(Self { addresses, told })
    }

    /// Another phone of somebody's; gives when it is told.
    pub async fn phone(
        &self,
        owner: &mut Person,
    ) -> Result<mpsc::UnboundedReceiver<Instant>, Failure> {
        let (key, told) = self.next();
        let address = self.addresses[key % self.addresses.len()];
        let pusher = serde_json::json!({
            "kind": "http",
            "app_id": "org.example.bench",
            "pushkey": key.to_string(),
            "app_display_name": "Bench",
            "device_display_name": "Phone",
            "lang": "en",
            "data": { "url": format!("http://{address}/_matrix/push/v1/notify") },
        });
        let path = "/_matrix/client/v3/pushers/set";
        let body = pusher.to_string();
        owner
            .connection
            .call(Method::POST, path, Some(body))
            .await?;
        Ok(told)
    }

    fn next(&self) -> (usize, mpsc::UnboundedReceiver<Instant>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(sender);
        (told.len() - 1, receiver)
    }
}

async fn listen(listener: TcpListener, told: Phones) {
    while let Ok((stream, _)) = listener.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            let serve = service_fn(move |request| notified(request, told.clone()));
            // A server that closes a connection opens another one.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve)
                .await;
        });
    }
}

/// A notification. Those of numbers alone don't count.
async fn notified(
    request: Request<Incoming>,
    told: Phones,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    if let Ok(body) = request.into_body().collect().await {
        let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let notification = &body["notification"];
        let key = notification["devices"][0]["pushkey"].as_str();
        let phone = key.and_then(|key| key.parse::<usize>().ok());
        let phone = phone.filter(|_| !notification["event_id"].is_null());
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(phone) = phone.and_then(|phone| told.get(phone)) {
            // Who doesn't wait any more has given up.
            let _ = phone.send(at);
        }
    }
    let answer = Full::new(Bytes::from_static(b"{\"rejected\":[]}"));
    Ok(Response::new(answer))
}

/// Who writes to somebody with a phone.
struct Pair {
    sender: Person,
    room: Room,
    told: mpsc::UnboundedReceiver<Instant>,
}

impl Pair {
    async fn new(
        gateways: &Gateways,
        mut sender: Person,
        mut owner: Person,
    ) -> Result<Self, Failure> {
        let told = gateways.phone(&mut owner).await?;
        let room = sender.create_room("with a phone").await?;
        owner.join(&room, None).await?;
        Ok(Self { sender, room, told })
    }

    /// Sends a message and waits until the gateway is told. Gives how long that took.
    async fn exchange(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.sender.say(&self.room, &message(0)).await?;
        let told = heard(&mut self.told).await?;
        Ok(told.saturating_duration_since(start))
    }
}

/// When a phone is told the next time.
pub async fn heard(told: &mut mpsc::UnboundedReceiver<Instant>) -> Result<Instant, Failure> {
    let told = timeout(PATIENCE, told.recv()).await;
    let told = told.map_err(|_| Failure::of("nobody was notified"))?;
    told.ok_or_else(|| Failure::of("the gateway has ended"))
}

async fn pairs(world: &mut World, number: usize, gateways: usize) -> anyhow::Result<Vec<Pair>> {
    let gateways = Gateways::start(gateways).await?;
    let people = world.one.people(&world.plan, 2 * number).await?;
    let (mut pairs, mut people) = (Vec::new(), people.into_iter());
    while let (Some(sender), Some(owner)) = (people.next(), people.next()) {
        pairs.push(Pair::new(&gateways, sender, owner).await?);
    }
    Ok(pairs)
}

/// One message at a time.
pub async fn one(world: &mut World) -> anyhow::Result<Outcome> {
    let mut pairs = pairs(world, 1, 1).await?;
    let Some(pair) = pairs.first_mut() else {
        anyhow::bail!("nobody to send");
    };
    let series = Series {
        count: world.plan.latencies,
        limit: world.plan.limit,
        every: world.plan.every,
    };
    let (samples, usage) = paced(series, 10, &world.probe, async |_| pair.exchange().await).await?;
    let outcome = Outcome::new(&samples, &usage, "one message at a time, one gateway");
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome
        .latency("sent to gateway", &latencies)
        .aim("5/-/20")
        .cost(&usage, latencies.count(), "per notification"))
}

/// Several pairs, each with the next message when the gateway was told of the last.
pub async fn many(world: &mut World) -> anyhow::Result<Outcome> {
    let pairs = pairs(world, 8 * world.plan.senders, 1).await?;
    busy(world, pairs, "one gateway").await
}

/// Many pairs with a gateway each.
pub async fn gateways(world: &mut World) -> anyhow::Result<Outcome> {
    let number = world.plan.gateways;
    let pairs = pairs(world, number, number).await?;
    busy(world, pairs, "a gateway each").await
}

async fn busy(world: &World, mut pairs: Vec<Pair>, to: &str) -> anyhow::Result<Outcome> {
    let span = Span {
        warm: world.plan.warm,
        measured: world.plan.measured,
    };
    let exchange = async |pair: &mut Pair| pair.exchange().await.map(drop);
    let (samples, usage) = closed(&mut pairs, span, &world.probe, exchange).await?;
    let what = format!("closed loop, {} pairs, {to}", pairs.len());
    let outcome = Outcome::new(&samples, &usage, what);
    let told = samples.latencies.len();
    let per_second = count(told) / usage.wall.as_secs_f64();
    let latencies = Latencies::new(samples.latencies);
    Ok(outcome
        .figure("notifications/s", vec![per_second], Better::Higher)
        .latency("sent to gateway", &latencies)
        .cost(&usage, told, "per notification"))
}
