//! `rhizome block`, `unblock` and `blocks`: what the operator keeps out. Works on the database, so the server may run or
//! not; one that runs hears of it.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use rhizome_client_api::users;
use rhizome_storage::{Block, Way};
use ruma::{OwnedRoomId, OwnedServerName};

use crate::config::Config;

use super::{ago, on_store, say};

#[derive(Debug, Subcommand)]
pub(super) enum BlockCommand {
    /// Nobody here joins a room any more, knocks on it, or is invited to it. Who is there stays
    Room {
        /// The room's id
        room: String,
        #[command(flatten)]
        why: Why,
    },
    /// Don't speak with a server. Its users stay in rooms that others are in as well: see server ACLs of rooms
    Server {
        /// The server's name, with its port if it has one
        server: String,
        /// Which way: refuse what it asks and sends (in), ask and send it nothing (out), or both
        #[arg(long, value_enum, default_value_t = WayArg::Both)]
        way: WayArg,
        #[command(flatten)]
        why: Why,
    },
    /// Nobody registers a name; the operator still can
    Name {
        /// The name before the colon
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Args)]
pub(super) struct Why {
    /// Why, for `rhizome blocks` to say
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum WayArg {
    In,
    Out,
    Both,
}

#[derive(Debug, Subcommand)]
pub(super) enum UnblockCommand {
    /// Let people into a room again
    Room {
        /// The room's id
        room: String,
    },
    /// Speak with a server again
    Server {
        /// The server's name
        server: String,
    },
    /// Let a name be registered again
    Name {
        /// The name before the colon
        name: String,
    },
}

pub(super) fn block(config: &Config, command: BlockCommand) -> anyhow::Result<()> {
    let (kind, what, way, why) = match command {
        BlockCommand::Room { room, why } => (Block::ROOM, room_id(&room)?, "", why),
        BlockCommand::Server { server, way, why } => {
            let name = server_name(&server)?;
            if name.eq_ignore_ascii_case(config.server.name.as_str()) {
                bail!("{name} is this server");
            }
            let way = match way {
                WayArg::In => Way::In,
                WayArg::Out => Way::Out,
                WayArg::Both => Way::Both,
            };
            (Block::SERVER, name, way.as_str(), why)
        }
        BlockCommand::Name { name, why } => (Block::NAME, localpart(config, &name)?, "", why),
    };
    on_store(config, async |store| {
        let shown = what.escape_debug().to_string();
        let block = Block {
            kind: kind.to_owned(),
            what,
            way: way.to_owned(),
            reason: why.reason,
            since_ms: store.clock().now_ms(),
            blocked: true,
        };
        store.block(block).await?;
        say(format_args!("{kind} {shown} is blocked"));
        Ok(())
    })
}

pub(super) fn unblock(config: &Config, command: &UnblockCommand) -> anyhow::Result<()> {
    let (kind, what) = match command {
        UnblockCommand::Room { room } => (Block::ROOM, room_id(room)?),
        UnblockCommand::Server { server } => (Block::SERVER, server_name(server)?),
        UnblockCommand::Name { name } => (Block::NAME, localpart(config, name)?),
    };
    on_store(config, async |store| {
        if !store.unblock(kind, &what).await? {
            bail!("{kind} {what} isn't blocked; `rhizome blocks` lists what is");
        }
        say(format_args!("{kind} {what} is blocked no longer"));
        Ok(())
    })
}

pub(super) fn blocks(config: &Config) -> anyhow::Result<()> {
    on_store(config, async |store| {
        for block in store.all_blocks().await? {
            let since = ago(store, block.since_ms);
            let way = if block.way.is_empty() {
                String::new()
            } else {
                format!(" ({})", block.way)
            };
            let (kind, what) = (&block.kind, block.what.escape_debug());
            let reason = block.reason.escape_debug();
            say(format_args!("{kind} {what}{way}  since {since}  {reason}"));
        }
        Ok(())
    })
}

fn room_id(text: &str) -> anyhow::Result<String> {
    let id = OwnedRoomId::try_from(text)
        .with_context(|| format!("{text:?} is no room id; write it as !opaque:server"))?;
    Ok(id.to_string())
}

fn server_name(text: &str) -> anyhow::Result<String> {
    let name = OwnedServerName::try_from(text)
        .with_context(|| format!("{text:?} is no server name; write it as in user ids"))?;
    Ok(name.as_str().to_ascii_lowercase())
}

fn localpart(config: &Config, text: &str) -> anyhow::Result<String> {
    let name = text.trim().trim_start_matches('@');
    let user = users::user_id(&config.server.name, name).map_err(|error| {
        anyhow::anyhow!("{text:?} can't be registered anyway: {}", error.message)
    })?;
    Ok(user.localpart().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_made_small() {
        assert_eq!(server_name("Bad.Example:8448").unwrap(), "bad.example:8448");
        assert!(server_name("https://bad").is_err());
        assert_eq!(room_id("!A:b").unwrap(), "!A:b");
        assert!(room_id("#a:b").is_err());
    }
}
