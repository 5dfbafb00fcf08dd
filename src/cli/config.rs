//! `rhizome config`.

use crate::config::{Config, EXAMPLE};

use super::say;

pub(super) fn example() {
    say(EXAMPLE.trim_end());
}

/// The configuration was read and found good; says what it amounts to.
pub(super) fn check(config: &Config) {
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
}
