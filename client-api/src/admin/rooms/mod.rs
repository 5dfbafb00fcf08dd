//! Rooms that this server is or was in.

mod block;
mod delete;
mod events;
mod history;
mod join;
mod list;
mod members;
mod power;

use rhizome_edge::Table;

use crate::App;

/// What there is for rooms.
pub fn serve(table: Table<App>) -> Table<App> {
    table
        .serve(list::list)
        .serve(list::details)
        .serve(members::members)
        .serve(members::state)
        .serve(block::get)
        .serve(block::put)
        // What happened there.
        .serve(history::messages)
        .serve(history::context)
        .serve(history::timestamp_to_event)
        .serve(history::hierarchy)
        .serve(events::extremities)
        .serve(events::fetch)
        // Who may do something there.
        .serve(power::make_room_admin)
        .serve(join::join)
        // Its end.
        .serve(delete::v1)
        .serve(delete::v2)
        .serve(delete::of_room)
        .serve(delete::by_id)
}
