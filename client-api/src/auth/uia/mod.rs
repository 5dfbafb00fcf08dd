//! User-interactive authentication
//! (<https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>).
//!
//! A session remembers what it was begun for ([`Purpose`]) and which stages are completed, each with what it proved
//! ([`Proofs`]); it lives in the database, so that any process can go on with what another began. Which flows there are
//! follows from the purpose, so that a page in a browser can complete a stage as well (`account/fallback`).

mod captcha;
mod confirm;
mod opened;
mod purpose;
mod stage;
mod verify;

use std::net::IpAddr;

use http::StatusCode;
use rhizome_edge::{MatrixError, limits::block_of};
use rhizome_storage::{NewUiaSession, UiaSession, password_mark, random};
use ruma::api::client::uiaa::AuthData;
use serde_json::{Map, Value, json};

use self::{
    stage::Flows,
    verify::{Place, Refusal, verify},
};
use crate::{App, config::TermsPolicy};

pub(crate) use self::{
    confirm::{DEACTIVATE, confirm},
    opened::Opened,
    purpose::{Act, Purpose},
    stage::{Proofs, Stage},
    verify::{Given, Whom},
};

/// How long a session lives, in milliseconds.
const LIFETIME_MS: i64 = 60 * 60 * 1000;
/// How often what is proved is written down again when the session has moved on meanwhile.
const ATTEMPTS: u32 = 5;

const EXPIRED: Refusal = (
    "M_UNKNOWN",
    "The session has expired or belongs to another request",
);
const OUT_OF_ORDER: Refusal = (
    "M_FORBIDDEN",
    "The stage isn't the next one of a flow of this request",
);

/// All stages of a flow are completed.
pub(crate) struct Passed {
    /// The session as it was before the last one was, if there is one.
    pub session: Option<UiaSession>,
    /// What was proved.
    pub proofs: Proofs,
}

/// Passes when all stages of a flow are completed, the last one perhaps by this request. What to do with the session then
/// is for whoever asks: it may serve again until it ends or is for something else.
///
/// # Errors
/// As of [`confirm`].
pub(crate) async fn pass(
    app: &App,
    purpose: &Purpose,
    (auth, peer): (Option<&AuthData>, Option<IpAddr>),
) -> Result<Passed, MatrixError> {
    let asking = Asking::new(app, purpose, peer).await?;
    let Some(auth) = auth else {
        let session = asking.begin().await?;
        return Err(asking.challenge(&session.id, &Proofs::default(), None));
    };
    let mut session = None;
    if let Some(id) = auth.session() {
        session = asking.find(id).await?;
        if session.is_none() {
            let session = asking.begin().await?;
            return Err(asking.challenge(&session.id, &Proofs::default(), Some(EXPIRED)));
        }
    }
    asking.step(session, Given::of(auth)).await
}

/// Completes a stage of a session that a page in a browser was opened for; gives what is proved by then.
///
/// # Errors
/// `Err` within: why it isn't completed.
pub(crate) async fn complete(
    app: &App,
    opened: &Opened,
    given: Given<'_>,
    peer: Option<IpAddr>,
) -> Result<Result<(), String>, MatrixError> {
    let asking = Asking::new(app, &opened.purpose, peer).await?;
    let stage = given.stage();
    let session = opened.session.clone();
    let passed = match asking.step(Some(session), Some(given)).await {
        Ok(passed) => passed,
        Err(error) if error.status == StatusCode::UNAUTHORIZED => {
            let completed = error.extra.get("completed").and_then(Value::as_array);
            let done = |stage: Stage| {
                completed.is_some_and(|all| all.iter().any(|one| one == stage.name()))
            };
            return Ok(match stage {
                Some(stage) if done(stage) => Ok(()),
                _ => Err(error.message),
            });
        }
        Err(error) => return Err(error),
    };
    // The client asks again, and finds that all is done.
    let Some(before) = passed.session else {
        return Ok(Ok(()));
    };
    let proofs = passed.proofs.text();
    let written = app
        .store
        .move_uia_session(&before, &before.purpose, &proofs);
    Ok(if written.await? || before.completed == proofs {
        Ok(())
    } else {
        Err("The session has moved on meanwhile; please try again".to_owned())
    })
}

