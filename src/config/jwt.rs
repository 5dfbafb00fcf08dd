//! `[jwt]`: logging in with tokens of the operator's own system.

use std::path::PathBuf;
use std::sync::Arc;

use rhizome_client_api::{JwtAlgorithm, JwtClaims, JwtLogin};
use serde::Deserialize;

use super::Problems;
use super::units::Secret;

/// The least bytes of a secret that is not to be guessed.
const SHORTEST: usize = 32;

/// Logging in with tokens of the operator's own system.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// How tokens are signed; without it none are taken.
    pub algorithm: Option<String>,
    /// What they are signed with, by HS256, HS384 or HS512.
    pub secret: Option<Secret>,
    /// A file that holds it.
    pub secret_file: Option<PathBuf>,
    /// A file with the public key in PEM, for RS256, ES256 or EdDSA.
    pub public_key_file: Option<PathBuf>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// One of these must be in `aud`.
    pub audiences: Vec<String>,
    /// The claim that names the user: what stands before the colon.
    pub subject_claim: String,
    /// Whether an account is made for whom there is none.
    pub create_accounts: bool,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            algorithm: None,
            secret: None,
            secret_file: None,
            public_key_file: None,
            issuer: None,
            audiences: Vec::new(),
            subject_claim: "sub".into(),
            create_accounts: false,
        }
    }
}

impl Jwt {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Err((key, what, remedy)) = self.login() {
            problems.add(format!("jwt.{key}"), what, remedy);
        }
    }

    /// What takes the tokens, if any are taken; else the key that is wrong, how, and the remedy.
    pub(crate) fn login(
        &self,
    ) -> Result<Option<Arc<JwtLogin>>, (&'static str, String, &'static str)> {
        let Some(name) = &self.algorithm else {
            return Ok(None);
        };
        let algorithm = JwtAlgorithm::named(name).ok_or_else(|| {
            let what = format!("{name:?} is no algorithm that is taken");
            let remedy = "set it to one of HS256, HS384, HS512, RS256, ES256 and EdDSA";
            ("algorithm", what, remedy)
        })?;
        let (at, key) = if algorithm.is_secret() {
            ("secret", self.secret_text()?)
        } else {
            ("public_key_file", self.public_text()?)
        };
        let claims = JwtClaims {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            subject: self.subject_claim.clone(),
            creates: self.create_accounts,
        };
        let login = JwtLogin::new(algorithm, &key, claims).map_err(|why| {
            let remedy = "name the file that `openssl pkey -pubout` has written";
            (at, format!("the key can't be used: {why}"), remedy)
        })?;
        Ok(Some(Arc::new(login)))
    }

    fn secret_text(&self) -> Result<String, (&'static str, String, &'static str)> {
        let secret = self.secret.as_ref().map_or("", Secret::expose);
        if secret.len() < SHORTEST {
            let what = format!("the secret is missing, or shorter than {SHORTEST} characters");
            let remedy = "use a long random one, such as the output of `openssl rand -hex 32`";
            return Err(("secret", what, remedy));
        }
        Ok(secret.to_owned())
    }

    fn public_text(&self) -> Result<String, (&'static str, String, &'static str)> {
        let remedy = "name the file that `openssl pkey -pubout` has written";
        let Some(file) = &self.public_key_file else {
            let what = "the algorithm needs a public key".to_owned();
            return Err(("public_key_file", what, remedy));
        };
        std::fs::read_to_string(file).map_err(|error| {
            let what = format!("{} can't be read: {error}", file.display());
            ("public_key_file", what, remedy)
        })
    }
}
