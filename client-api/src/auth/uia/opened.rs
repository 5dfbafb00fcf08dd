//! Sessions whose stages are completed by a page in a browser.

use rhizome_edge::MatrixError;
use rhizome_storage::UiaSession;

use super::{Proofs, Purpose, Stage, stage::Flows};
use crate::{App, auth::validated};

/// A session that a page in a browser was opened for.
pub(crate) struct Opened {
    pub(super) session: UiaSession,
    pub(super) purpose: Purpose,
    proofs: Proofs,
    flows: Flows,
}

impl Opened {
    /// The session with this id; `None` if it has ended, or isn't one in which stages are completed.
    pub async fn find(app: &App, id: &str) -> Result<Option<Self>, MatrixError> {
        let now = app.store.clock().now_ms();
        let Some(session) = app.store.uia_session(id, now).await? else {
            return Ok(None);
        };
        let Some(purpose) = Purpose::read(&session.purpose) else {
            return Ok(None);
        };
        Ok(Some(Self {
            proofs: Proofs::read(&session.completed),
            flows: purpose.flows_now(app).await?,
            session,
            purpose,
        }))
    }

    /// Whether a stage is completed.
    pub fn has(&self, stage: Stage) -> bool {
        self.proofs.of(stage).is_some()
    }

    /// For what an address has to be confirmed that serves for it.
    pub fn of_addresses(&self) -> validated::Purpose {
        self.purpose.of_addresses()
    }

    /// Whose account it is about and what it would do, as the end of a sentence, if that can be told.
    pub fn act(&self) -> Option<(&str, &'static str)> {
        Some((self.purpose.user()?.as_str(), self.purpose.said()?))
    }

    /// Whether it is its turn.
    pub fn goes_on_with(&self, stage: Stage) -> bool {
        self.flows.go_on_with(&self.proofs, stage)
    }
}
