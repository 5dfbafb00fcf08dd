//! `rhizome keys`.

use anyhow::bail;

use crate::config::Config;
use crate::server::signing_key;

use super::{KeysCommand, say};

pub(super) fn keys(config: &Config, command: KeysCommand) -> anyhow::Result<()> {
    let path = config.server.signing_key_path();
    match command {
        KeysCommand::Path => say(path.display()),
        KeysCommand::Show => {
            let Some(key) = signing_key::load(&path)? else {
                bail!(
                    "there is no signing key at {}; the first start of the server makes it, or `rhizome keys generate`",
                    path.display()
                );
            };
            say(format_args!("server  {}", config.server.name));
            say(format_args!("key id  {}", key.key_id()));
            say(format_args!("public  {}", key.public_base64()));
            say(format_args!("file    {}", path.display()));
        }
        KeysCommand::Generate { file } => {
            let path = file.unwrap_or(path);
            if path.exists() {
                bail!(
                    "{} exists and is not replaced: other servers know this key. Give another file name, or move it away first",
                    path.display()
                );
            }
            let key = signing_key::create(&path)?;
            say(format_args!("made {} in {}", key.key_id(), path.display()));
        }
    }
    Ok(())
}
