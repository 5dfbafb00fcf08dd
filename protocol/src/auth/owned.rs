//! State that belongs to a user
//! ([MSC3757](https://github.com/matrix-org/matrix-spec-proposals/pull/3757)), instead of rule 9.

use ruma::UserId;

use super::deny;
use crate::{
    Pdu, Rejection,
    power::{Level, Power},
};

/// The longest key, or what follows upon the id of the user whom the state belongs to and an underscore, in bytes.
const MAX_SUFFIX: usize = 255;

/// The proposal's rule 8. `level` is the sender's.
pub(super) fn check(event: &Pdu, level: Level, power: Power<'_>) -> Result<(), Rejection> {
    let Some(key) = event.state_key() else {
        return Ok(());
    };
    if !key.starts_with('@') {
        // 8.2.
        if key.len() > MAX_SUFFIX {
            return deny(
                Rejection::OWNED_KEY,
                format!("a state key without a user's id has at most {MAX_SUFFIX} bytes"),
            );
        }
        return Ok(());
    }
    // 8.1.1. No server's name has an underscore, so the first one behind it ends it.
    let (owner, suffix) = split(key);
    let Ok(owner) = <&UserId>::try_from(owner) else {
        return deny(
            Rejection::OWNED_KEY,
            format!("the state key begins with {owner:?}, which is no user id"),
        );
    };
    // 8.1.2. With the underscore.
    if suffix.len() > MAX_SUFFIX + 1 {
        return deny(
            Rejection::OWNED_KEY,
            format!("what follows upon a user's id in a state key has at most {MAX_SUFFIX} bytes"),
        );
    }
    // 8.1.3.
    if owner != event.sender() && level <= power.user(owner) {
        return deny(
            "auth 9",
            format!("only {owner}, or whoever has more power than they, may set this state"),
        );
    }
    Ok(())
}

/// The id at the beginning, and the rest with its underscore.
fn split(key: &str) -> (&str, &str) {
    let server = key.find(':').unwrap_or(key.len());
    let end = key[server..].find('_').map_or(key.len(), |at| server + at);
    key.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_ends_at_the_first_underscore_behind_the_servers_name() {
        assert_eq!(split("@a_b:c"), ("@a_b:c", ""));
        assert_eq!(split("@a_b:c_d_e:f"), ("@a_b:c", "_d_e:f"));
        assert_eq!(split("@a:c.evil_x"), ("@a:c.evil", "_x"));
        assert_eq!(split("@a_b"), ("@a_b", ""));
    }
}
