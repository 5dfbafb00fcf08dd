//! `rhizome media`: works on the database and the files, so the server may run or not.

mod of_user;
mod text;

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use rhizome_inspect as inspect;
use rhizome_media::Media;
use rhizome_storage::{MediaQuery, MediaRow, Store, millis};
use ruma::UserId;

use crate::config::{Config, Span};
use crate::server;

use super::{ago, say};
pub(super) use of_user::delete_of;
pub(super) use text::size;
use text::{line, parts};

#[cfg(test)]
mod tests;

/// So many files are looked at at once.
const PIECE: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum MediaCommand {
    /// List files, a line each
    List(Which),
    /// Say what is known of a file
    Show {
        /// Its address, mxc://server/id
        file: String,
    },
    /// Delete files: nobody gets them from now on, their bytes go later
    Delete(Chosen),
    /// See to it that nobody gets files, nor others with the same bytes; protected ones are left alone
    Quarantine {
        #[command(flatten)]
        chosen: Chosen,
        /// Give them again
        #[arg(long)]
        undo: bool,
    },
    /// Protect files from quarantine, and from being deleted otherwise than by their address
    Protect {
        #[command(flatten)]
        chosen: Chosen,
        /// Protect them no longer
        #[arg(long)]
        undo: bool,
    },
    /// Move files from one store to another. It can be stopped and started again at any time
    Move {
        /// The name of the store where they lie
        from: String,
        /// The name of the store where they go
        to: String,
    },
    /// Make a store this database's, whosever it was: after the database was restored, or its files were copied. What
    /// lies there and isn't known to this database is deleted by the next sweep
    Adopt {
        /// The name of the store
        store: String,
    },
    /// Delete what nobody needs, now
    Sweep,
    /// Say how much there is: in each store, and of whom
    Usage,
}

/// Which files: all that is said holds of each.
#[derive(Debug, Args)]
#[group(required = false, multiple = true)]
pub(super) struct Which {
    /// Uploaded by this user
    #[arg(long, value_name = "USER_ID")]
    user: Option<String>,
    /// Of this server
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// Named by events of this room (its id, or an alias of this server), which who uploaded them has sent
    #[arg(long, value_name = "ROOM", conflicts_with_all = ["user", "server", "older_than", "unused_for"])]
    room: Option<String>,
    /// Here for at least so long, such as 90d
    #[arg(long, value_name = "SPAN", value_parser = span)]
    older_than: Option<Duration>,
    /// Not asked for in so long, such as 90d
    #[arg(long, value_name = "SPAN", value_parser = span)]
    unused_for: Option<Duration>,
}

/// Files by their addresses, or by what holds of them.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Their addresses, mxc://server/id
    #[arg(value_name = "FILE", required_unless_present_any = ["user", "server", "room", "older_than", "unused_for"])]
    files: Vec<String>,
    #[command(flatten)]
    which: Which,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = Span::parse(text).map(|span| span.0);
    span.ok_or_else(|| "write a number and a unit, such as 12h or 90d".to_owned())
}

pub(super) fn media(config: &Config, command: MediaCommand) -> anyhow::Result<()> {
    super::block_on(async {
        let store = server::open_store(config).await?;
        let done = run(&store, config, command).await;
        store.close().await;
        done
    })
}

