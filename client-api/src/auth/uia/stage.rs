//! The stages of user-interactive authentication, and in which order they lead to its end.

use serde_json::{Value, json};

use crate::auth::validated::{Medium, ThirdParty};

/// A stage (<https://spec.matrix.org/v1.19/client-server-api/#authentication-types>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing to prove.
    Dummy,
    /// The user's password.
    Password,
    /// That policies are accepted.
    Terms,
    /// That it is no program that asks.
    Captcha,
    /// That the operator has given out a token.
    Token,
    /// An address for mails.
    Email,
    /// A telephone number.
    Msisdn,
    /// What the operator's own system says, of who has no password.
    Jwt,
    /// What another service says. No flow of ours has it.
    Sso,
    /// Likewise.
    OAuth,
}

const STAGES: [(Stage, &str); 10] = [
    (Stage::Dummy, "m.login.dummy"),
    (Stage::Password, "m.login.password"),
    (Stage::Terms, "m.login.terms"),
    (Stage::Captcha, "m.login.recaptcha"),
    (Stage::Token, "m.login.registration_token"),
    (Stage::Email, "m.login.email.identity"),
    (Stage::Msisdn, "m.login.msisdn"),
    (Stage::Jwt, "org.matrix.login.jwt"),
    (Stage::Sso, "m.login.sso"),
    (Stage::OAuth, "m.oauth"),
];

impl Stage {
    pub fn name(self) -> &'static str {
        let found = STAGES.iter().find(|(stage, _)| *stage == self);
        found.map_or("", |(_, name)| name)
    }

    pub fn named(name: &str) -> Option<Self> {
        let found = STAGES.iter().find(|(_, its)| *its == name);
        found.map(|(stage, _)| *stage)
    }
}

/// What has been proved in a session: its stages in the order in which they were completed, with what each said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proofs(Vec<(Stage, Value)>);

impl Proofs {
    /// From how they are stored. What can't be read was never proved.
    pub fn read(text: &str) -> Self {
        let list: Vec<(String, Value)> = serde_json::from_str(text).unwrap_or_default();
        let known = list
            .into_iter()
            .map_while(|(name, proof)| Some((Stage::named(&name)?, proof)));
        Self(known.collect())
    }

    /// How they are stored.
    pub fn text(&self) -> String {
        let list = self.0.iter();
        let list: Vec<_> = list
            .map(|(stage, proof)| json!([stage.name(), proof]))
            .collect();
        Value::from(list).to_string()
    }

    /// What a stage said, if it is completed.
    pub fn of(&self, stage: Stage) -> Option<&Value> {
        let found = self.0.iter().find(|(its, _)| *its == stage);
        found.map(|(_, proof)| proof)
    }

    /// With one more.
    #[must_use]
    pub fn with(&self, stage: Stage, proof: Value) -> Self {
        let mut all = self.clone();
        all.0.push((stage, proof));
        all
    }

    /// The addresses that were shown to be somebody's, each with the session in which that was.
    pub fn third_parties(&self) -> Vec<(ThirdParty, String)> {
        let media = [
            (Stage::Email, Medium::Email),
            (Stage::Msisdn, Medium::Msisdn),
        ];
        let shown = media.into_iter().filter_map(|(stage, medium)| {
            let text = |key: &str| Some(self.of(stage)?.get(key)?.as_str()?.to_owned());
            let address = text("address")?;
            Some((ThirdParty { medium, address }, text("sid")?))
        });
        shown.collect()
    }

    pub fn stages(&self) -> impl ExactSizeIterator<Item = Stage> + '_ {
        self.0.iter().map(|(stage, _)| *stage)
    }
}

/// The flows that a client can choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flows(pub Vec<Vec<Stage>>);

impl Flows {
    /// One flow, of one stage.
    pub fn only(stage: Stage) -> Self {
        Self(vec![vec![stage]])
    }

    /// Whether all stages of a flow are completed, in its order.
    pub fn are_done(&self, proofs: &Proofs) -> bool {
        self.0
            .iter()
            .any(|flow| flow.iter().copied().eq(proofs.stages()))
    }

    /// Whether a stage comes next in a flow whose stages so far are completed.
    pub fn go_on_with(&self, proofs: &Proofs, stage: Stage) -> bool {
        let done = proofs.stages().len();
        let is_next = |flow: &Vec<Stage>| {
            flow.get(done) == Some(&stage) && flow.iter().copied().take(done).eq(proofs.stages())
        };
        self.0.iter().any(is_next)
    }

    /// Whether a stage is in one of them at all.
    pub fn have(&self, stage: Stage) -> bool {
        self.0.iter().any(|flow| flow.contains(&stage))
    }

    /// How clients are told.
    pub fn json(&self) -> Value {
        let flow = |flow: &Vec<Stage>| {
            let names: Vec<_> = flow.iter().map(|stage| stage.name()).collect();
            json!({ "stages": names })
        };
        self.0.iter().map(flow).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_names() {
        for (stage, name) in STAGES {
            assert_eq!((stage.name(), Stage::named(name)), (name, Some(stage)));
        }
        assert_eq!(Stage::named("m.login.unknown"), None);
    }

    #[test]
    fn flows_are_followed_in_their_order() {
        use Stage::{Captcha, Dummy, Email, Terms};
        let flows = Flows(vec![
            vec![Captcha, Dummy, Terms],
            vec![Captcha, Email, Terms],
        ]);
        let none = Proofs::default();
        assert!(flows.go_on_with(&none, Captcha));
        for stage in [Dummy, Email, Terms, Stage::Password] {
            assert!(!flows.go_on_with(&none, stage), "{stage:?}");
        }
        let one = none.with(Captcha, Value::Null);
        assert!(flows.go_on_with(&one, Dummy) && flows.go_on_with(&one, Email));
        assert!(!flows.go_on_with(&one, Terms) && !flows.go_on_with(&one, Captcha));
        let two = one.with(Email, json!({ "address": "a@b" }));
        assert!(!flows.go_on_with(&two, Dummy));
        assert!(!flows.are_done(&two));
        let three = two.with(Terms, Value::Null);
        assert!(flows.are_done(&three));
        assert!(!flows.go_on_with(&three, Dummy));
        let read = Proofs::read(&three.text());
        assert_eq!(read, three);
        assert_eq!(read.of(Email).unwrap()["address"], "a@b");
        // What can't be read was never proved.
        for text in ["", "{}", "[[1,2]]", "[\"x\"]", "[[\"m.login.odd\",1]]"] {
            assert_eq!(Proofs::read(text), none, "{text}");
        }
    }
}
