//! The connections in memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhizome_storage::{Cache, UserNo};
use ruma::OwnedDeviceId;

use super::{Connection, Inner, Memory, Position, Rooms, keep, pos, random_number};
use crate::{App, MatrixError, view::seen::Viewer};

/// About how many rooms of connections are in memory; the others are in the database.
const MOST_ROOMS: usize = 2_000_000;
/// How many connections of a device there are in memory; the database keeps as many.
const MOST_OF_DEVICE: usize = 16;

/// A device's connections, the one that was used last at the end.
type OfDevice = Mutex<Vec<Arc<Connection>>>;

/// The connections in memory.
#[derive(Debug)]
pub struct Connections(Cache<(UserNo, OwnedDeviceId), Arc<OfDevice>>);

impl Default for Connections {
    fn default() -> Self {
        Self(Cache::new(MOST_ROOMS))
    }
}

impl Connections {
    /// A connection that begins, in place of one of this name.
    pub fn begin(
        &self,
        app: &App,
        viewer: &Viewer,
        conn_id: &str,
    ) -> Result<(Arc<Connection>, Memory), MatrixError> {
        let rooms = Arc::new(Rooms::new());
        let configs = Arc::new(Vec::new());
        let connection = Arc::new(Connection {
            no: random_number()?,
            user: viewer.user,
            device: viewer.device_id.clone(),
            conn_id: conn_id.to_owned(),
            inner: Mutex::new(Inner {
                version: 0,
                rooms: rooms.clone(),
                versions: Vec::new(),
                confirmed: None,
                configs: configs.clone(),
                configs_size: 0,
                seen_ms: app.store.clock().now_ms(),
                is_new: true,
                is_stored: false,
                settled: None,
                steps: VecDeque::new(),
            }),
            turn: tokio::sync::Mutex::default(),
        });
        self.put(&connection);
        let memory = Memory {
            version: 0,
            rooms,
            changed: Rooms::new(),
            configs,
            settled: None,
            confirmed: None,
        };
        Ok((connection, memory))
    }

    /// The connection that a position is of, and what the client had been told by then.
    pub async fn go_on(
        &self,
        app: &App,
        viewer: &Viewer,
        conn_id: &str,
        position: &Position,
    ) -> Result<(Arc<Connection>, Memory), MatrixError> {
        let known = self.get(viewer, conn_id);
        let replaces =
            |known: &Arc<Connection>| known.no != position.connection && !known.lock().is_stored;
        if known.as_ref().is_some_and(replaces) {
            // The database may still have the one before.
            return Err(pos::unknown());
        }
        if let Some(connection) = known.filter(|known| known.no == position.connection)
            && let Some((memory, confirms)) = connection.at(position.version)
        {
            if confirms {
                self.weigh(&connection);
            }
            return Ok((connection, memory));
        }
        // From another process, or from before a restart.
        let loaded = keep::load(app, viewer, conn_id, position).await?;
        let connection = Arc::new(loaded.ok_or_else(pos::unknown)?);
        let known = connection.at(position.version);
        let (mut memory, _) = known.ok_or_else(pos::unknown)?;
        memory.confirmed = None;
        self.put(&connection);
        Ok((connection, memory))
    }

    fn get(&self, viewer: &Viewer, conn_id: &str) -> Option<Arc<Connection>> {
        let of_device = self.0.get(&(viewer.user, viewer.device_id.clone()))?;
        let found = lock(&of_device);
        let mut found = found.iter();
        found.find(|known| known.conn_id == conn_id).cloned()
    }

    /// Puts a connection there, in place of one of its name.
    fn put(&self, connection: &Arc<Connection>) {
        let key = (connection.user, connection.device.clone());
        let of_device = self.0.get_or_insert(key, Arc::default(), super::BASE);
        let mut known = lock(&of_device);
        known.retain(|known| known.conn_id != connection.conn_id);
        if known.len() >= MOST_OF_DEVICE {
            known.remove(0);
        }
        known.push(connection.clone());
        drop(known);
        self.weigh(connection);
    }

    /// Weighs a connection that has changed, unless another has taken its place.
    pub(super) fn weigh(&self, connection: &Arc<Connection>) {
        let key = (connection.user, connection.device.clone());
        let Some(of_device) = self.0.get(&key) else {
            return;
        };
        let mut known = lock(&of_device);
        let at = (known.iter()).position(|known| Arc::ptr_eq(known, connection));
        let Some(at) = at else {
            return;
        };
        known[at..].rotate_left(1);
        let weight = known.iter().map(|known| known.lock().weight()).sum();
        drop(known);
        self.0.insert_weighing(key, of_device, weight);
    }
}

