//! The file with this server's signing key, in Synapse's form: `ed25519 <version> <base64 seed>`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use rhizome_protocol::sign::KeyPair;
use rhizome_storage::random;

use super::secret_file;

/// Reads the key, or makes one when there is no file. The flag says whether it was made.
pub fn load_or_create(path: &Path) -> anyhow::Result<(KeyPair, bool)> {
    match load(path)? {
        Some(key) => Ok((key, false)),
        None => match create(path) {
            Ok(key) => Ok((key, true)),
            // Another process was faster: its key is the key.
            Err(error) => match load(path)? {
                Some(key) => Ok((key, false)),
                None => Err(error),
            },
        },
    }
}

/// Reads the key; `None` when there is no file.
pub fn load(path: &Path) -> anyhow::Result<Option<KeyPair>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("the signing key {} can't be read", path.display()));
        }
    };
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(
            "others can read the signing key; run: chmod 600 {}",
            path.display()
        );
    }
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(line) = line else {
        bail!(
            "the signing key {} is empty; restore it from a copy, or remove it to get a new one",
            path.display()
        );
    };
    let key = KeyPair::parse(line).with_context(|| {
        format!(
            "the signing key {} is not of the form `ed25519 a_xxxx <base64>`; restore it from a copy, or name another with server.signing_key_path",
            path.display()
        )
    })?;
    Ok(Some(key))
}

/// Makes a new key and its file, readable for its owner only. Never replaces a file.
pub fn create(path: &Path) -> anyhow::Result<KeyPair> {
    let key = new_key()?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent)
            .with_context(|| format!("the directory {} can't be made", parent.display()))?;
    }
    let written = secret_file::create(path, format!("{}\n", key.to_line()).as_bytes());
    written.with_context(|| format!("the signing key {} can't be written", path.display()))?;
    Ok(key)
}

/// A new key with a random version.
fn new_key() -> anyhow::Result<KeyPair> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let version = random::letters(LETTERS, 4)?;
    Ok(KeyPair::from_seed(
        &format!("a_{version}"),
        &random::bytes()?,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/signing.key");
        let (first, made) = load_or_create(&path).unwrap();
        assert!(made);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (second, made) = load_or_create(&path).unwrap();
        assert!(!made);
        assert_eq!(first.public(), second.public());
        assert_eq!(first.key_id(), second.key_id());
        assert!(create(&path).is_err(), "an existing key was replaced");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("ed25519 a_"), "{text}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_key_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        fs::write(&path, "\n").unwrap();
        assert!(
            load(&path)
                .err()
                .unwrap()
                .to_string()
                .contains("is empty; restore it")
        );
        fs::write(&path, "hello\n").unwrap();
        assert!(format!("{:#}", load(&path).err().unwrap()).contains("restore it from a copy"));
    }
}
