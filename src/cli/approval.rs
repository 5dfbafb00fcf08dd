//! `rhizome user waiting` and `rhizome user approve`: accounts that wait for approval (`registration.require_approval`).

use anyhow::{Context as _, bail};
use rhizome_client_api::users;
use rhizome_storage::{Store, UserNo};

use crate::config::Config;

use super::{ago, say};

/// So many accounts are read at once.
const PIECE: usize = 500;

/// Lists the accounts that wait, a line each.
pub(super) async fn waiting(store: &Store) -> anyhow::Result<()> {
    let mut after = UserNo(0);
    loop {
        let page = store.awaiting_approval(after, PIECE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.user;
        for one in &page {
            let since = ago(store, one.since_ms);
            let addresses = addresses(store, one.user).await?;
            say(format_args!("{}  since {since}{addresses}", one.user_id));
        }
    }
}

/// Addresses that were confirmed to be somebody's, for the end of a line.
async fn addresses(store: &Store, user: UserNo) -> anyhow::Result<String> {
    let mut text = String::new();
    for one in store.third_parties(user).await? {
        text.push_str("  ");
        // A terminal must not do what they say.
        text.extend(one.third_party.address.escape_debug());
    }
    Ok(text)
}

/// Lets the owners of accounts log in. The server tells those by mail who have an address.
pub(super) async fn approve(
    store: &Store,
    config: &Config,
    names: &[String],
) -> anyhow::Result<()> {
    for name in names {
        // People write the whole id as well.
        let local = name.trim_start_matches('@');
        let local = match local.split_once(':') {
            Some((local, server)) if server == config.server.name.as_str() => local,
            Some(_) => bail!("{} isn't a user of this server", name.escape_debug()),
            None => local,
        };
        let user_id = users::user_id(&config.server.name, local)
            .map_err(|error| anyhow::anyhow!(error.message))
            .with_context(|| format!("{} is no name", name.escape_debug()))?;
        let account = store.account(&user_id).await?;
        let Some(account) = account else {
            bail!("there is no account {user_id}");
        };
        if users::approve(store, &user_id, account.user).await? {
            say(format_args!("approved {user_id}"));
        } else {
            say(format_args!("{user_id} wasn't waiting"));
        }
    }
    Ok(())
}