async fn run(store: &Store, config: &Config, command: MediaCommand) -> anyhow::Result<()> {
    let media = server::open_media(store, config, server::decoders(config))?;
    let at = Desk {
        store,
        media: &media,
    };
    match command {
        MediaCommand::List(which) => at.list(&which).await,
        MediaCommand::Show { file } => at.show(&file).await,
        MediaCommand::Delete(chosen) => {
            let deleted = at
                .each(&chosen, false, async |names| {
                    Ok(media.delete(names).await?)
                })
                .await?;
            say(format_args!("{deleted} files deleted"));
            Ok(())
        }
        MediaCommand::Quarantine { chosen, undo } => {
            let one = async |name: (&str, &str)| Ok(media.quarantine(name, !undo).await?);
            at.one_by_one(
                &chosen,
                undo,
                one,
                if undo { "given again" } else { "quarantined" },
            )
            .await
        }
        MediaCommand::Protect { chosen, undo } => {
            let one = async |name: (&str, &str)| Ok(media.protect(name, !undo).await?);
            at.one_by_one(
                &chosen,
                true,
                one,
                if undo {
                    "no longer protected"
                } else {
                    "protected"
                },
            )
            .await
        }
        MediaCommand::Move { from, to } => {
            let told = |moved, bytes| say(format_args!("{moved} moved, {}", size(bytes)));
            let moved = media.move_all(&from, &to, told).await?;
            say(format_args!("all of {from} is in {to}: {moved} moved now"));
            Ok(())
        }
        MediaCommand::Adopt { store } => {
            media.adopt(&store).await?;
            say(format_args!("{store} is this database's"));
            Ok(())
        }
        MediaCommand::Sweep => match media.sweep().await? {
            None => bail!("another process is at it; try again in a moment"),
            Some(swept) => {
                say(format_args!(
                    "deleted: {} blobs ({}), {} files of other servers, {} uploads that never came, \
                     {} files that no row knew, {} that broke off; {} couldn't be swept, the log says why",
                    swept.blobs,
                    size(swept.bytes),
                    swept.remote,
                    swept.expired + swept.uploads,
                    swept.orphans,
                    swept.unfinished,
                    swept.failed
                ));
                Ok(())
            }
        },
        MediaCommand::Usage => at.usage().await,
    }
}

struct Desk<'a> {
    store: &'a Store,
    media: &'a Media,
}

