//! `[registration]`: who may make an account.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::units::Secret;
use super::{Identity, Mail, Problems};

/// Who may make an account.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registration {
    /// Through `/register`: nobody, whoever has a token, or anybody.
    pub mode: RegistrationMode,
    /// Must be `true` for `mode = "open"`.
    pub strangers_may_register_and_i_accept_the_abuse: bool,
    /// Whether there may be guests, who need no password.
    pub guests: bool,
    /// Policies that have to be accepted.
    pub terms: Vec<Policy>,
    /// A service that tells people from programs.
    pub captcha: Option<Captcha>,
    /// Whether accounts have an address that mails come to.
    pub email: ContactRule,
    /// Whether they have a telephone number.
    pub phone: ContactRule,
    /// At which domains addresses for mails may be; none: at all.
    pub email_domains: Vec<String>,
    /// At which they may not.
    pub denied_email_domains: Vec<String>,
    /// Patterns, of which a name must fit one; none: any name will do.
    pub allowed_names: Vec<String>,
    /// Patterns of names that nobody gets through `/register`.
    pub reserved_names: Vec<String>,
    /// Whether the operator approves new accounts before somebody can log in.
    pub require_approval: bool,
    /// What people are called at first.
    pub default_display_name: DisplayName,
    /// Lets scripts register users through `/_synapse/admin/v1/register`.
    pub shared_secret: Option<Secret>,
    /// A file that holds the shared secret.
    pub shared_secret_file: Option<PathBuf>,
}

/// Who may register through the client API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationMode {
    /// Nobody; the operator makes accounts.
    #[default]
    Closed,
    /// Anybody.
    Open,
    /// Whoever has a token of the operator's.
    Token,
}

/// Whether accounts have an address that mails come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactRule {
    /// Nobody is asked for one.
    Off,
    /// Who likes gives one, if this server sends mails.
    #[default]
    Optional,
    /// There is no account without.
    Required,
}

/// What people are called at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisplayName {
    /// As the first part of their id says.
    #[default]
    Localpart,
    /// Nothing.
    None,
}

/// A policy that has to be accepted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What programs call it.
    pub id: String,
    /// Its version.
    pub version: String,
    /// It, by language.
    pub languages: BTreeMap<String, Document>,
}

/// A policy in a language.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// A service that tells people from programs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captcha {
    /// Which.
    #[serde(default)]
    pub kind: CaptchaKind,
    /// What clients need to know of our account there.
    pub site_key: String,
    /// What nobody else may know of it.
    pub secret: Option<Secret>,
    /// A file that holds that.
    pub secret_file: Option<PathBuf>,
    /// Where answers are verified, if not where the service does.
    pub verify_url: Option<String>,
}

/// A kind of such services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptchaKind {
    /// Google's.
    #[default]
    Recaptcha,
    /// hCaptcha.
    Hcaptcha,
    /// Cloudflare's.
    Turnstile,
}

impl Registration {
    /// Whether strangers may register.
    pub fn is_open(&self) -> bool {
        self.mode == RegistrationMode::Open
    }

    pub(super) fn check(&self, mail: &Mail, identity: &Identity, problems: &mut Problems) {
        if self.is_open() && !self.strangers_may_register_and_i_accept_the_abuse {
            problems.add(
                "registration.mode",
                "\"open\" lets anyone on the Internet make accounts here, which spammers look for",
                "keep \"closed\" and use `rhizome user create`, or \"token\" and use `rhizome token create`, or confirm with `strangers_may_register_and_i_accept_the_abuse = true`",
            );
        }
        if self
            .shared_secret
            .as_ref()
            .is_some_and(|secret| secret.expose().len() < 8)
        {
            problems.add(
                "registration.shared_secret",
                "the shared secret is shorter than 8 characters, so it can be guessed",
                "use a long random one, such as the output of `openssl rand -hex 32`",
            );
        }
        if self.email == ContactRule::Required && mail.host.is_none() {
            problems.add(
                "registration.email",
                "accounts need an address, and nobody can be sent a mail to confirm theirs",
                "set up `[mail]`, or write \"optional\"",
            );
        }
        if self.phone == ContactRule::Required && identity.sms.is_none() {
            problems.add(
                "registration.phone",
                "accounts need a telephone number, and nobody can be sent a message to confirm theirs",
                "set up `identity.sms`, or write \"optional\"",
            );
        }
        self.check_terms(problems);
        if let Some(captcha) = &self.captcha {
            captcha.check(problems);
        }
    }

    fn check_terms(&self, problems: &mut Problems) {
        let mut ids = BTreeSet::new();
        for policy in &self.terms {
            let mut wrong = |what: String, remedy: &str| {
                problems.add("registration.terms", what, remedy);
            };
            for (key, text) in [("id", &policy.id), ("version", &policy.version)] {
                if !is_opaque(text) {
                    wrong(
                        format!("`{text}` can't be the {key} of a policy"),
                        "use a-z, A-Z, 0-9 and -._~, at most 255 of them",
                    );
                }
            }
            if !ids.insert(&policy.id) {
                let what = format!("two policies have the id `{}`", policy.id);
                wrong(what, "write one policy, with all its languages");
            }
            if policy.languages.is_empty() {
                wrong(
                    format!("the policy `{}` is in no language", policy.id),
                    "add `languages = { en = { name = \"…\", url = \"https://…\" } }`",
                );
            }
            for (language, document) in &policy.languages {
                if language == "version" || !is_opaque(language) {
                    wrong(
                        format!("`{language}` is no language"),
                        "use a code such as \"en\" or \"de-AT\"",
                    );
                }
                if !is_web_address(&document.url) {
                    wrong(
                        format!("`{}` is no address of a policy", document.url),
                        "write where people can read it, such as \"https://example.org/privacy\"",
                    );
                }
            }
        }
    }
}

impl Captcha {
    fn check(&self, problems: &mut Problems) {
        let secret = self.secret.as_ref();
        if self.site_key.is_empty() || secret.is_none_or(|secret| secret.expose().is_empty()) {
            problems.add(
                "registration.captcha",
                "the captcha service needs both keys of your account there",
                "add `site_key`, and `secret` or `secret_file`",
            );
        }
        if let Some(url) = &self.verify_url
            && !is_web_address(url)
        {
            problems.add(
                "registration.captcha.verify_url",
                format!("`{url}` is no web address"),
                "leave it out, or begin it with https://",
            );
        }
    }
}

/// Whether a text is an opaque identifier (<https://spec.matrix.org/v1.19/appendices/#opaque-identifiers>).
fn is_opaque(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
    (1..=255).contains(&text.len()) && text.bytes().all(fits)
}

fn is_web_address(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !text.contains(char::is_whitespace))
}
