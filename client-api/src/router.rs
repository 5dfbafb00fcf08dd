//! The table of contents: one line per endpoint. Methods and paths come from the request types.

use axum::Router;

use crate::{App, endpoint::Table};

/// Every client endpoint.
pub fn router(app: App) -> Router {
    let table = Table::default();
    let table = accounts(table);
    let table = writing(table);
    let table = reading(table);
    table.into_router(app)
}

fn accounts(table: Table) -> Table {
    table
}

fn writing(table: Table) -> Table {
    table
}

fn reading(table: Table) -> Table {
    table
}