/// A request that has to be authenticated.
struct Asking<'a> {
    app: &'a App,
    purpose: &'a Purpose,
    flows: Flows,
    peer: Option<IpAddr>,
}

impl<'a> Asking<'a> {
    async fn new(
        app: &'a App,
        purpose: &'a Purpose,
        peer: Option<IpAddr>,
    ) -> Result<Self, MatrixError> {
        Ok(Self {
            app,
            purpose,
            flows: purpose.flows_now(app).await?,
            peer,
        })
    }

    /// A new session.
    async fn begin(&self) -> Result<UiaSession, MatrixError> {
        let now = self.app.store.clock().now_ms();
        let session = UiaSession {
            id: random::secret()?,
            purpose: self.purpose.to_string(),
            completed: Proofs::default().text(),
            expires_ms: now + LIFETIME_MS,
        };
        // Who is known by their token isn't pushed out by strangers behind the same address.
        let by = match self.purpose.user() {
            Some(user) => user.to_string(),
            None => block(self.peer),
        };
        let new = NewUiaSession {
            id: &session.id,
            purpose: &session.purpose,
            peer: &by,
            now_ms: now,
            expires_ms: session.expires_ms,
        };
        self.app.store.begin_uia_session(new).await?;
        Ok(session)
    }

    /// The session with this id, if it is for this.
    async fn find(&self, id: &str) -> Result<Option<UiaSession>, MatrixError> {
        let now = self.app.store.clock().now_ms();
        let session = self.app.store.uia_session(id, now).await?;
        let purpose = self.purpose.to_string();
        match session.filter(|session| session.purpose == purpose) {
            Some(session) if self.is_outdated(&session).await? => Ok(None),
            found => Ok(found),
        }
    }

    /// Whether a password was proved that has been changed since.
    async fn is_outdated(&self, session: &UiaSession) -> Result<bool, MatrixError> {
        let proofs = Proofs::read(&session.completed);
        let mark = proofs
            .of(Stage::Password)
            .and_then(|proof| proof.get("mark"));
        let (Some(mark), Some(user)) = (mark.and_then(Value::as_str), self.purpose.user()) else {
            return Ok(false);
        };
        let account = self.app.store.account(user).await?;
        let hash = account.and_then(|account| account.password_hash);
        Ok(hash.as_deref().map(password_mark).as_deref() != Some(mark))
    }

    /// Goes on with what is given, or finds whether all is done.
    async fn step(
        &self,
        mut session: Option<UiaSession>,
        given: Option<Given<'_>>,
    ) -> Result<Passed, MatrixError> {
        let proofs = proofs_of(session.as_ref());
        let Some(given) = given else {
            return self.conclude(session, proofs).await;
        };
        let Some(stage) = given.stage().filter(|stage| self.flows.have(*stage)) else {
            let refusal = (
                "M_FORBIDDEN",
                "The stage isn't part of a flow of this request",
            );
            return Err(self.refuse(session, &proofs, refusal).await?);
        };
        if proofs.of(stage).is_some() {
            return self.conclude(session, proofs).await;
        }
        if !self.flows.go_on_with(&proofs, stage) {
            return Err(self.refuse(session, &proofs, OUT_OF_ORDER).await?);
        }
        // Who needn't remember anything has no session.
        let is_all = self.flows.are_done(&proofs.with(stage, Value::Null));
        if session.is_none() && (!is_all || stage == Stage::Token) {
            session = Some(self.begin().await?);
        }
        let place = Place {
            app: self.app,
            purpose: self.purpose,
            session: session.as_ref(),
            peer: self.peer,
        };
        match verify(&place, &given).await? {
            Ok(proof) => self.record(session, stage, proof).await,
            Err(refusal) => Err(self.refuse(session, &proofs, refusal).await?),
        }
    }

