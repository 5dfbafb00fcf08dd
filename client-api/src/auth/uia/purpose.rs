//! What a session of user-interactive authentication is for: the operation, whose account it is about, and what exactly it
//! would do. A session serves nothing else.

use std::fmt;

use rhizome_edge::MatrixError;
use ring::digest::{Context, SHA256};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::{Map, Value};

use super::stage::{Flows, Stage};
use crate::{
    App,
    auth::validated,
    config::{ClientConfig, ContactRule, Registration},
};

/// A new account.
pub(super) const REGISTER: &str = "register";
/// A guest's account becomes one like others.
pub(super) const UPGRADE: &str = "upgrade";
/// A new password for who has forgotten theirs.
const RESET: &str = "reset_password";

/// What a session is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// The operation.
    what: String,
    /// Whose account it is about, if there is one.
    user: Option<OwnedUserId>,
    /// What exactly it would do.
    digest: String,
    /// Which device of the user's asks, if that is known here. Another may go on.
    device: Option<OwnedDeviceId>,
}

/// What a user wants to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act<'a> {
    /// The operation.
    pub what: &'a str,
    /// To what, if the path says that.
    pub to: &'a str,
    /// The request's body.
    pub body: &'a [u8],
    /// Whether it will do that whose account it is was proved by the same session of late.
    pub lately_will_do: bool,
}

impl Purpose {
    /// A registration. Who registers may change their mind about their name while they do; they accept what they were shown.
    pub fn registration(config: &ClientConfig) -> Self {
        Self::of_registration(REGISTER, None, config)
    }

    /// A guest becomes a user.
    pub fn upgrade(guest: &UserId, config: &ClientConfig) -> Self {
        Self::of_registration(UPGRADE, Some(guest), config)
    }

    fn of_registration(what: &str, user: Option<&UserId>, config: &ClientConfig) -> Self {
        let mut context = Context::new(&SHA256);
        for policy in &config.registration_rules.terms {
            feed(&mut context, policy.id.as_bytes());
            feed(&mut context, policy.version.as_bytes());
        }
        Self {
            what: what.to_owned(),
            user: user.map(ToOwned::to_owned),
            digest: hex(context),
            device: None,
        }
    }

    /// What a user wants to do.
    pub fn act(user: &UserId, act: Act<'_>) -> Self {
        Self {
            what: act.what.to_owned(),
            user: Some(user.to_owned()),
            digest: digest(act.to, act.body),
            device: None,
        }
    }

    /// The same, asked for by this device.
    pub fn by(self, device: Option<&DeviceId>) -> Self {
        let device = device.map(ToOwned::to_owned);
        Self { device, ..self }
    }

    /// A new password, for an account that isn't known yet. One that won't do may be followed by another.
    pub fn reset() -> Self {
        Self {
            what: RESET.to_owned(),
            user: None,
            digest: digest("", b"{}"),
            device: None,
        }
    }

    /// From how it is stored; `None` of what isn't one.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (what, user, digest) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || digest.len() != 64 {
            return None;
        }
        let user = match user {
            "-" => None,
            user => Some(UserId::parse(user).ok()?),
        };
        Some(Self {
            what: what.to_owned(),
            user,
            digest: digest.to_owned(),
            device: None,
        })
    }

    /// Whose account it is about.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_deref()
    }

    /// Which device of theirs asks, if that is known.
    pub fn device(&self) -> Option<&DeviceId> {
        self.device.as_deref()
    }

    /// What a user would do, as the end of a sentence.
    pub fn said(&self) -> Option<&'static str> {
        Some(match &*self.what {
            "add_3pid" => "add an address or a telephone number to their account",
            "change_password" => "set another password",
            "deactivate" => "end their account for ever",
            "delete_device" | "delete_devices" => "log devices out",
            "device_signing" => "replace the keys by which their devices are verified",
            "login_token" => "let another device log in",
            _ => return None,
        })
    }

    /// Whether a stage is in one of its flows.
    pub fn has(&self, stage: Stage, config: &ClientConfig) -> bool {
        self.flows(config).have(stage)
    }

    /// For what an address has to be confirmed that serves for this.
    pub fn of_addresses(&self) -> validated::Purpose {
        match &*self.what {
            RESET => validated::Purpose::PasswordReset,
            _ => validated::Purpose::Registration,
        }
    }

    /// How it can be authenticated now: who has no password does it as they log in.
    pub async fn flows_now(&self, app: &App) -> Result<Flows, MatrixError> {
        let flows = self.flows(&app.config);
        let (Some(user), true) = (&self.user, flows.have(Stage::Password)) else {
            return Ok(flows);
        };
        if app.config.jwt.is_none() {
            return Ok(flows);
        }
        let account = app.store.account(user).await?;
        let has_none = account.is_some_and(|account| account.password_hash.is_none());
        Ok(if has_none {
            Flows::only(Stage::Jwt)
        } else {
            flows
        })
    }

    /// How it can be authenticated.
    fn flows(&self, config: &ClientConfig) -> Flows {
        match &*self.what {
            REGISTER | UPGRADE => registration(config),
            RESET => {
                let by_mail = config.mailing.is_some().then_some(Stage::Email);
                let by_telephone = config.identity.sms.as_ref().map(|_| Stage::Msisdn);
                let ways = by_mail.into_iter().chain(by_telephone);
                Flows(ways.map(|way| vec![way]).collect())
            }
            _ => Flows::only(Stage::Password),
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map_or("-", |user| user.as_str());
        write!(f, "{} {user} {}", self.what, self.digest)
    }
}

