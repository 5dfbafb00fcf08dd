//! A registration under way, so that a client that never got the answer may ask again.
//!
//! Once its stages are complete, the session of a registration is about the account that it makes and that
//! account's first device. Until it expires, the same request gives the same account and the same device, with
//! tokens of its own, as those that were lost are known to nobody: tokens are kept as hashes only. What was proved stays
//! with the session, and becomes the account's in the commit that makes it: so it counts once. It is the same when a guest's
//! account becomes one like others (`upgrading.rs`).

use std::net::IpAddr;

use rhizome_edge::MatrixError;
use rhizome_storage::{Account, Admission, ThirdParty, TokenUse, UiaSession};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde_json::Value;

use crate::{
    App,
    account::users,
    auth::{
        by_password,
        password::{self, Turn, Whence},
        session::{self, Session, SessionRequest},
        standing,
        uia::{Proofs, Purpose, Stage},
        validated,
    },
    limits::Kind,
};

/// What a registration makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Making {
    /// An account.
    Account,
    /// An account like others of a guest's.
    Upgrade,
}

impl Making {
    /// What the purpose of its session begins with.
    fn word(self) -> &'static str {
        match self {
            Self::Account => "registered",
            Self::Upgrade => "upgraded",
        }
    }
}

/// The account that a registration makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Registering {
    pub(crate) making: Making,
    pub(crate) user_id: OwnedUserId,
    /// Its first device, if it gets one.
    pub(crate) device_id: OwnedDeviceId,
    /// Whether an earlier request has been so far already.
    pub(crate) again: bool,
    /// The session that remembers it, as it is now.
    pub(crate) session: Option<UiaSession>,
    /// What its stages have proved.
    pub(crate) proved: Proved,
}

/// What the stages of a registration have proved.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Proved {
    /// By what the account comes to be.
    pub(crate) admission: Admission,
    /// Addresses that are its owner's.
    pub(crate) third_parties: Vec<ThirdParty>,
    /// The sessions in which these were confirmed.
    sids: Vec<String>,
}

impl Registering {
    /// What an earlier request with this session was about, if it was about this name.
    pub(crate) async fn of(
        app: &App,
        making: Making,
        session: Option<&str>,
        username: Option<&str>,
    ) -> Result<Option<Self>, MatrixError> {
        let Some(session) = session else {
            return Ok(None);
        };
        let now = app.store.clock().now_ms();
        let Some(found) = app.store.uia_session(session, now).await? else {
            return Ok(None);
        };
        let Some(mut before) = Self::from_purpose(making, &found.purpose) else {
            return Ok(None);
        };
        before.proved = Proved::of(app, Some(session), &Proofs::read(&found.completed));
        before.session = Some(found);
        let same = match username {
            Some(name) => users::user_id(&app.config.server_name, name)? == before.user_id,
            None => true,
        };
        Ok(same.then_some(before))
    }

    /// What the session is about from now on.
    pub(crate) fn purpose(&self) -> String {
        let word = self.making.word();
        format!("{word} {} {}", self.user_id, self.device_id)
    }

    fn from_purpose(making: Making, purpose: &str) -> Option<Self> {
        let mut parts = purpose.splitn(3, ' ');
        let (word, user, device) = (parts.next()?, parts.next()?, parts.next()?);
        if word != making.word() {
            return None;
        }
        Some(Self {
            making,
            user_id: UserId::parse(user).ok()?,
            device_id: device.into(),
            again: true,
            session: None,
            proved: Proved::default(),
        })
    }

    /// Makes the account, unless an earlier request has made it, and with this password; and begins a session
    /// if one is asked for.
    ///
    /// # Errors
    /// `M_USER_IN_USE`, `M_WEAK_PASSWORD`, `M_LIMIT_EXCEEDED`; `M_USER_AWAITING_APPROVAL` once the account is there.
    pub(crate) async fn account(
        self,
        app: &App,
        password: &str,
        first: Option<SessionRequest>,
        peer: Option<IpAddr>,
    ) -> Result<Option<Session>, MatrixError> {
        if self.again
            && let Some(account) = app.store.account(&self.user_id).await?
        {
            return self.go_on(app, account, password, (first, peer)).await;
        }
        // Only what makes an account counts, not the questions before it; a second time it is a login.
        app.limits
            .take_from(Kind::Registration, peer, app.now_monotonic_ms())
            .map_err(MatrixError::limit_exceeded)?;
        let waits = self.proved.admission.awaits_approval;
        let begin = first.clone().filter(|_| !waits).map(|first| (first, peer));
        let new = users::New {
            user_id: &self.user_id,
            password: Some(password),
            admin: false,
            third_parties: self.proved.third_parties.clone(),
            admission: self.proved.admission.clone(),
            turn: Turn::of_newcomer(app, peer),
        };
        let session = match users::register(app, new, begin).await {
            Err(error) if self.session.is_some() && error.errcode == "M_USER_IN_USE" => {
                // The same request came twice, and the other one was faster.
                let account = app.store.account(&self.user_id).await?.ok_or(error)?;
                return self.go_on(app, account, password, (first, peer)).await;
            }
            made => made?,
        };
        self.proved.end(app).await?;
        if waits {
            return Err(standing::awaiting_approval());
        }
        Ok(session)
    }