impl Desk<'_> {
    /// `protected`: also those that are.
    async fn query(&self, which: &Which, protected: bool) -> anyhow::Result<MediaQuery> {
        let now = self.store.clock().now_ms();
        let before = |age: Option<Duration>| age.map(|age| now.saturating_sub(millis(age)));
        let owner = match &which.user {
            None => None,
            Some(user) => {
                let id = UserId::parse(user).with_context(|| format!("{user:?} is no user id"))?;
                let known = self.store.known_user(&id).await?;
                Some(known.with_context(|| format!("{user} is not known here"))?)
            }
        };
        Ok(MediaQuery {
            origin: which.server.clone(),
            owner,
            created_before: before(which.older_than),
            accessed_before: before(which.unused_for),
            protected,
            ..MediaQuery::default()
        })
    }

    /// Does something with the files that are chosen, some at a time; gives how many it was done with. Those that are
    /// protected have to be named, unless it is about them (`protected`).
    async fn each(
        &self,
        chosen: &Chosen,
        protected: bool,
        todo: impl AsyncFn(&[(&str, &str)]) -> anyhow::Result<u64>,
    ) -> anyhow::Result<u64> {
        let mut done = 0;
        for file in &chosen.files {
            let (server, id) = parts(file)?;
            done += todo(&[(&server, &id)]).await?;
        }
        let which = &chosen.which;
        if let Some(room) = &which.room {
            let head = inspect::find(self.store, room).await?;
            let of_room = self.media.of_room(head.room).await?;
            let mut names = of_room.sent;
            if !of_room.mentioned.is_empty() {
                say(format_args!(
                    "{} files are left alone: they were named there, but not by who uploaded them; \
                     `rhizome media list --room {room}` shows them",
                    of_room.mentioned.len()
                ));
            }
            let mut kept = Vec::new();
            for name in &names {
                let row = self.media.row(&name.0, &name.1).await?;
                kept.push(row.is_none_or(|row| protected || !row.protected));
            }
            let mut kept = kept.into_iter();
            names.retain(|_| kept.next() == Some(true));
            for names in names.chunks(PIECE) {
                let names = names
                    .iter()
                    .map(|(server, id)| (server.as_str(), id.as_str()));
                done += todo(&names.collect::<Vec<_>>()).await?;
            }
        } else if chosen.files.is_empty() {
            self.pages(which, protected, async |rows| {
                let names = rows.iter();
                let names = names.map(|row| (row.origin.as_str(), row.media_id.as_str()));
                done += todo(&names.collect::<Vec<_>>()).await?;
                Ok(())
            })
            .await?;
        }
        Ok(done)
    }

    async fn one_by_one(
        &self,
        chosen: &Chosen,
        protected: bool,
        todo: impl AsyncFn((&str, &str)) -> anyhow::Result<bool>,
        what: &str,
    ) -> anyhow::Result<()> {
        let each = async |names: &[(&str, &str)]| {
            let mut done = 0;
            for name in names {
                done += u64::from(todo(*name).await?);
            }
            Ok(done)
        };
        let done = self.each(chosen, protected, each).await?;
        say(format_args!("{done} files {what}"));
        Ok(())
    }

    async fn pages(
        &self,
        which: &Which,
        protected: bool,
        mut page: impl AsyncFnMut(&[MediaRow]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let query = self.query(which, protected).await?;
        let mut after = (String::new(), String::new());
        loop {
            let rows = self.media.list(&query, (&after.0, &after.1), PIECE).await?;
            page(&rows).await?;
            match rows.into_iter().next_back() {
                Some(last) => after = (last.origin.into(), last.media_id),
                None => return Ok(()),
            }
        }
    }

    async fn lines(&self, names: &[(String, String)]) -> anyhow::Result<()> {
        for (server, id) in names {
            match self.media.row(server, id).await? {
                Some(row) => line(&row),
                None => say(format_args!(
                    "mxc://{}/{}  not here",
                    server.escape_debug(),
                    id.escape_debug()
                )),
            }
        }
        Ok(())
    }

    async fn list(&self, which: &Which) -> anyhow::Result<()> {
        if let Some(room) = &which.room {
            let head = inspect::find(self.store, room).await?;
            let of_room = self.media.of_room(head.room).await?;
            self.lines(&of_room.sent).await?;
            if !of_room.mentioned.is_empty() {
                say(format_args!("not named by who uploaded them:"));
                self.lines(&of_room.mentioned).await?;
            }
            return Ok(());
        }
        self.pages(which, true, async |rows| {
            rows.iter().for_each(line);
            Ok(())
        })
        .await
    }

    async fn show(&self, file: &str) -> anyhow::Result<()> {
        let (server, id) = parts(file)?;
        let row = self.media.row(&server, &id).await?;
        let Some(row) = row else {
            bail!("{file} is not here");
        };
        line(&row);
        if let Some(owner) = row.owner {
            say(format_args!(
                "uploaded by: {}",
                self.store.user(owner).await?
            ));
        }
        say(format_args!(
            "name: {}",
            row.name.as_deref().unwrap_or("none").escape_debug()
        ));
        say(format_args!("here for: {}", ago(self.store, row.created)));
        say(format_args!(
            "last asked for, roughly: {} ago",
            ago(self.store, row.accessed)
        ));
        if let Some(blob) = &row.blob {
            say(format_args!("SHA-256: {}", blob.sha256));
            say(format_args!("store: {}, as {}", blob.store, blob.key));
            let pictures = self.store.thumbnail_count(&blob.key).await?;
            say(format_args!("thumbnails: {pictures}"));
        }
        Ok(())
    }

    async fn usage(&self) -> anyhow::Result<()> {
        for store in self.store.media_by_store().await? {
            let bytes = size(store.bytes);
            say(format_args!(
                "store {}: {} blobs, {bytes}",
                store.store, store.blobs
            ));
        }
        for user in self.store.media_by_user(20).await? {
            let who = match user.owner {
                Some(owner) => self.store.user(owner).await?.to_string(),
                None => "without a user here".to_owned(),
            };
            say(format_args!(
                "{who}: {} files, {}",
                user.files,
                size(user.bytes)
            ));
        }
        Ok(())
    }
}