fn lock(of_device: &OfDevice) -> MutexGuard<'_, Vec<Arc<Connection>>> {
    of_device.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rhizome_storage::{RoomNo, SlidingRoom};

    use super::{super::State, *};

    fn connection(device: i64, conn_id: &str, rooms: i64) -> Arc<Connection> {
        let told = SlidingRoom {
            upto: None,
            timeline: 1,
            config: 0,
            direct: false,
            profiles: None,
        };
        let version: Rooms = (0..rooms).map(|room| (RoomNo(room), told)).collect();
        Arc::new(Connection {
            no: device,
            user: UserNo(1),
            device: device.to_string().into(),
            conn_id: conn_id.to_owned(),
            inner: Mutex::new(Inner {
                version: 0,
                rooms: Arc::default(),
                versions: vec![(1, version)],
                confirmed: None,
                configs: Arc::default(),
                configs_size: 0,
                seen_ms: 0,
                is_new: true,
                is_stored: false,
                settled: None,
                steps: VecDeque::new(),
            }),
            turn: tokio::sync::Mutex::default(),
        })
    }

    fn held(connections: &Connections, device: i64) -> Vec<String> {
        let key: (UserNo, OwnedDeviceId) = (UserNo(1), device.to_string().into());
        let of_device = connections.0.get(&key).unwrap_or_default();
        let names = lock(&of_device);
        names.iter().map(|known| known.conn_id.clone()).collect()
    }

    #[test]
    fn a_device_keeps_the_connections_that_it_used_last() {
        let connections = Connections::default();
        let first = connection(1, "first", 1);
        connections.put(&first);
        for n in 0..40 {
            connections.put(&connection(1, &n.to_string(), 1));
            connections.weigh(&first);
        }
        let held = held(&connections, 1);
        assert_eq!(held.len(), MOST_OF_DEVICE);
        assert_eq!(held[MOST_OF_DEVICE - 2..], ["39", "first"]);
        assert!(held.contains(&"25".to_owned()) && !held.contains(&"24".to_owned()));
        // One whose place was taken doesn't come back.
        connections.put(&connection(1, "first", 1));
        connections.weigh(&first);
        let key: (UserNo, OwnedDeviceId) = (UserNo(1), "1".into());
        let of_device = connections.0.get(&key).unwrap();
        assert!(!lock(&of_device).iter().any(|it| Arc::ptr_eq(it, &first)));
    }

    #[test]
    fn what_nobody_has_confirmed_weighs_as_well() {
        let connections = Connections(Cache::new(1_000));
        for device in 0..100 {
            connections.put(&connection(device, "", 200));
        }
        let devices = (0..100).filter(|device| !held(&connections, *device).is_empty());
        assert!(devices.count() <= 5);
    }

    /// Of two answers that were made at the same time upon one version.
    #[test]
    fn what_two_answers_number_alike_is_told_apart() {
        let connection = connection(1, "", 0);
        let state = |kind: &str| -> State {
            serde_json::from_str(&format!(r#"[{{"i":[["{kind}",""]]}}]"#)).unwrap()
        };
        let memory = || Memory {
            version: 0,
            rooms: Arc::default(),
            changed: Rooms::new(),
            configs: Arc::default(),
            settled: None,
            confirmed: None,
        };
        let (room, mut answers) = (RoomNo(1), [memory(), memory(), memory()]);
        let wanted = [state("a"), state("b"), state("a")];
        for (answer, wanted) in answers.iter_mut().zip(&wanted) {
            let config = answer.number(wanted).unwrap();
            let told = SlidingRoom {
                upto: None,
                timeline: 1,
                config,
                direct: false,
                profiles: None,
            };
            answer.tell(room, told);
        }
        for (mut answer, wanted) in answers.into_iter().zip(wanted) {
            let mut inner = connection.lock();
            inner.agree(&mut answer).unwrap();
            let told = answer.changed[&room];
            assert_eq!(inner.configs[usize::from(told.config)], wanted);
        }
        assert_eq!(connection.lock().configs.len(), 2);
    }
}
