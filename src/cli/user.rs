//! `rhizome user`: works on the database, so the server may run or not.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use rhizome_client_api::users;

use crate::config::{Config, DisplayName};
use crate::server;

use super::{UserCreate, say};

pub(super) fn create(config: &Config, args: UserCreate) -> anyhow::Result<()> {
    let name = match args.name {
        Some(name) => name,
        None if std::io::stdin().is_terminal() => ask("Name (the part before the colon): ")?,
        None => bail!("give the name: rhizome user create NAME"),
    };
    // People write the whole id; the rest of it is ours to check.
    let name = name.trim().trim_start_matches('@');
    let name = match name.split_once(':') {
        Some((local, server)) if server == config.server.name.as_str() => local,
        Some((_, server)) => bail!(
            "`{server}` is not this server's name, which is `{}`; give only the part before the colon",
            config.server.name
        ),
        None => name,
    };
    let password = if args.password_stdin {
        first_line(std::io::stdin().lock())?
    } else if let Some(file) = &args.password_file {
        read_file(file)?
    } else if std::io::stdin().is_terminal() {
        ask_password()?
    } else {
        bail!("give the password with --password-stdin or --password-file FILE");
    };
    if password.is_empty() {
        bail!("the password is empty");
    }
    super::block_on(async {
        server::make_data_dir(config)?;
        let store = server::open_store(config).await?;
        let cost = server::client_config(config).password_cost;
        let made = users::create(
            &store,
            &config.server.name,
            name,
            &password,
            args.admin,
            cost,
        )
        .await;
        if config.registration.default_display_name == DisplayName::None
            && let Ok(user) = &made
        {
            let no = store.user_no(user).await?;
            store.set_profile_field(no, "displayname", None).await?;
        }
        store.close().await;
        let user =
            made.map_err(|error| anyhow::anyhow!("{name} was not created: {}", error.message))?;
        say(format_args!("created {user}"));
        Ok(())
    })
}

fn ask(question: &str) -> anyhow::Result<String> {
    eprint!("{question}");
    std::io::stderr().flush()?;
    first_line(std::io::stdin().lock())
}

/// Asks twice, with the terminal's echo off.
fn ask_password() -> anyhow::Result<String> {
    let quiet = Quiet::new();
    let first = ask("Password: ")?;
    eprintln!();
    let second = ask("Again:    ")?;
    eprintln!();
    drop(quiet);
    if first != second {
        bail!("the two passwords differ; try again");
    }
    Ok(first)
}

/// The terminal's echo is off while this lives.
struct Quiet;

impl Quiet {
    fn new() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(setting: &str) {
    let _ = Command::new("stty")
        .arg(setting)
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .status();
}

fn first_line(mut from: impl std::io::BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(path)
        .with_context(|| format!("the password file {} can't be read", path.display()))?;
    first_line(std::io::BufReader::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password() {
        assert_eq!(first_line(&b"se cret \r\nrest"[..]).unwrap(), "se cret ");
        assert_eq!(first_line(&b""[..]).unwrap(), "");
        assert!(read_file(Path::new("/nonexistent")).is_err());
    }
}
