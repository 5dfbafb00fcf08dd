//! `rhizome user limits`: how often one user may do what costs, unlike others.

use std::str::FromStr;

use anyhow::bail;
use rhizome_client_api::config::UserRates;
use rhizome_storage::{OwnLimit, Store};
use ruma::UserId;

use crate::config::{Config, Exempt};

use super::say;

/// A limit that is to be a user's: `KIND=PER_SECOND/BURST`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SetLimit {
    kind: &'static str,
    limit: OwnLimit,
}

impl FromStr for SetLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            "write e.g. message=100/1000: what, how often per second, and how often at once";
        let (name, rate) = text.split_once('=').ok_or(wrong)?;
        let kind = UserRates::NAMES.into_iter().find(|kind| *kind == name);
        let Some(kind) = kind else {
            let names = UserRates::NAMES.join(", ");
            return Err(format!("there is no such limit; there are {names}"));
        };
        let (per_second, burst) = rate.split_once('/').ok_or(wrong)?;
        let (Ok(per_second), Ok(burst)) = (per_second.parse(), burst.parse()) else {
            return Err(wrong.to_owned());
        };
        let limit = OwnLimit::new(per_second, burst);
        let limit = limit
            .ok_or("more than nothing per second, at most a million, and at least one at once")?;
        Ok(Self { kind, limit })
    }
}

/// Sets limits of a user's, all of them if `clear`, and says which they have then.
pub(super) async fn limits(
    store: &Store,
    config: &Config,
    user: &UserId,
    (set, clear): (&[SetLimit], bool),
) -> anyhow::Result<()> {
    let had = store.user_limits().all_of(user);
    let mut changes: Vec<(&str, Option<OwnLimit>)> = Vec::new();
    if clear {
        let gone = had.iter().map(|(kind, _)| (kind.as_str(), None));
        changes.extend(gone.filter(|(kind, _)| set.iter().all(|one| one.kind != *kind)));
    }
    for one in set {
        if changes
            .iter()
            .any(|(kind, limit)| *kind == one.kind && limit.is_some())
        {
            bail!("{} is set twice", one.kind);
        }
        changes.push((one.kind, Some(one.limit)));
    }
    if !changes.is_empty() {
        store.set_user_limits(user, &changes).await?;
    }
    let lines = lines(store, config, user);
    if lines.is_empty() {
        say(format_args!("{user} has no limits of their own"));
    }
    for line in lines {
        say(format_args!("{line}"));
    }
    Ok(())
}

/// What a user may do how often unlike others, a line each: what was set here, and what the configuration says beside that.
pub(super) fn lines(store: &Store, config: &Config, user: &UserId) -> Vec<String> {
    let line = |kind: &str, per_second: f64, burst: u32| {
        let kind = kind.escape_debug();
        format!("limit {kind}: {per_second} per second, {burst} at once")
    };
    let own = store.user_limits().all_of(user);
    let mut lines: Vec<_> = (own.iter())
        .map(|(kind, limit)| line(kind, limit.per_second(), limit.burst()))
        .collect();
    let settings = &config.rate_limits;
    let is_exempt = |one: &Exempt| matches!(one, Exempt::User(exempt) if exempt == user);
    if settings.exempt.iter().any(is_exempt) {
        lines.push("limit of all else: none, by the configuration".to_owned());
        return lines;
    }
    // Of several, the last counts.
    let configured = settings.overrides.iter().rfind(|one| one.user == *user);
    for (kind, rate) in configured.iter().flat_map(|one| one.rates.named()) {
        if let Some(rate) = rate
            && own.iter().all(|(own, _)| own != kind)
        {
            let line = line(kind, rate.per_second, rate.burst);
            lines.push(format!("{line}, by the configuration"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_written_so() {
        let set: SetLimit = "message=0.5/10".parse().unwrap();
        assert_eq!(set.kind, "message");
        assert_eq!((set.limit.per_second(), set.limit.burst()), (0.5, 10));
        for (text, why) in [
            ("", "write e.g."),
            ("message", "write e.g."),
            ("message=5", "write e.g."),
            ("message=x/5", "write e.g."),
            ("message=5/-1", "write e.g."),
            ("message=0/5", "more than nothing"),
            ("message=5/0", "more than nothing"),
            ("message=inf/5", "more than nothing"),
            ("login=5/5", "there are message, join"),
        ] {
            let error = text.parse::<SetLimit>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
