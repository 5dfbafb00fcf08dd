//! Putting a transaction together: of what waits, or, for a service that is behind, of the log.

use std::{collections::BTreeMap, sync::Arc};

use rhizome_appservice::Registration;
use rhizome_storage::{Entry, Pos, Store, UserNo, WaitingMessage};
use ruma::OwnedServerName;

use super::{
    batch::{Batch, EPHEMERAL},
    interest::{Hearers, Interest},
    news::{Found, News},
    queue::{Next, Queue},
};
use crate::MatrixError;

/// So many entries of the log are read at once by who is behind.
const ENTRIES: usize = 1_000;
/// After so many of these in which nothing is for the service it is written down how far it is.
const STRETCHES: u32 = 20;
/// Users whose devices have changed, of whom the log doesn't tell any more, that are looked at at once.
const LISTS: usize = 1_000;

/// What a service is to be told next.
pub struct Gathered {
    /// What goes into its transaction, if anything does.
    pub batch: Batch,
    /// With that, everything up to here was told.
    pub upto: Pos,
    /// Whether there may be more at once.
    pub more: bool,
}

/// What is put together for one service.
pub struct Gather {
    store: Store,
    service: Arc<Registration>,
    here: OwnedServerName,
    queue: Arc<Queue>,
    /// What interests it, where it is, if it is behind; and what there was no room for: it comes next.
    interest: Option<Interest>,
    held: Option<Found>,
}

/// Something at a position of the log.
enum Place {
    Entry(Arc<Entry>),
    /// A user's devices have changed.
    Devices(Pos, UserNo),
}

impl Place {
    fn pos(&self) -> Pos {
        match self {
            Self::Entry(entry) => entry.pos,
            Self::Devices(pos, _) => *pos,
        }
    }
}

impl Gather {
    pub fn new(
        store: &Store,
        service: &Arc<Registration>,
        here: &OwnedServerName,
        queue: &Arc<Queue>,
    ) -> Self {
        Self {
            store: store.clone(),
            service: service.clone(),
            here: here.clone(),
            queue: queue.clone(),
            interest: None,
            held: None,
        }
    }

    /// What comes after `at`, up to which everything was told.
    pub async fn next(&mut self, at: Pos) -> Result<Gathered, MatrixError> {
        let mut gathered = Gathered {
            batch: Batch::default(),
            upto: at,
            more: false,
        };
        match self.queue.next() {
            Next::Behind(_) => self.behind(&mut gathered).await?,
            Next::Found(_) | Next::Nothing(_) => self.waiting(&mut gathered).await?,
        }
        gathered.batch.ephemeral = self.queue.take_ephemeral(EPHEMERAL);
        Ok(gathered)
    }

    /// Takes what waits, as far as it fits.
    async fn waiting(&mut self, gathered: &mut Gathered) -> Result<(), MatrixError> {
        (self.interest, self.held) = (None, None);
        loop {
            match self.queue.next() {
                Next::Found(found) => {
                    if !self.add(&mut gathered.batch, &found).await? {
                        gathered.more = true;
                        return Ok(());
                    }
                    self.queue.taken();
                    gathered.upto = found.pos;
                }
                Next::Nothing(seen) => {
                    gathered.upto = seen;
                    return Ok(());
                }
                // So much has come meanwhile: what is here already is told, and then the log is read.
                Next::Behind(_) => {
                    gathered.more = true;
                    return Ok(());
                }
            }
        }
    }

    /// Reads the log until there is something to tell.
    async fn behind(&mut self, gathered: &mut Gathered) -> Result<(), MatrixError> {
        gathered.more = true;
        for _ in 0..STRETCHES {
            if self.queue.levels(gathered.upto) {
                return Ok(());
            }
            let Next::Behind(seen) = self.queue.next() else {
                return Ok(());
            };
            let all = self.stretch(gathered, seen).await?;
            if !all || !gathered.batch.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on through the log, at most up to `seen`; `false` if not all fits that is there.
    async fn stretch(&mut self, gathered: &mut Gathered, seen: Pos) -> Result<bool, MatrixError> {
        let mut interest = self.interest.take().unwrap_or_else(|| {
            let hearers = Arc::new(Hearers::one(&self.service, &self.here));
            Interest::new(&self.store, &hearers)
        });
        let (places, upto) = self.places(gathered.upto, seen).await?;
        for place in places {
            let pos = place.pos();
            let held = self.held.take().filter(|held| held.pos == pos);
            let news = match (held, &place) {
                (Some(held), _) => vec![(0, held.news)],
                (None, Place::Entry(entry)) => interest.look(entry).await?,
                (None, Place::Devices(_, user)) => interest.devices(*user, pos).await?,
            };
            // One service, one piece of news.
            for (_, news) in news {
                let found = Found { pos, news };
                if !self.add(&mut gathered.batch, &found).await? {
                    self.held = Some(found);
                    self.interest = Some(interest);
                    return Ok(false);
                }
            }
            gathered.upto = pos;
        }
        gathered.upto = upto;
        self.interest = Some(interest);
        Ok(true)
    }

    /// What stands in the log after a position, and up to where that is all, at most up to `seen`. Single changes of devices
    /// aren't there any more when everybody should have heard of them: then whose have changed since is.
    async fn places(&self, after: Pos, seen: Pos) -> Result<(Vec<Place>, Pos), MatrixError> {
        let entries = self.store.log().read(after, seen, ENTRIES).await?;
        // If it is in memory still, it was when it was read.
        let is_whole = self.store.log().reaches(after, seen);
        let mut upto = match entries.last() {
            Some(last) if entries.len() >= ENTRIES => last.pos,
            _ => seen,
        };
        let mut places: BTreeMap<Pos, Place> = BTreeMap::new();
        if !is_whole && self.service.msc3202 {
            let lists = self.store.device_lists_changed(after, upto, LISTS).await?;
            if let Some((last, _)) = lists.last()
                && lists.len() >= LISTS
            {
                upto = *last;
            }
            places.extend((lists.into_iter()).map(|(pos, user)| (pos, Place::Devices(pos, user))));
        }
        let entries = entries.into_iter().filter(|entry| entry.pos <= upto);
        places.extend(entries.map(|entry| (entry.pos, Place::Entry(entry))));
        Ok((places.into_values().collect(), upto))
    }

    /// Takes something up; `false` if there is no room for it.
    async fn add(&self, batch: &mut Batch, found: &Found) -> Result<bool, MatrixError> {
        let mut message = None;
        if let News::ToDevice(to) = &found.news {
            message = match to.message() {
                Some(message) => Some(message),
                None => self.read_message(found).await?,
            };
            // Its device has it already, or is gone.
            if message.is_none() {
                return Ok(true);
            }
        }
        Ok(batch.add(found, message, self.service.msc3202))
    }

    async fn read_message(&self, found: &Found) -> Result<Option<WaitingMessage>, MatrixError> {
        let News::ToDevice(to) = &found.news else {
            return Ok(None);
        };
        let before = Pos(to.pos.0 - 1);
        let waiting = self.store.to_device(to.user, &to.device, before, to.pos, 1);
        Ok(waiting.await?.pop())
    }
}
