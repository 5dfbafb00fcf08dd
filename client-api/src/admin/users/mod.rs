//! Users of this server.

mod data;
mod deactivate;
mod details;
mod devices;
mod find;
mod limits;
mod list;
mod login_as;
mod modify;
mod redact;
mod rooms;
mod standing;

use rhizome_edge::Table;

use crate::App;

/// What there is for users.
pub fn serve(table: Table<App>) -> Table<App> {
    table
        .serve(list::v2)
        .serve(list::v3)
        .serve(details::get)
        .serve(modify::put)
        .serve(login_as::login)
        .serve(deactivate::deactivate)
        .serve(deactivate::reset_password)
        // What they may do.
        .serve(standing::get_admin)
        .serve(standing::put_admin)
        .serve(standing::suspend)
        .serve(standing::shadow_ban)
        .serve(standing::end_shadow_ban)
        .serve(standing::whois)
        .serve(limits::get)
        .serve(limits::set)
        .serve(limits::clear)
        // What they have.
        .serve(devices::list)
        .serve(devices::add)
        .serve(devices::get)
        .serve(devices::update)
        .serve(devices::delete)
        .serve(devices::delete_several)
        .serve(data::pushers)
        .serve(data::account_data)
        .serve(find::available)
        .serve(find::by_address)
        // What they do.
        .serve(rooms::joined)
        .serve(rooms::memberships)
        .serve(rooms::invites)
        .serve(rooms::joins)
        .serve(redact::redact)
        .serve(redact::status)
}
