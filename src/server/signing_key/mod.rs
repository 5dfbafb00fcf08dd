//! The file with this server's signing key, and with what is left of those before it.

mod format;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rhizome_federation::MAX_OLD_KEYS;
use rhizome_protocol::sign::KeyPair;
use rhizome_storage::random;

use super::secret_file;
use format::Fault;
pub use format::{KeyFile, OldKey};

/// Reads the file, or makes one with a new key when there is none. The flag says whether it was made.
pub fn load_or_create(path: &Path) -> anyhow::Result<(KeyFile, bool)> {
    match load(path)? {
        Some(file) => Ok((file, false)),
        None => match create(path) {
            Ok(file) => Ok((file, true)),
            // Another process was faster: its key is the key.
            Err(error) => match load(path)? {
                Some(file) => Ok((file, false)),
                None => Err(error),
            },
        },
    }
}

/// Reads the file; `None` when there is none.
pub fn load(path: &Path) -> anyhow::Result<Option<KeyFile>> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(
            "others can read the signing key; run: chmod 600 {}",
            path.display()
        );
    }
    parse(path, &text).map(Some)
}

/// Reads the file, which is there.
pub fn load_existing(path: &Path) -> anyhow::Result<KeyFile> {
    load(path)?.ok_or_else(|| missing(path))
}

/// Makes a new key and its file, readable for its owner only. Never replaces a file.
pub fn create(path: &Path) -> anyhow::Result<KeyFile> {
    let file = KeyFile::of(new_key()?);
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent)
            .with_context(|| format!("the directory {} can't be made", parent.display()))?;
    }
    let written = secret_file::create(path, file.to_text().as_bytes());
    written.with_context(|| format!("the signing key {} can't be written", path.display()))?;
    Ok(file)
}

/// Puts a new key into the file at the time `now` (ms); the one before it counts for `overlap` more. What the file holds
/// then. Whatever interrupts this, it holds what it held before, or all of that.
///
/// # Errors
/// There is no such file, or it can't be replaced.
pub fn rotate(path: &Path, now: i64, overlap: Duration) -> anyhow::Result<KeyFile> {
    let (text, file) = existing(path)?;
    if file.old().len() >= MAX_OLD_KEYS {
        bail!(
            "there are {MAX_OLD_KEYS} keys of before, and with more other servers would take none of them; \
             forget some: `rhizome keys old`, `rhizome keys forget KEY_ID`"
        );
    }
    let mut new = new_key()?;
    while file.knows(new.key_id()) {
        new = new_key()?;
    }
    let rotated = file.rotated(new, now, overlap);
    replace(path, &text, &rotated)?;
    Ok(rotated)
}

/// Takes a key of before out of the file. The key.
///
/// # Errors
/// It isn't there, or the file can't be replaced.
pub fn forget(path: &Path, key_id: &str) -> anyhow::Result<OldKey> {
    let (text, file) = existing(path)?;
    let key = file.find(path, key_id)?.clone();
    replace(path, &text, &file.without(key_id))?;
    Ok(key)
}

impl KeyFile {
    /// A key of before.
    ///
    /// # Errors
    /// It isn't in this file, which is at `path`.
    pub fn find(&self, path: &Path, key_id: &str) -> anyhow::Result<&OldKey> {
        if self.current().key_id() == key_id {
            bail!("{key_id} is the key in use; make another first: `rhizome keys rotate`");
        }
        let found = self.old().iter().find(|old| old.key_id == key_id);
        found.with_context(|| {
            format!(
                "{} has no key of before {key_id}; `rhizome keys old` lists those that there are, and one of \
                 federation.old_verify_keys is forgotten by taking it out of the configuration",
                path.display()
            )
        })
    }
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("the signing key {} can't be read", path.display()))
        }
    }
}

/// Reads a file, and its text, which is there.
fn existing(path: &Path) -> anyhow::Result<(String, KeyFile)> {
    let text = read(path)?.ok_or_else(|| missing(path))?;
    let file = parse(path, &text)?;
    Ok((text, file))
}

fn missing(path: &Path) -> anyhow::Error {
    anyhow!(
        "there is no signing key at {}; the first start of the server makes it, or `rhizome keys generate`",
        path.display()
    )
}

