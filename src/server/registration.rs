//! What the settings of registration are to the client API.

use rhizome_client_api::config as client_api;

use crate::config::{
    Captcha, CaptchaKind, ContactRule, DisplayName, Policy, Registration, RegistrationMode, Secret,
};

/// Who may register, and what that takes.
pub(super) fn apply(from: &Registration, to: &mut client_api::ClientConfig) {
    to.registration = match from.mode {
        RegistrationMode::Closed => client_api::Registration::Closed,
        RegistrationMode::Open => client_api::Registration::Open,
        RegistrationMode::Token => client_api::Registration::Token,
    };
    to.registration_rules = rules(from);
    to.guests = from.guests;
    let secret = from.shared_secret.as_ref();
    to.registration_shared_secret = secret.map(|secret| secret.expose().to_owned());
}

fn rules(from: &Registration) -> client_api::RegistrationRules {
    client_api::RegistrationRules {
        terms: from.terms.iter().map(policy).collect(),
        captcha: from.captcha.as_ref().map(captcha),
        allowed_names: from.allowed_names.clone(),
        reserved_names: from.reserved_names.clone(),
        approval: from.require_approval,
        nameless: from.default_display_name == DisplayName::None,
        email: contact(from.email),
        phone: contact(from.phone),
        email_domains: from.email_domains.clone(),
        denied_email_domains: from.denied_email_domains.clone(),
    }
}

fn contact(from: ContactRule) -> client_api::ContactRule {
    match from {
        ContactRule::Off => client_api::ContactRule::Off,
        ContactRule::Optional => client_api::ContactRule::Optional,
        ContactRule::Required => client_api::ContactRule::Required,
    }
}

fn policy(from: &Policy) -> client_api::TermsPolicy {
    let documents = from.languages.iter();
    client_api::TermsPolicy {
        id: from.id.clone(),
        version: from.version.clone(),
        documents: documents
            .map(|(language, document)| client_api::Document {
                language: language.clone(),
                name: document.name.clone(),
                url: document.url.clone(),
            })
            .collect(),
    }
}

fn captcha(from: &Captcha) -> client_api::Captcha {
    let kind = match from.kind {
        CaptchaKind::Recaptcha => client_api::CaptchaKind::Recaptcha,
        CaptchaKind::Hcaptcha => client_api::CaptchaKind::Hcaptcha,
        CaptchaKind::Turnstile => client_api::CaptchaKind::Turnstile,
    };
    let secret = from.secret.as_ref().map(Secret::expose);
    let url = from.verify_url.as_deref();
    client_api::Captcha {
        kind,
        site_key: from.site_key.clone(),
        secret: secret.unwrap_or_default().to_owned(),
        verify_url: url.unwrap_or_else(|| kind.verify_url()).to_owned(),
    }
}
