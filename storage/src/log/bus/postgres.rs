//! PostgreSQL carries the messages (`LISTEN`, `NOTIFY`).

use sqlx::PgPool;
use sqlx::postgres::PgListener;

use super::{Bus, Ear};
use crate::engine::sql::Query;
use crate::{Dialect, Result};

/// The database's own way.
pub(super) struct PostgresBus {
    url: String,
    channel: String,
    pool: PgPool,
}

impl PostgresBus {
    pub(super) fn new(url: String, channel: String, pool: PgPool) -> Self {
        Self { url, channel, pool }
    }
}

/// As a table, since the function itself gives nothing that could be read.
const SAY: &str = "SELECT COUNT(*) AS said FROM pg_notify($1, $2)";

impl Bus for PostgresBus {
    type Ear = PgListener;

    async fn listen(&self) -> Result<PgListener> {
        let mut listener = PgListener::connect(&self.url).await?;
        listener.listen(&self.channel).await?;
        Ok(listener)
    }

    async fn say(&self, text: &str) -> Result<()> {
        let query = Query::new(Dialect::Postgres, SAY)
            .bind(self.channel.as_str())
            .bind(text);
        query.ready()?.execute(&self.pool).await?;
        Ok(())
    }
}

impl Ear for PgListener {
    async fn hear(&mut self) -> Result<Option<String>> {
        let heard = self.try_recv().await?;
        Ok(heard.map(|heard| heard.payload().to_owned()))
    }
}