fn parse(path: &Path, text: &str) -> anyhow::Result<KeyFile> {
    let shown = path.display();
    KeyFile::parse(text).map_err(|fault| match fault {
        Fault::Empty => anyhow!(
            "the signing key {shown} is empty; restore it from a copy, or remove it to get a new one"
        ),
        Fault::Key(error) => anyhow::Error::new(error).context(format!(
            "the signing key {shown} is not of the form `ed25519 a_xxxx <base64>`; restore it from a copy, or name another with server.signing_key_path"
        )),
        Fault::Line { number, what } => anyhow!(
            "{shown}:{number}: {what}; restore the file from a copy, or take the line out if nobody needs that key"
        ),
    })
}

fn replace(path: &Path, before: &str, file: &KeyFile) -> anyhow::Result<()> {
    let replaced = secret_file::replace(path, before.as_bytes(), file.to_text().as_bytes());
    replaced.with_context(|| {
        format!(
            "the signing key {} can't be replaced; do it as the user to whom it belongs, where its folder may be written to. \
             Where that can't be: `rhizome keys generate FILE`, name FILE with server.signing_key_path, and write what \
             `rhizome keys show` says of the key of before into federation.old_verify_keys",
            path.display()
        )
    })
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

    const HOUR: Duration = Duration::from_hours(1);

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
        assert_eq!(first.to_text(), second.to_text());
        assert!(create(&path).is_err(), "an existing key was replaced");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("ed25519 a_"), "{text}");
        assert_eq!(text.lines().count(), 1);
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
        let key = new_key().unwrap().to_line();
        fs::write(&path, format!("{key}\nold\n")).unwrap();
        let error = load(&path).err().unwrap().to_string();
        assert!(error.contains("signing.key:2: "), "{error}");
        assert!(rotate(&path, 1, HOUR).is_err());
    }

    #[test]
    fn a_key_is_rotated_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("real.key"), dir.path().join("signing.key"));
        let error = rotate(&path, 1, HOUR).unwrap_err().to_string();
        assert!(error.contains("rhizome keys generate"), "{error}");
        let first = create(&file).unwrap();
        // Whoever may read it besides its owner goes on doing so.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &path).unwrap();
        // What a process left behind that was killed on the way, and what is none of that.
        fs::write(dir.path().join("real.new.1"), "ed25").unwrap();
        fs::write(dir.path().join("real.new.x"), "mine").unwrap();
        let second = rotate(&path, 1_000, HOUR).unwrap();
        assert_ne!(second.current().key_id(), first.current().key_id());
        assert_eq!(second.old()[0].key_id, first.current().key_id());
        assert_eq!(second.old()[0].expired_ts, 3_601_000);
        assert!(path.is_symlink() && !file.is_symlink());
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let (read, made) = load_or_create(&path).unwrap();
        assert!(!made);
        assert_eq!(read.to_text(), second.to_text());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(dir.path().join("real.new.x").exists());
    }

    #[test]
    fn a_key_of_before_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        let first = create(&path).unwrap();
        let second = rotate(&path, 1_000, HOUR).unwrap();
        let (old, new) = (first.current().key_id(), second.current().key_id());
        for (key_id, why) in [
            (new, "rhizome keys rotate"),
            ("ed25519:other", "rhizome keys old"),
        ] {
            let error = forget(&path, key_id).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(load(&path).unwrap().unwrap().to_text(), second.to_text());
        assert_eq!(forget(&path, old).unwrap(), second.old()[0]);
        let left = load(&path).unwrap().unwrap();
        assert_eq!(left.current().key_id(), new);
        assert!(left.old().is_empty());
    }

    #[test]
    fn what_somebody_else_has_changed_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        create(&path).unwrap();
        let (text, file) = existing(&path).unwrap();
        let theirs = rotate(&path, 1_000, HOUR).unwrap();
        let error = replace(&path, &text, &file).unwrap_err();
        assert!(format!("{error:#}").contains("meanwhile"), "{error:#}");
        assert_eq!(load(&path).unwrap().unwrap().to_text(), theirs.to_text());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