    /// Goes on with an account that there is: one that an earlier request has made, or somebody else's. Then another name can
    /// be tried with what was proved, unless that has served.
    async fn go_on(
        &self,
        app: &App,
        account: Account,
        password: &str,
        first: (Option<SessionRequest>, Option<IpAddr>),
    ) -> Result<Option<Session>, MatrixError> {
        let went = self.log_in(app, account, password, first).await;
        if let (Err(error), Some(session)) = (&went, &self.session)
            && error.errcode == "M_USER_IN_USE"
            && session.completed != Proofs::default().text()
        {
            let purpose = Purpose::registration(&app.config).to_string();
            let proofs = &session.completed;
            let back = app.store.move_uia_session(session, &purpose, proofs);
            back.await?;
        }
        went
    }

    /// Begins a session in the account that an earlier request has made, if it is by this password. Who tries one here
    /// could as well log in: it is counted there.
    pub(crate) async fn log_in(
        &self,
        app: &App,
        account: Account,
        password: &str,
        (first, peer): (Option<SessionRequest>, Option<IpAddr>),
    ) -> Result<Option<Session>, MatrixError> {
        by_password::count_with_logins(app, &self.user_id)?;
        let hash = account.password_hash.filter(|_| !account.deactivated);
        let from = Whence {
            peer,
            at_home: false,
        };
        if !password::attempt(app, password, hash.clone(), from).await? {
            return Err(users::in_use());
        }
        if account.locked {
            return Err(standing::locked());
        }
        if account.awaits_approval {
            return Err(standing::awaiting_approval());
        }
        let Some(first) = first else {
            return Ok(None);
        };
        let first = SessionRequest {
            proof: hash,
            ..first
        };
        let session = session::begin(app, account.user, first, peer).await?;
        Ok(Some(session))
    }
}

impl Proved {
    /// What is written with the account.
    pub(crate) fn of(app: &App, session: Option<&str>, proofs: &Proofs) -> Self {
        let token = proofs.of(Stage::Token).and_then(|proof| {
            Some(TokenUse {
                session: session?.to_owned(),
                token: proof.get("token")?.as_str()?.to_owned(),
            })
        });
        let terms = proofs.of(Stage::Terms).and_then(Value::as_object);
        let terms = terms.into_iter().flatten().filter_map(|(policy, version)| {
            let version = version.as_str()?;
            Some((policy.clone(), version.to_owned()))
        });
        let (third_parties, sids) = proofs.third_parties().into_iter().unzip();
        Self {
            admission: Admission {
                token,
                terms: terms.collect(),
                awaits_approval: app.config.registration_rules.approval,
                session: session.map(ToOwned::to_owned),
            },
            third_parties,
            sids,
        }
    }

    /// The addresses have served.
    pub(crate) async fn end(&self, app: &App) -> Result<(), MatrixError> {
        for sid in &self.sids {
            validated::used(app, sid).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_says_what_is_registered() {
        for (making, other) in [
            (Making::Account, Making::Upgrade),
            (Making::Upgrade, Making::Account),
        ] {
            let before = Registering {
                making,
                user_id: "@ada:here.test:8448".try_into().unwrap(),
                device_id: "Ada's own phone".into(),
                again: true,
                session: None,
                proved: Proved::default(),
            };
            let purpose = before.purpose();
            assert_eq!(Registering::from_purpose(other, &purpose), None);
            let again = Registering::from_purpose(making, &purpose);
            assert_eq!(again, Some(before));
        }
        for other in [
            "register",
            "registered",
            "registered @ada:x",
            "registered x y",
        ] {
            assert_eq!(Registering::from_purpose(Making::Account, other), None);
        }
    }
}
