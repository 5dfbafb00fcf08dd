//! What scenarios share on the driven servers: accounts and rooms, made when they are first needed.

use anyhow::Context as _;

use crate::{
    drive::{Done, each},
    person::{Account, Person, Room, message},
    plan::Plan,
    probe::Probe,
    server::Server,
};

/// How many requests a preparation has under way.
pub const WIDTH: usize = 8;

/// A server with the accounts made there.
pub struct Site {
    /// The server.
    pub server: Server,
    accounts: Vec<Account>,
}

/// An account in many rooms, and the one who writes there.
#[derive(Clone)]
pub struct Many {
    /// Who is in all of them.
    pub reader: Account,
    /// Who made them.
    pub writer: Account,
    /// The rooms.
    pub rooms: Vec<Room>,
}

/// An application service that the first server knows, and that is recorded here.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where the server looks for it, on this machine.
    pub port: u16,
    /// The localpart of its own user.
    pub sender: String,
    /// Its `as_token`.
    pub token: String,
}

impl Service {
    /// From a line with all three.
    pub fn of_line(line: &str) -> Option<Self> {
        let mut parts = line.split_whitespace();
        Some(Self {
            port: parts.next()?.parse().ok()?,
            sender: parts.next()?.to_owned(),
            token: parts.next()?.to_owned(),
        })
    }
}

/// A room with threads, and who reads it.
#[derive(Clone)]
pub struct Threaded {
    /// A member.
    pub reader: Account,
    /// The room.
    pub room: Room,
    /// The ids of the events that threads hang off.
    pub roots: Vec<String>,
}

/// The servers under load, and what has been made on them.
pub struct World {
    /// Counts and times.
    pub plan: Plan,
    /// CPU and memory of the servers.
    pub probe: Probe,
    /// The server that most scenarios drive.
    pub one: Site,
    /// The other end of the federation.
    pub two: Option<Site>,
    /// The application services of the first server; the second has none.
    pub services: Vec<Service>,
    crowd: Option<Room>,
    many: Option<Many>,
    hot: Option<Room>,
    /// The room with threads, once it has been made.
    pub threaded: Option<Threaded>,
}

impl Site {
    /// A server on which nothing has been made yet.
    pub fn new(server: Server) -> Self {
        Self {
            server,
            accounts: Vec::new(),
        }
    }

    /// Registers `count` more accounts, `width` at a time.
    pub async fn register(&mut self, plan: &Plan, count: usize, width: usize) -> Done<Account> {
        let server = &self.server;
        let done = each(0..count, width, plan.setup_limit, async |_| {
            Account::register(server).await
        })
        .await;
        let made = done.results.iter().map(|(account, _)| account.clone());
        self.accounts.extend(made);
        done
    }

    /// Takes over accounts that were made earlier.
    pub fn adopt(&mut self, accounts: impl IntoIterator<Item = Account>) {
        self.accounts.extend(accounts);
    }

    /// All accounts that there are.
    pub fn made(&self) -> &[Account] {
        &self.accounts
    }

    /// The first `count` accounts; the same each time.
    pub async fn accounts(&mut self, plan: &Plan, count: usize) -> anyhow::Result<Vec<Account>> {
        let missing = count.saturating_sub(self.accounts.len());
        if missing > 0 {
            let done = self.register(plan, missing, WIDTH).await;
            done.all(missing, "registering")?;
        }
        Ok(self.accounts.iter().take(count).cloned().collect())
    }

    /// The first `count` accounts, each with a connection.
    pub async fn people(&mut self, plan: &Plan, count: usize) -> anyhow::Result<Vec<Person>> {
        let accounts = self.accounts(plan, count).await?;
        Ok(accounts.iter().map(Person::new).collect::<Result<_, _>>()?)
    }

    /// A room of the first account with the `count` first ones in it.
    pub async fn room(&mut self, plan: &Plan, name: &str, count: usize) -> anyhow::Result<Room> {
        let accounts = self.accounts(plan, count.max(1)).await?;
        let (room, others) = found(&accounts, name).await?;
        let wanted = others.len();
        join_all(plan, &room, others).await.all(wanted, "joining")?;
        Ok(room)
    }
}

/// A room of the first of `accounts`, and the others.
pub async fn found<'a>(
    accounts: &'a [Account],
    name: &str,
) -> anyhow::Result<(Room, &'a [Account])> {
    let (founder, others) = accounts.split_first().context("nobody to create a room")?;
    let room = Person::new(founder)?
        .create_room(name)
        .await
        .context("creating a room")?;
    Ok((room, others))
}

/// Everybody joins, several at a time.
async fn join_all(plan: &Plan, room: &Room, accounts: &[Account]) -> Done<()> {
    each(accounts, WIDTH, plan.setup_limit, async |account| {
        Person::new(account)?.join(room, None).await
    })
    .await
}

impl World {
    /// Nothing made yet.
    pub fn new(plan: Plan, probe: Probe, one: Server, two: Option<Server>) -> Self {
        Self {
            plan,
            probe,
            one: Site::new(one),
            two: two.map(Site::new),
            services: Vec::new(),
            crowd: None,
            many: None,
            hot: None,
            threaded: None,
        }
    }

    /// Both ends of a federation.
    pub fn both(&mut self) -> anyhow::Result<(&Plan, &Probe, &mut Site, &mut Site)> {
        let two = self.two.as_mut().context("needs --server2")?;
        Ok((&self.plan, &self.probe, &mut self.one, two))
    }

    /// The room of `plan.crowd` members.
    pub async fn crowd(&mut self) -> anyhow::Result<Room> {
        if let Some(room) = &self.crowd {
            return Ok(room.clone());
        }
        let room = self.one.room(&self.plan, "crowd", self.plan.crowd).await?;
        self.crowd = Some(room.clone());
        Ok(room)
    }

    /// The join scenario has filled a room with everybody.
    pub fn set_crowd(&mut self, room: Room) {
        self.crowd = Some(room);
    }

    /// The room with all the senders in it.
    pub async fn hot(&mut self) -> anyhow::Result<Room> {
        if let Some(room) = &self.hot {
            return Ok(room.clone());
        }
        let room = self.one.room(&self.plan, "hot", self.plan.senders).await?;
        self.hot = Some(room.clone());
        Ok(room)
    }

    /// An account in `plan.rooms` rooms with a few messages in each.
    pub async fn many(&mut self) -> anyhow::Result<Many> {
        if let Some(many) = &self.many {
            return Ok(many.clone());
        }
        let count = self.plan.rooms;
        // Accounts of their own: nobody else's rooms are in the reader's sync.
        let made = self.one.register(&self.plan, 2, 2).await;
        let made = made.all(2, "registering")?;
        let [reader, writer] = made.as_slice() else {
            anyhow::bail!("registering made too few");
        };
        let done = each(0..count, WIDTH, self.plan.setup_limit, async |number| {
            let mut person = Person::new(writer)?;
            let room = person.create_room(&format!("room {number}")).await?;
            for text in 0..5 {
                person.say(&room, &message(text)).await?;
            }
            Person::new(reader)?.join(&room, None).await?;
            Ok(room)
        })
        .await;
        let many = Many {
            rooms: done.all(count, "creating many rooms")?,
            reader: reader.clone(),
            writer: writer.clone(),
        };
        self.many = Some(many.clone());
        Ok(many)
    }
}
