//! The numbers that stand for what becomes of events, and for memberships, in the database.

use rhizome_protocol::Membership;
use rhizome_protocol::visibility::HistoryVisibility;

use crate::engine::sql::numbers;
use crate::{Error, Placement, Status};

numbers! {
    Status: |status| match status {
        Status::Accepted => 0,
        Status::SoftFailed => 1,
        Status::Rejected => 2,
    }, |code| Ok(match code {
        0 => Self::Accepted,
        1 => Self::SoftFailed,
        _ => Self::Rejected,
    });
    Placement: |placement| match placement {
        Placement::Live => 0,
        Placement::Backfilled => 1,
        Placement::Outlier => 2,
    }, |code| Ok(match code {
        0 => Self::Live,
        1 => Self::Backfilled,
        _ => Self::Outlier,
    });
    HistoryVisibility: |visibility| match visibility {
        HistoryVisibility::WorldReadable => 0,
        HistoryVisibility::Shared => 1,
        HistoryVisibility::Invited => 2,
        HistoryVisibility::Joined => 3,
    }, |code| Ok(match code {
        0 => Self::WorldReadable,
        1 => Self::Shared,
        2 => Self::Invited,
        // The strictest is the safe reading of anything else.
        _ => Self::Joined,
    });
    // Joined sorts before invited.
    Membership: |membership| match membership {
        Membership::Join => 1,
        Membership::Invite => 2,
        Membership::Leave => 3,
        Membership::Ban => 4,
        Membership::Knock => 5,
    }, |code| Ok(match code {
        1 => Self::Join,
        2 => Self::Invite,
        3 => Self::Leave,
        4 => Self::Ban,
        5 => Self::Knock,
        _ => return Err(Error::broken(format!("{code} stands for no membership"))),
    });
}
