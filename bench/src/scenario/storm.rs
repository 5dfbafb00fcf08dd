//! Somebody in a large room adds a device: they log in, and the new device uploads its keys. Whoever waits in the room
//! is told of both.

use crate::{
    follow::Form,
    http::Failure,
    outcome::{Better, Outcome},
    person::{Account, Person},
    scenario::{
        keys::{KEYS, Upload},
        seen::fan_out,
    },
    stats::{Latencies, count},
    world::World,
};

/// A room on the first server in which somebody adds devices, with `plan.storm` members and listeners.
pub async fn devices(world: &mut World) -> anyhow::Result<Outcome> {
    let (members, listeners) = world.plan.storm;
    let room = world.one.room(&world.plan, "storm", members).await?;
    let accounts = world.one.accounts(&world.plan, members).await?;
    let Some((sender, others)) = accounts.split_first() else {
        anyhow::bail!("nobody whose device changes");
    };
    Person::new(sender)?.encrypt(&room).await?;
    let listeners = &others[..listeners.min(others.len())];
    let mut adding = Adding::new(sender);
    let make = async |_| adding.step().await;
    let seen = |answer: &[u8]| {
        let changed = changed(answer, &sender.id);
        changed.then_some(None).into_iter().collect()
    };
    let (samples, usage) = fan_out(
        &world.plan,
        &world.probe,
        (listeners, Form::Poll),
        make,
        seen,
    )
    .await?;
    let what = format!(
        "in a room of {members} somebody adds a device: logs in, and then uploads its keys; {} listeners",
        listeners.len()
    );
    let outcome = Outcome::new(&samples, &usage, what);
    let latencies = Latencies::new(samples.latencies);
    let added = latencies.count() / (2 * listeners.len()).max(1);
    let mut outcome = outcome.latency("changed to seen", &latencies);
    if let Some(server) = usage.server.filter(|_| added > 0) {
        let each = server.as_secs_f64() * 1000.0 / count(added);
        outcome = outcome
            .figure("CPU ms per added device", vec![each], Better::Lower)
            .aim("200");
    }
    Ok(outcome.cost(&usage, latencies.count(), "per delivery"))
}

/// Somebody who adds one device after the other.
struct Adding<'a> {
    account: &'a Account,
    /// Of a device that has logged in.
    upload: Option<Upload>,
    number: usize,
}

impl<'a> Adding<'a> {
    fn new(account: &'a Account) -> Self {
        Self {
            account,
            upload: None,
            number: 0,
        }
    }

    /// One of the two things that others are told of.
    async fn step(&mut self) -> Result<(), Failure> {
        if let Some(upload) = self.upload.take() {
            upload.send().await?;
        } else {
            let device = self.account.log_in().await?;
            self.number += 1;
            self.upload = Some(Upload::prepare(&device, self.number, KEYS).await?);
        }
        Ok(())
    }
}

/// Whether an answer says that the user's devices changed, without reading it as JSON.
fn changed(answer: &[u8], user: &str) -> bool {
    let text = std::str::from_utf8(answer).unwrap_or_default();
    let list = text.split_once(r#""changed":["#);
    let list = list.and_then(|(_, rest)| rest.split_once(']'));
    list.is_some_and(|(users, _)| users.contains(&format!("\"{user}\"")))
}

#[cfg(test)]
mod tests {
    use super::changed;

    #[test]
    fn a_user_among_those_whose_devices_changed() {
        let answer = br#"{"device_lists":{"changed":["@a:here","@b:here"],"left":["@c:here"]}}"#;
        let told = ["@a:here", "@b:here", "@c:here", "a"].map(|user| changed(answer, user));
        assert_eq!(told, [true, true, false, false]);
        assert!(!changed(b"\xff", "@a:here"));
    }
}