    /// Writes down that a stage is completed, unless it was the last one, and says what is missing.
    async fn record(
        &self,
        mut session: Option<UiaSession>,
        stage: Stage,
        proof: Value,
    ) -> Result<Passed, MatrixError> {
        for _ in 0..ATTEMPTS {
            let before = proofs_of(session.as_ref());
            if before.of(stage).is_some() {
                return self.conclude(session, before).await;
            }
            if !self.flows.go_on_with(&before, stage) {
                return Err(self.refuse(session, &before, OUT_OF_ORDER).await?);
            }
            let proofs = before.with(stage, proof.clone());
            if self.flows.are_done(&proofs) {
                return Ok(Passed { session, proofs });
            }
            let Some(open) = session else {
                return Err(MatrixError::internal());
            };
            let text = proofs.text();
            let written = self.app.store.move_uia_session(&open, &open.purpose, &text);
            if written.await? {
                return Err(self.challenge(&open.id, &proofs, None));
            }
            // Another request has completed something meanwhile, or all.
            session = self.find(&open.id).await?;
            if session.is_none() {
                return Err(self.refuse(None, &Proofs::default(), EXPIRED).await?);
            }
        }
        Err(MatrixError::busy())
    }

    async fn conclude(
        &self,
        session: Option<UiaSession>,
        proofs: Proofs,
    ) -> Result<Passed, MatrixError> {
        if self.flows.are_done(&proofs) {
            return Ok(Passed { session, proofs });
        }
        let session = self.held(session).await?;
        Err(self.challenge(&session.id, &proofs, None))
    }

    async fn refuse(
        &self,
        session: Option<UiaSession>,
        proofs: &Proofs,
        refusal: Refusal,
    ) -> Result<MatrixError, MatrixError> {
        let session = self.held(session).await?;
        Ok(self.challenge(&session.id, proofs, Some(refusal)))
    }

    async fn held(&self, session: Option<UiaSession>) -> Result<UiaSession, MatrixError> {
        match session {
            Some(session) => Ok(session),
            None => self.begin().await,
        }
    }

    /// The 401 that says what is to be done.
    fn challenge(&self, session: &str, proofs: &Proofs, refusal: Option<Refusal>) -> MatrixError {
        let (errcode, message) = refusal.unwrap_or(("", ""));
        let error = MatrixError::new(StatusCode::UNAUTHORIZED, errcode, message)
            .with("session", session)
            .with("flows", self.flows.json())
            .with("params", self.params());
        let completed: Vec<_> = proofs.stages().map(Stage::name).collect();
        if completed.is_empty() {
            error
        } else {
            error.with("completed", completed)
        }
    }

    /// What clients need to know of the stages.
    fn params(&self) -> Value {
        let rules = &self.app.config.registration_rules;
        let mut params = Map::new();
        if let Some(captcha) = &rules.captcha
            && self.flows.have(Stage::Captcha)
        {
            let key = json!({ "public_key": captcha.site_key });
            params.insert(Stage::Captcha.name().to_owned(), key);
        }
        if self.flows.have(Stage::Terms) {
            let policies: Map<_, _> = (rules.terms.iter())
                .map(|policy| (policy.id.clone(), shown(policy)))
                .collect();
            let policies = json!({ "policies": policies });
            params.insert(Stage::Terms.name().to_owned(), policies);
        }
        params.into()
    }
}

fn proofs_of(session: Option<&UiaSession>) -> Proofs {
    session.map_or_else(Proofs::default, |session| Proofs::read(&session.completed))
}

/// A policy, as clients are told of it.
fn shown(policy: &TermsPolicy) -> Value {
    let mut shown = Map::new();
    shown.insert("version".to_owned(), policy.version.clone().into());
    for document in &policy.documents {
        let text = json!({ "name": document.name, "url": document.url });
        shown.insert(document.language.clone(), text);
    }
    shown.into()
}

/// A whole subscriber, who has many addresses.
pub(crate) fn block(peer: Option<IpAddr>) -> String {
    peer.map_or_else(String::new, |peer| block_of(peer).to_string())
}
