//! What it takes to register, and what new accounts are like.

use ruma::UserId;

/// Who may make an account over `/register`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Nobody.
    Closed,
    /// Anyone who can reach the server.
    Open,
    /// Whoever has a token of the operator's.
    Token,
}

/// What else it takes, and what new accounts are like.
#[derive(Debug, Clone, Default)]
pub struct RegistrationRules {
    /// Policies that have to be accepted.
    pub terms: Vec<TermsPolicy>,
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
    /// Patterns of names that nobody gets by registering.
    pub reserved_names: Vec<String>,
    /// Whether the operator approves new accounts before somebody can log in (MSC3866).
    pub approval: bool,
    /// Whether people are called nothing at first, rather than by the first part of their id.
    pub nameless: bool,
}

/// Whether accounts have an address, or a telephone number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContactRule {
    /// Nobody is asked for one.
    #[default]
    Off,
    /// Who likes gives one.
    Optional,
    /// There is no account without.
    Required,
}

/// A policy that has to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermsPolicy {
    /// What programs call it.
    pub id: String,
    /// Its version.
    pub version: String,
    /// It, by language.
    pub documents: Vec<Document>,
}

/// A policy in a language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Which.
    pub language: String,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// A service that tells people from programs.
#[derive(Debug, Clone)]
pub struct Captcha {
    /// Which.
    pub kind: CaptchaKind,
    /// What clients need to know of our account there.
    pub site_key: String,
    /// What nobody else may know of it.
    pub secret: String,
    /// Where answers are verified.
    pub verify_url: String,
}

/// A kind of such services. They are asked alike; their pages differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptchaKind {
    /// Google's.
    Recaptcha,
    /// <https://www.hcaptcha.com>
    Hcaptcha,
    /// Cloudflare's.
    Turnstile,
}

impl CaptchaKind {
    /// Where it verifies answers.
    pub fn verify_url(self) -> &'static str {
        match self {
            Self::Recaptcha => "https://www.recaptcha.net/recaptcha/api/siteverify",
            Self::Hcaptcha => "https://api.hcaptcha.com/siteverify",
            Self::Turnstile => "https://challenges.cloudflare.com/turnstile/v0/siteverify",
        }
    }
}

impl RegistrationRules {
    /// Whether somebody may register under this name, which is one that a user can have.
    pub(crate) fn permit(&self, name: &str) -> bool {
        let one_of = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, name));
        (self.allowed_names.is_empty() || one_of(&self.allowed_names))
            && !one_of(&self.reserved_names)
    }

    /// What a new user is called at first.
    pub(crate) fn first_name(&self, user: &UserId) -> Option<String> {
        (!self.nameless).then(|| user.localpart().to_owned())
    }

    /// Whether an address for mails is at a domain where they may be.
    pub(crate) fn permit_email(&self, address: &str) -> bool {
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let domain = domain.to_lowercase();
        let one_of = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, &domain));
        (self.email_domains.is_empty() || one_of(&self.email_domains))
            && !one_of(&self.denied_email_domains)
    }
}

/// Whether a text fits a pattern of the operator's, in which `*` stands for any characters and `?` for one. Capitals count
/// as small letters.
fn fits(pattern: &str, text: &str) -> bool {
    let small = |text: &str| text.to_lowercase().chars().collect::<Vec<char>>();
    let (pattern, text) = (small(pattern), small(text));
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, taken)) = star else {
                    return false;
                };
                star = Some((after, taken + 1));
                (p, t) = (after, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit() {
        for (pattern, text, fit) in [
            ("admin", "admin", true),
            ("Admin", "aDmin", true),
            ("admin", "admins", false),
            ("admin*", "admin", true),
            ("*admin*", "the-admin-1", true),
            ("*ab*ab", "abxabab", true),
            ("*ab*ab", "abxaba", false),
            ("??", "a", false),
            ("?*", "ab", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
        }
    }

    #[test]
    fn names_and_addresses_are_permitted_or_not() {
        let rules = RegistrationRules {
            allowed_names: vec!["*.*".into()],
            reserved_names: vec!["admin.*".into()],
            email_domains: vec!["example.org".into(), "*.example.org".into()],
            denied_email_domains: vec!["bad.example.org".into()],
            ..RegistrationRules::default()
        };
        assert!(rules.permit("ada.l"));
        assert!(!rules.permit("ada"));
        assert!(!rules.permit("admin.x"));
        assert!(rules.permit_email("a@Example.org"));
        assert!(rules.permit_email("a@b.example.org"));
        assert!(!rules.permit_email("a@bad.example.org"));
        assert!(!rules.permit_email("example.org"));
        assert!(!rules.permit_email("a@evil-example.org"));
        assert!(RegistrationRules::default().permit_email("a@b"));
    }
}
