//! The table of contents: one line per endpoint. Methods and paths come from the request types.

use axum::Router;

use crate::{
    App, account_data, context, endpoint::Table, event, filters, members, messages, receipts, sync,
    typing, ws,
};

/// Every client endpoint.
pub fn router(app: App) -> Router {
    let table = Table::default();
    let table = accounts(table);
    let table = writing(table);
    let table = reading(table);
    table.into_router(app.clone()).merge(ws::routes(app))
}

fn accounts(table: Table) -> Table {
    table
}

fn writing(table: Table) -> Table {
    table
}

fn reading(table: Table) -> Table {
    table
        .add(sync::sync)
        .add(filters::create)
        .add(filters::get)
        .add(messages::messages)
        .add(context::context)
        .add(event::event)
        .add(members::members)
        .add(members::joined)
        .add(receipts::receipt)
        .add(receipts::read_markers)
        .add(typing::typing)
        .add(account_data::put)
        .add(account_data::put_in_room)
        .add(account_data::get)
        .add(account_data::get_in_room)
}
