//! Files: looked at, kept back, protected, deleted. What is deleted nobody gets from now on; its bytes go later.

mod care;
mod delete;
mod list;
mod one;

use rhizome_edge::Table;
use rhizome_storage::MediaRow;
use serde_json::{Value, json};

use crate::App;

/// What there is for files.
pub fn serve(table: Table<App>) -> Table<App> {
    table
        .serve(list::of_room)
        .serve(list::of_user)
        .serve(list::delete_of_user)
        // One of them.
        .serve(one::get)
        .serve(one::delete)
        .serve(one::get_of_protect)
        .serve(one::delete_of_protect)
        .serve(one::get_of_unprotect)
        .serve(one::delete_of_unprotect)
        .serve(one::get_of_delete)
        .serve(one::delete_of_delete)
        // What is kept back.
        .serve(care::quarantine)
        .serve(care::unquarantine)
        .serve(care::quarantine_of_room)
        .serve(care::quarantine_of_room_as_once)
        .serve(care::quarantine_of_user)
        .serve(care::protect)
        .serve(care::unprotect)
        // What goes.
        .serve(delete::old)
        .serve(delete::old_as_once)
        .serve(delete::remote)
}

/// Who has quarantined a file isn't kept: that somebody has, is.
const SOMEBODY: &str = "an administrator";

/// A file in a list.
fn shown(row: &MediaRow) -> Value {
    json!({
        "media_id": row.media_id,
        "media_type": row.content_type,
        "media_length": row.size,
        "upload_name": row.name,
        "created_ts": row.created,
        "last_access_ts": row.accessed,
        "quarantined_by": row.quarantined.then_some(SOMEBODY),
        "safe_from_quarantine": row.protected,
    })
}
