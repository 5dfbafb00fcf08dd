//! `rhizome database`.

use anyhow::bail;
use rhizome_storage::Pos;

use crate::config::Config;
use crate::server;

use super::{DatabaseCommand, say};

pub(super) fn database(config: &Config, command: &DatabaseCommand) -> anyhow::Result<()> {
    match command {
        DatabaseCommand::Restored => super::block_on(async {
            let store = server::open_store(config).await?;
            let is_empty = store.log().head() == Pos(0);
            let renewed = store.renew_epoch().await;
            store.close().await;
            if is_empty {
                bail!(
                    "nothing was ever written to the database {}; is it the one that was restored? See database.url",
                    config.database.url_for_display(&config.server.data_dir)
                );
            }
            renewed?;
            say("Clients will sync anew: what they knew of a later state counts no more.");
            Ok(())
        }),
    }
}
