//! Secrets that stand in files of their own.

use std::path::Path;

use super::{Config, Problems, Secret};

impl Config {
    pub(super) fn read_secrets(&mut self, problems: &mut Problems) {
        read_secret(
            "database.url",
            &mut self.database.url,
            self.database.url_file.as_deref(),
            problems,
        );
        read_secret(
            "registration.shared_secret",
            &mut self.registration.shared_secret,
            self.registration.shared_secret_file.as_deref(),
            problems,
        );
        if let Some(captcha) = &mut self.registration.captcha {
            read_secret(
                "registration.captcha.secret",
                &mut captcha.secret,
                captcha.secret_file.as_deref(),
                problems,
            );
        }
        read_secret(
            "jwt.secret",
            &mut self.jwt.secret,
            self.jwt.secret_file.as_deref(),
            problems,
        );
        read_secret(
            "mail.password",
            &mut self.mail.password,
            self.mail.password_file.as_deref(),
            problems,
        );
        read_secret(
            "turn.shared_secret",
            &mut self.turn.shared_secret,
            self.turn.shared_secret_file.as_deref(),
            problems,
        );
        read_secret(
            "turn.password",
            &mut self.turn.password,
            self.turn.password_file.as_deref(),
            problems,
        );
        self.media.read_secrets(problems);
        self.identity.read_secrets(problems);
    }
}

/// Reads a secret from its file, if it has one.
pub(super) fn read_secret(
    key: &str,
    value: &mut Option<Secret>,
    file: Option<&Path>,
    problems: &mut Problems,
) {
    let Some(path) = file else { return };
    let file_key = format!("{key}_file");
    if value.is_some() {
        problems.add(
            file_key,
            format!("both `{key}` and `{key}_file` are set"),
            "keep one of them",
        );
        return;
    }
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            problems.add(
                file_key,
                format!("{} is empty", path.display()),
                "write the secret into it",
            );
        }
        Ok(text) => *value = Some(Secret::new(text.trim())),
        Err(error) => problems.add(
            file_key,
            format!("{} can't be read: {error}", path.display()),
            "create the file and let the server's user read it",
        ),
    }
}
