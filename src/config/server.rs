//! `[server]`: who this server is and where its files lie.

use std::path::PathBuf;

use rhizome_protocol::RoomRules;
use rhizome_storage::Options;
use ruma::{OwnedServerName, RoomVersionId, server_name};
use serde::Deserialize;

use super::Problems;
use super::units::{Size, Span, de_server_name};

/// Who this server is and where its files lie.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// The part after the colon in `@user:example.org`. Can't change once users exist.
    #[serde(deserialize_with = "de_server_name")]
    pub name: OwnedServerName,
    /// Where everything lies that has no path of its own.
    pub data_dir: PathBuf,
    /// The ed25519 key that signs our events; made on first start. Default: `signing.key` in `data_dir`.
    pub signing_key_path: Option<PathBuf>,
    /// The version of rooms whose creator asks for none.
    pub default_room_version: RoomVersionId,
    /// How much memory the process is to take, about.
    pub memory: Size,
    /// Devices that nobody has used for so long are logged out and deleted. Default: never.
    pub expire_devices_after: Option<Span>,
}

/// The shortest time after which devices may be deleted: people go on holiday.
const SHORTEST_EXPIRY: Span = Span::secs(7 * 24 * 60 * 60);

/// With less, what one request needs wouldn't be there for the next.
const LEAST_MEMORY: Size = Size::mib(32);

impl Default for Server {
    fn default() -> Self {
        Self {
            name: server_name!("localhost").to_owned(),
            data_dir: PathBuf::from("rhizome-data"),
            signing_key_path: None,
            default_room_version: RoomVersionId::V12,
            memory: Size(Options::MEMORY as u64),
            expire_devices_after: None,
        }
    }
}

impl Server {
    /// The signing key's file.
    pub fn signing_key_path(&self) -> PathBuf {
        self.signing_key_path
            .clone()
            .unwrap_or_else(|| self.data_dir.join("signing.key"))
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if RoomRules::get(&self.default_room_version).is_none() {
            let known: Vec<_> = RoomRules::supported().map(RoomRules::id).collect();
            problems.add(
                "server.default_room_version",
                format!(
                    "room version `{}` is not supported",
                    self.default_room_version
                ),
                format!("choose one of {} (12 is the default)", known.join(", ")),
            );
        }
        if self.memory.0 < LEAST_MEMORY.0 {
            problems.add(
                "server.memory",
                "that is less than the server needs to remember what it does".to_owned(),
                format!(
                    "choose {} MiB or more; 256 MiB is the default",
                    LEAST_MEMORY.0 >> 20
                ),
            );
        }
        if let Some(span) = self.expire_devices_after
            && span.0 < SHORTEST_EXPIRY.0
        {
            problems.add(
                "server.expire_devices_after",
                "devices would be deleted while their people are away for some days".to_owned(),
                "choose 7d or more, or leave it out to keep all devices".to_owned(),
            );
        }
    }
}
