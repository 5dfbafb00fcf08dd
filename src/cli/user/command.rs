//! What can be asked for.

use clap::{Args, Subcommand};
use rhizome_storage::ListedAccount;

use super::{limits::SetLimit, password::PasswordSource};

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make an account; asks for what is not given
    Create(UserCreate),
    /// List accounts, a line each
    List(UserList),
    /// List the accounts that wait for approval, a line each
    Waiting,
    /// Approve accounts that wait: their owners can log in from now on
    Approve {
        /// Their names
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Say what is known of an account
    Show {
        /// The name before the colon, or the whole id
        user: String,
    },
    /// Set an account's password. All its sessions end
    Password {
        /// The name before the colon, or the whole id
        user: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Make a user an administrator of this server
    Admin {
        /// The name before the colon, or the whole id
        user: String,
        /// Make them one no longer
        #[arg(long)]
        remove: bool,
    },
    /// Lock an account: its user can do nothing but log out. Their sessions are there again when it is unlocked
    Lock {
        /// The name before the colon, or the whole id
        user: String,
    },
    /// Unlock an account
    Unlock {
        /// The name before the colon, or the whole id
        user: String,
    },
    /// Suspend an account: its user can read, leave rooms and take back what they said, and hardly more
    Suspend {
        /// The name before the colon, or the whole id
        user: String,
    },
    /// Suspend an account no longer
    Unsuspend {
        /// The name before the colon, or the whole id
        user: String,
    },
    /// Take what a user sends, and show it to nobody, without telling them
    ShadowBan {
        /// The name before the colon, or the whole id
        user: String,
        /// Why, for `rhizome blocks` to say
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Show what they send from now on
        #[arg(long, conflicts_with = "reason")]
        undo: bool,
    },
    /// Say which rate limits a user has of their own, and set them: what isn't set is as for everybody
    Limits {
        /// The name before the colon, or the whole id
        user: String,
        /// A limit that is theirs from now on, such as `message=100/1000`: what, per second, and at once
        #[arg(long, value_name = "KIND=PER_SECOND/BURST", num_args = 1..)]
        set: Vec<SetLimit>,
        /// Take all that were set away
        #[arg(long)]
        clear: bool,
    },
    /// End an account for ever: its sessions and its profile go, it leaves all rooms, its name stays taken
    Deactivate {
        /// The name before the colon, or the whole id
        user: String,
        /// Show what they have sent to nobody who couldn't see it until now, and delete their account data
        #[arg(long)]
        erase: bool,
        /// Delete the files that they have uploaded, too
        #[arg(long)]
        erase_media: bool,
    },
    /// Log a user out: everywhere, or on the devices that are named
    Logout {
        /// The name before the colon, or the whole id
        user: String,
        /// Ids of devices, as `rhizome user devices` lists them
        devices: Vec<String>,
    },
    /// List a user's devices, a line each
    Devices {
        /// The name before the colon, or the whole id
        user: String,
    },
    /// Redact all that a user has said, as a task that the server does; see `rhizome task`
    Redact {
        /// The name before the colon, or the whole id
        user: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UserCreate {
    /// The name before the colon, such as `alice`
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(super) password: PasswordSource,
    /// Make the user an administrator
    #[arg(long)]
    pub(super) admin: bool,
}

/// Which accounts: of those that haven't ended, all that have one of what is named.
#[derive(Debug, Args)]
pub(crate) struct UserList {
    /// Administrators
    #[arg(long)]
    admins: bool,
    /// Those that are locked
    #[arg(long)]
    locked: bool,
    /// Those that are suspended
    #[arg(long)]
    suspended: bool,
    /// Guests
    #[arg(long)]
    guests: bool,
    /// Those that have ended
    #[arg(long)]
    deactivated: bool,
}

impl UserList {
    pub(super) fn wants(&self, account: &ListedAccount) -> bool {
        let named = [
            (self.admins, account.admin),
            (self.locked, account.locked),
            (self.suspended, account.suspended),
            (self.guests, account.is_guest),
        ];
        if account.deactivated {
            return self.deactivated;
        }
        let any = named.iter().any(|(wanted, _)| *wanted) || self.deactivated;
        !any || named.iter().any(|(wanted, is_so)| *wanted && *is_so)
    }
}

/// What an account is, for the end of a line.
pub(super) fn states(account: &ListedAccount) -> String {
    let states = [
        ("administrator", account.admin),
        ("guest", account.is_guest),
        ("locked", account.locked),
        ("suspended", account.suspended),
        ("deactivated", account.deactivated),
    ];
    let mut text = String::new();
    for (name, _) in states.iter().filter(|(_, is_so)| *is_so) {
        text.push_str(", ");
        text.push_str(name);
    }
    text
}

#[cfg(test)]
mod tests {
    use rhizome_storage::UserNo;
    use ruma::owned_user_id;

    use super::*;

    #[test]
    fn lists_hold_what_is_named() {
        let account = |admin, locked, deactivated| ListedAccount {
            user: UserNo(1),
            user_id: owned_user_id!("@a:here"),
            admin,
            deactivated,
            locked,
            suspended: false,
            is_guest: false,
            created_ms: 0,
            last_seen_ms: None,
        };
        let list = |admins, locked, deactivated| UserList {
            admins,
            locked,
            suspended: false,
            guests: false,
            deactivated,
        };
        let all = list(false, false, false);
        assert!(all.wants(&account(false, false, false)));
        assert!(all.wants(&account(true, true, false)));
        assert!(!all.wants(&account(false, false, true)));
        let some = list(true, true, false);
        assert!(some.wants(&account(true, false, false)));
        assert!(some.wants(&account(false, true, false)));
        assert!(!some.wants(&account(false, false, false)));
        assert!(!some.wants(&account(true, false, true)));
        let ended = list(false, false, true);
        assert!(ended.wants(&account(true, false, true)));
        assert!(!ended.wants(&account(false, false, false)));
        assert_eq!(
            states(&account(true, true, false)),
            ", administrator, locked"
        );
    }
}
