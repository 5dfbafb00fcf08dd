//! What the settings of registration are to the client API.

use rhizome_client_api::config as client_api;

use crate::config::{Captcha, CaptchaKind, Contact, DisplayName, Policy, Registration, Secret};

/// What it takes to register.
pub(super) fn rules(from: &Registration) -> client_api::RegistrationRules {
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

fn contact(from: Contact) -> client_api::ContactRule {
    match from {
        Contact::Off => client_api::ContactRule::Off,
        Contact::Optional => client_api::ContactRule::Optional,
        Contact::Required => client_api::ContactRule::Required,
    }
}

fn policy(from: &Policy) -> client_api::Policy {
    let documents = from.languages.iter();
    client_api::Policy {
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
