//! Which threads the user follows, where that changed (MSC4308).

use rhizome_storage::Pos;

use super::Context;
use crate::{
    MatrixError,
    room::threads::changes::{MOST, ThreadChanges},
    sync::sliding::request::extensions::Threads as Asked,
    view::json::Json,
};

/// What changed.
pub type Threads = ThreadChanges;

/// What changed after the client's position; to who begins, what there is.
pub async fn read(context: &Context<'_>, asked: &Asked) -> Result<Threads, MatrixError> {
    let loader = context.loader;
    let limit = asked.limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(MOST).clamp(1, MOST);
    let (store, user) = (loader.store, loader.viewer.user);
    match loader.after {
        Some(_) if !context.window.unlisted => {
            ThreadChanges::newest(store, &context.window.threads, limit).await
        }
        after => {
            let span = (after.unwrap_or(Pos(0)), loader.upto);
            ThreadChanges::read(store, user, span, limit).await
        }
    }
}

/// Writes it.
pub fn write(threads: &Threads, json: &mut Json) {
    json.open();
    threads.write(json, "prev_batch");
    json.close();
}
