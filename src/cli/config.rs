//! `rhizome config`.

use crate::config::{Config, EXAMPLE};

use super::say;

pub(super) fn example() {
    say(EXAMPLE.trim_end());
}

/// The configuration was read and found good; says what it amounts to.
///
/// # Errors
/// What the files of application services say is wrong.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    let services = config.appservices.load(&config.server.name)?;
    let file = config
        .file
        .as_ref()
        .map_or("no file, only defaults".to_owned(), |f| {
            f.display().to_string()
        });
    say(format_args!("The configuration is fine ({file})."));
    for line in super::serve::summary(config, None) {
        say(format_args!("  {line}"));
    }
    for service in services.iter() {
        let (id, sender) = (super::clean(&service.id), &service.sender);
        say(format_args!("  service      {id} as {sender}"));
    }
    Ok(())
}