/// What it takes to register. Where one flow is the beginning of another, a stage that proves nothing sets them apart.
fn registration(config: &ClientConfig) -> Flows {
    let rules = &config.registration_rules;
    let mut flows: Vec<Vec<Stage>> = Vec::new();
    for email in ways(rules.email, Stage::Email, config.mailing.is_some()) {
        let by_telephone = config.identity.sms.is_some();
        for msisdn in ways(rules.phone, Stage::Msisdn, by_telephone) {
            let mut flow = Vec::new();
            flow.extend((config.registration == Registration::Token).then_some(Stage::Token));
            flow.extend(rules.captcha.is_some().then_some(Stage::Captcha));
            flow.extend(email);
            flow.extend(msisdn);
            flow.extend((!rules.terms.is_empty()).then_some(Stage::Terms));
            flows.push(flow);
        }
    }
    for at in 0..flows.len() {
        let begins =
            |(other, flow): (usize, &Vec<Stage>)| other != at && flow.starts_with(&flows[at]);
        if flows[at].is_empty() || flows.iter().enumerate().any(begins) {
            flows[at].push(Stage::Dummy);
        }
    }
    Flows(flows)
}

/// Without an address, with it, or either.
fn ways(rule: ContactRule, stage: Stage, can_be_sent: bool) -> Vec<Option<Stage>> {
    match rule {
        ContactRule::Required => vec![Some(stage)],
        ContactRule::Optional if can_be_sent => vec![None, Some(stage)],
        ContactRule::Optional | ContactRule::Off => vec![None],
    }
}

/// What of a body stands in no digest: what authenticates it, and passwords, which could be found from a digest.
const LEFT_OUT: [&str; 3] = ["auth", "new_password", "password"];

/// What a request would do: to what, and its body without what stands in no digest.
fn digest(to: &str, body: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    feed(&mut context, to.as_bytes());
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(mut body) => {
            body.retain(|key, _| !LEFT_OUT.contains(&key.as_str()));
            feed_value(&mut context, &Value::Object(body));
        }
        Err(_) => feed(&mut context, body),
    }
    hex(context)
}

/// Adds bytes with their length, so that no two lists of them are the same.
fn feed(context: &mut Context, bytes: &[u8]) {
    context.update(&(bytes.len() as u64).to_be_bytes());
    context.update(bytes);
}

/// Adds a value, whatever the order of its keys.
fn feed_value(context: &mut Context, value: &Value) {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<_> = object.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            feed(context, b"{");
            for (key, value) in keys {
                feed(context, key.as_bytes());
                feed_value(context, value);
            }
            feed(context, b"}");
        }
        Value::Array(list) => {
            feed(context, b"[");
            for value in list {
                feed_value(context, value);
            }
            feed(context, b"]");
        }
        plain => feed(context, plain.to_string().as_bytes()),
    }
}

fn hex(context: Context) -> String {
    use fmt::Write as _;
    let digest = context.finish();
    digest.as_ref().iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::config::{Document, TermsPolicy};

    fn act(to: &str, body: &str) -> Purpose {
        let act = Act {
            what: "delete_device",
            to,
            body: body.as_bytes(),
            lately_will_do: false,
        };
        Purpose::act(user_id!("@ada:here.test:8448"), act)
    }

    #[test]
    fn a_session_is_for_one_request() {
        let first = act("A", r#"{"a":1,"b":[{"c":2,"d":3}]}"#);
        let again = act(
            "A",
            r#"{ "b": [{"d":3,"c":2}], "auth": {"session":"x"}, "a": 1, "new_password": "secret" }"#,
        );
        assert_eq!(first, again);
        for (to, body) in [
            ("B", r#"{"a":1,"b":[{"c":2,"d":3}]}"#),
            ("A", r#"{"a":1,"b":[{"c":2,"d":4}]}"#),
            ("A", r#"{"a":1,"b":[{"c":2},{"d":3}]}"#),
            ("A", r#"{"a":"1","b":[{"c":2,"d":3}]}"#),
            ("A", "{}"),
            ("A", "no JSON"),
        ] {
            assert_ne!(first, act(to, body), "{to} {body}");
        }
        assert_eq!(Purpose::read(&first.to_string()), Some(first));
    }

    #[test]
    fn what_is_no_purpose_is_none() {
        for text in ["", "register", "registered @ada:here PHONE", "a - b"] {
            assert_eq!(Purpose::read(text), None, "{text}");
        }
    }

    #[test]
    fn registration_takes_what_the_operator_wants() {
        let mut config = ClientConfig::new("here.test".try_into().unwrap());
        let flows = |config: &ClientConfig| Purpose::registration(config).flows(config).0;
        assert_eq!(flows(&config), [[Stage::Dummy]]);
        let before = Purpose::registration(&config);
        assert_eq!(Purpose::read(&before.to_string()).as_ref(), Some(&before));
        config.registration_rules.terms = vec![TermsPolicy {
            id: "privacy".into(),
            version: "1".into(),
            documents: vec![Document {
                language: "en".into(),
                name: "Privacy".into(),
                url: "https://here.test/privacy".into(),
            }],
        }];
        assert_eq!(flows(&config), [[Stage::Terms]]);
        assert_ne!(Purpose::registration(&config), before);
        config.registration = Registration::Token;
        assert_eq!(flows(&config), [[Stage::Token, Stage::Terms]]);
        config.registration_rules.email = ContactRule::Optional;
        // Nobody can be sent a mail.
        assert_eq!(flows(&config), [[Stage::Token, Stage::Terms]]);
        config.registration_rules.email = ContactRule::Required;
        config.registration_rules.phone = ContactRule::Optional;
        assert_eq!(flows(&config), [[Stage::Token, Stage::Email, Stage::Terms]]);
    }
}
