//! Application services: what being told of messages costs the server, and how soon they are told.
//!
//! The services are registered at the first server and recorded here; the second has none, and the same rooms. So what
//! a message costs with and without them is measured in the same run, in turns.

use std::{
    cell::Cell,
    convert::Infallible,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use crate::{
    drive::{Samples, Series, each, paced},
    http::{Connection, Failure},
    outcome::{Better, Outcome},
    person::{Account, Person, Room, message, messages_in},
    plan::Plan,
    probe::{Probe, Usage},
    stats::{Latencies, count},
    world::{Service, Site, WIDTH, World},
};

/// What hasn't been told after this is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often what a message costs is measured with services, and without.
const TURNS: usize = 3;
/// In a second.
const MICROS: f64 = 1e6;

/// The numbers of messages of which services were told.
type Told = mpsc::UnboundedReceiver<(u64, Instant)>;

/// Somebody who writes into the rooms of one service.
struct Writer {
    person: Person,
    rooms: Vec<Room>,
    next: usize,
}

impl Writer {
    async fn say(&mut self, number: u64) -> Result<(), Failure> {
        let room = &self.rooms[self.next % self.rooms.len()];
        self.next += 1;
        self.person.say(room, &message(number)).await
    }
}

/// Times from sending to being told, one message at a time; then what messages cost, with services and without.
pub async fn services(world: &mut World) -> anyhow::Result<Outcome> {
    let services = world.services.clone();
    let (plan, probe, one, two) = world.both()?;
    let (plan, probe) = (plan.clone(), probe.clone());
    let bare_probe = Probe {
        one: probe.two,
        two: None,
        ..probe.clone()
    };
    let mut told = record(&services).await?;
    let mut with = writers(one, &plan, &services.iter().map(Some).collect::<Vec<_>>()).await?;
    let mut without = writers(two, &plan, &vec![None; services.len()]).await?;
    let mut numbers = 0..;
    let mut next = || numbers.next().unwrap_or_default();

    let series = Series {
        count: plan.latencies,
        limit: plan.limit,
        every: plan.every,
    };
    let (samples, usage) = paced(series, 10, &probe, async |turn| {
        let (at, number) = (turn % with.len(), next());
        let start = Instant::now();
        with[at].say(number).await?;
        let heard = hear_of(&mut told, number).await?;
        Ok(heard.saturating_duration_since(start))
    })
    .await?;

    let each_time = plan.service_messages;
    let (mut dear, mut cheap) = (Vec::new(), Vec::new());
    let mut all = Samples::default();
    for _ in 0..TURNS {
        let bare = burst(
            &mut without,
            each_time,
            &bare_probe,
            &mut next,
            None,
            &mut all,
        )
        .await?;
        cheap.push(bare);
        let full = burst(
            &mut with,
            each_time,
            &probe,
            &mut next,
            Some(&mut told),
            &mut all,
        )
        .await?;
        dear.push(full);
    }
    // Nothing comes twice, nor afterwards.
    if told.try_recv().is_ok() {
        all.fail(&Failure::of("a service was told of a message twice"));
    }

    let what = format!(
        "{} services with {} rooms each; one message at a time, then {TURNS} times {each_time} as fast as they are answered",
        services.len(),
        plan.service_rooms,
    );
    let mut outcome = Outcome::new(&samples, &usage, what);
    outcome.errors += all.errors;
    outcome.first_error = outcome.first_error.or(all.first_error);
    let outcome = outcome
        .latency("sent to service", &Latencies::new(samples.latencies))
        .aim("3/-/10");
    Ok(compared(outcome, &dear, &cheap, each_time))
}

/// Adds what messages cost, in the middle of the turns.
fn compared(outcome: Outcome, dear: &[Usage], cheap: &[Usage], messages: usize) -> Outcome {
    let middle = |usages: &[Usage], of: fn(&Usage) -> Option<Duration>| {
        let mut values: Vec<Duration> = usages.iter().filter_map(of).collect();
        values.sort_unstable();
        let value = values.get(values.len() / 2)?;
        Some(value.as_secs_f64() * MICROS / count(messages))
    };
    let cpu: fn(&Usage) -> Option<Duration> = |usage| {
        let database = usage.database.unwrap_or_default();
        usage.server.map(|server| server + database)
    };
    let (Some(dear), Some(cheap)) = (middle(dear, cpu), middle(cheap, cpu)) else {
        return outcome;
    };
    outcome
        .figure(
            "CPU µs per message, with services",
            vec![dear],
            Better::Lower,
        )
        .figure("CPU µs per message, without", vec![cheap], Better::Lower)
        .figure(
            "CPU µs per message, added",
            vec![dear - cheap],
            Better::Lower,
        )
        .aim("10")
}

/// Sends so many messages, all writers at a time; waits until the services have been told of all, if they are recorded.
async fn burst(
    writers: &mut [Writer],
    messages: usize,
    probe: &Probe,
    next: &mut impl FnMut() -> u64,
    told: Option<&mut Told>,
    all: &mut Samples,
) -> anyhow::Result<Usage> {
    let numbers: Vec<u64> = (0..messages).map(|_| next()).collect();
    let at = Cell::new(0);
    let (numbers, at) = (&numbers, &at);
    let before = probe.read()?;
    let work = writers.iter_mut().map(|writer| async move {
        let mut samples = Samples::default();
        while let Some(number) = numbers.get(at.replace(at.get() + 1)) {
            let start = Instant::now();
            let said = writer.say(*number).await;
            samples.add(start.elapsed(), said);
        }
        samples
    });
    let done = join_all(work).await;
    let sent: usize = done.iter().map(|samples| samples.latencies.len()).sum();
    for samples in done {
        all.errors += samples.errors;
        all.first_error = all.first_error.take().or(samples.first_error);
    }
    if let Some(told) = told {
        hear(told, sent).await?;
    }
    probe.since(before)
}

/// Waits until services have been told of so many messages.
async fn hear(told: &mut Told, messages: usize) -> Result<(), Failure> {
    for _ in 0..messages {
        heard(told).await?;
    }
    Ok(())
}

/// Waits until a service is told of a message; when it was.
async fn hear_of(told: &mut Told, message: u64) -> Result<Instant, Failure> {
    loop {
        let (number, at) = heard(told).await?;
        // Others were given up.
        if number == message {
            return Ok(at);
        }
    }
}

async fn heard(told: &mut Told) -> Result<(u64, Instant), Failure> {
    let heard = timeout(PATIENCE, told.recv()).await;
    let heard = heard.map_err(|_| Failure::of("a service wasn't told"))?;
    heard.ok_or_else(|| Failure::of("nobody records"))
}

/// Makes the rooms of each service, or of somebody who is none, with one who writes there.
async fn writers(
    site: &mut Site,
    plan: &Plan,
    services: &[Option<&Service>],
) -> anyhow::Result<Vec<Writer>> {
    let number = services.len();
    let accounts = site.accounts(plan, 2 * number).await?;
    let (hosts, writers) = accounts.split_at(number);
    let mut made = Vec::new();
    for ((service, host), writer) in services.iter().zip(hosts).zip(writers) {
        let host = match service {
            Some(service) => service.sender(host).await?,
            None => host.clone(),
        };
        let done = each(
            0..plan.service_rooms,
            WIDTH,
            plan.setup_limit,
            async |room| {
                let room = Person::new(&host)?
                    .create_room(&format!("room {room}"))
                    .await?;
                Person::new(writer)?.join(&room, None).await?;
                Ok(room)
            },
        )
        .await;
        made.push(Writer {
            person: Person::new(writer)?,
            rooms: done.all(plan.service_rooms, "creating the rooms of a service")?,
            next: 0,
        });
    }
    Ok(made)
}

impl Service {
    /// Its own user, as an account; `other` is somebody on the same server.
    async fn sender(&self, other: &Account) -> anyhow::Result<Account> {
        let mut connection = Connection::new(other.server.address, Some(&self.token))?;
        let body = json!({
            "type": "m.login.application_service",
            "username": self.sender,
            "inhibit_login": true,
        });
        // Some servers have made it by themselves.
        let path = "/_matrix/client/v3/register";
        let _ = connection
            .call(Method::POST, path, Some(body.to_string()))
            .await;
        let line = format!("@{}:{} {}", self.sender, other.server_name(), self.token);
        Account::of_line(&other.server, &line)
            .ok_or_else(|| anyhow::anyhow!("{} is no account", self.sender))
    }
}

/// Begins to listen where the services are said to be.
async fn record(services: &[Service]) -> anyhow::Result<Told> {
    let (sender, told) = mpsc::unbounded_channel();
    for service in services {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, service.port)).await?;
        tokio::spawn(listen(listener, sender.clone()));
    }
    Ok(told)
}

async fn listen(listener: TcpListener, told: mpsc::UnboundedSender<(u64, Instant)>) {
    while let Ok((stream, _)) = listener.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            let serve = service_fn(move |request| transaction(request, told.clone()));
            // A server that closes a connection opens another one.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), serve)
                .await;
        });
    }
}

async fn transaction(
    request: Request<Incoming>,
    told: mpsc::UnboundedSender<(u64, Instant)>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    if let Ok(body) = request.into_body().collect().await {
        for number in messages_in(&body.to_bytes()) {
            // Who doesn't wait any more has given up.
            let _ = told.send((number, at));
        }
    }
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}
