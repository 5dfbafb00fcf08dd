//! The table of contents: one line per endpoint. Methods and paths come from the request types.

use axum::Router;

use crate::{
    App, account, account_data, admin_register, aliases, context, create, devices, directory,
    discovery, endpoint::Table, event, filters, limits::Kind, login, members, membership, messages,
    profile, receipts, redact, register, send, session, state, sync, typing, ws,
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
        // What the server can do.
        .add_public(discovery::versions)
        .add(discovery::capabilities)
        .add(discovery::well_known_client)
        .add(discovery::well_known_server)
        // Becoming a user.
        .add(register::register)
        .add(register::available)
        .add(admin_register::nonce)
        .add(admin_register::register)
        // Sessions.
        .add(login::flows)
        .add_as(Kind::Login, login::login)
        .add_as(Kind::Login, session::refresh)
        .add(session::logout)
        .add(session::logout_all)
        // The account.
        .add(account::whoami)
        .add(account::change_password)
        .add(account::deactivate)
        // Devices.
        .add(devices::list)
        .add(devices::get)
        .add(devices::update)
        .add(devices::delete)
        .add(devices::delete_many)
        // Profiles.
        .add(profile::get)
        .add(profile::get_field)
        .add(profile::set_field)
        .add(profile::delete)
}

fn writing(table: Table) -> Table {
    table
        // Rooms.
        .add_as(Kind::Join, create::create)
        .add(membership::joined_rooms)
        // Membership.
        .add_as(Kind::Join, membership::join)
        .add_as(Kind::Join, membership::join_by_id)
        .add_as(Kind::Invite, membership::invite)
        .add(membership::leave)
        .add_as(Kind::Other, membership::kick)
        .add_as(Kind::Other, membership::ban)
        .add_as(Kind::Other, membership::unban)
        .add(membership::forget)
        // Events.
        .add_as(Kind::Message, send::send)
        .add_as(Kind::Message, redact::redact)
        .add_as(Kind::Message, state::put)
        .add(state::get)
        .add(state::list)
        // Aliases and the directory.
        .add(aliases::get)
        .add(aliases::put)
        .add(aliases::delete)
        .add(aliases::list)
        .add(directory::visibility)
        .add(directory::set_visibility)
        .add(directory::get)
        .add(directory::search)
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
