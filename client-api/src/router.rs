//! The table of contents: one line per endpoint. Methods and paths come from the request types.

use axum::Router;
use rhizome_edge::Table;

use crate::{
    App,
    account::{
        admin_register,
        contact::{ask, bind, list as contacts, submit},
        data, data_delete, deactivate, devices, fallback, filters, management, moderation, openid,
        presence, profile, register, tags,
    },
    admin,
    appservice::{list as network_list, ping},
    auth::{get_token, login, logout, refresh},
    discovery,
    e2ee::{backup, claim, cross_signing, dehydrated, query, send_to_device, signatures, upload},
    history::{context, event, messages, moment, relations, relationships, search, threads},
    limits::Kind,
    media::{download, preview, resumable, settings, thumbnail, upload as files},
    people::{directory as people, mutual_rooms, networks},
    push::{mail_links, pushers, rules},
    room::{
        aliases, create, delayed, directory, members, membership, notices, receipts, redact,
        report, schedule, send, state,
        threads::{list, subscription},
        typing, upgrade,
    },
    space::{hierarchy, summary},
    sync::{self, former, key_changes, notifications, sliding, socket},
    voip, welcome, well_known,
};

/// Every client endpoint.
pub fn router(app: App) -> Router {
    let table = Table::default();
    let table = accounts(becoming(table));
    let table = writing(table);
    let table = reading(table);
    let table = finding(table);
    let table = backups(table);
    let table = keys(table);
    let table = media(table);
    let table = admin::serve(table);
    table.into_router(app.clone()).merge(socket::routes(app))
}

/// Becoming a user.
fn becoming(table: Table<App>) -> Table<App> {
    table
        .serve_as(Kind::Login, register::register)
        .serve(register::available)
        .serve_as(Kind::Login, register::token_validity)
        .serve_as(Kind::Other, fallback::show)
        .serve_as(Kind::Login, fallback::complete)
        .serve_as(Kind::Login, admin_register::nonce)
        .serve_as(Kind::Login, admin_register::register)
}

fn accounts(table: Table<App>) -> Table<App> {
    table
        // What the server can do.
        .serve_public(discovery::versions)
        .serve(discovery::capabilities)
        .serve(well_known::client)
        .serve(well_known::server)
        .serve(well_known::support)
        .serve(well_known::policy_server)
        .serve_as(Kind::Other, welcome::page)
        .serve(voip::turn_server)
        .and_guests()
        // What the operator tells users.
        .serve_as(Kind::Other, notices::post)
        .serve_as(Kind::Other, notices::put)
        // Sessions.
        .serve(login::flows)
        .serve_as(Kind::Login, login::login)
        .serve_as(Kind::Other, get_token::get)
        .serve_as(Kind::Login, refresh::refresh)
        .serve(logout::logout)
        .and_locked()
        .serve(logout::logout_all)
        .and_locked()
        // The account.
        .serve(management::whoami)
        .and_guests()
        .serve(management::change_password)
        .serve(deactivate::deactivate)
        // Addresses and telephone numbers.
        .serve_as(Kind::Other, ask::to_register_by_email)
        .serve_as(Kind::Other, ask::to_register_by_msisdn)
        .serve_as(Kind::Other, ask::to_reset_by_email)
        .serve_as(Kind::Other, ask::to_reset_by_msisdn)
        .serve_as(Kind::Other, ask::to_add_email)
        .serve_as(Kind::Other, ask::to_add_msisdn)
        .serve_as(Kind::Login, submit::submit)
        .serve_as(Kind::Other, submit::show)
        .serve_as(Kind::Login, submit::confirm)
        .serve(contacts::list)
        .serve_as(Kind::Login, contacts::add)
        .serve(contacts::delete)
        .serve_as(Kind::Other, bind::bind)
        .serve_as(Kind::Other, bind::bind_as_once)
        .serve_as(Kind::Other, bind::unbind)
        .serve(openid::request_token)
        // Application services.
        .serve_as(Kind::Other, ping::ping)
        // What the operator makes of accounts.
        .serve_as(Kind::Other, moderation::get_lock)
        .serve_as(Kind::Other, moderation::put_lock)
        .serve_as(Kind::Other, moderation::get_suspend)
        .serve_as(Kind::Other, moderation::put_suspend)
        .serve_as(Kind::Other, moderation::whois)
        // Devices.
        .serve(devices::list)
        .and_guests()
        .serve(devices::get)
        .and_guests()
        .serve(devices::update)
        .and_guests()
        .serve(devices::delete)
        .serve(devices::delete_many)
        // Profiles.
        .serve_as(Kind::Other, profile::get)
        .serve_as(Kind::Other, profile::get_field)
        .serve(profile::set_field)
        .but_suspended()
        .and_guests()
        .serve(profile::delete)
        .but_suspended()
        .and_guests()
        // Presence.
        .serve(presence::put)
        .but_suspended()
        .serve_as(Kind::Other, presence::get)
}

fn writing(table: Table<App>) -> Table<App> {
    table
        // Rooms.
        .serve_as(Kind::Join, create::create)
        .but_suspended()
        .serve_as(Kind::Join, upgrade::upgrade)
        .but_suspended()
        .serve(membership::joined_rooms)
        // Membership.
        .serve_as(Kind::Join, membership::join)
        .but_suspended()
        .serve_as(Kind::Join, membership::join_by_id)
        .but_suspended()
        .and_guests()
        .serve_as(Kind::Join, membership::knock)
        .but_suspended()
        .serve_as(Kind::Invite, membership::invite)
        .but_suspended()
        .serve(membership::leave)
        .and_guests()
        .serve_as(Kind::Other, membership::kick)
        .but_suspended()
        .serve_as(Kind::Other, membership::ban)
        .but_suspended()
        .serve_as(Kind::Other, membership::unban)
        .but_suspended()
        .serve(membership::forget)
        // Events.
        .serve_as(Kind::Message, send::send)
        .and_guests()
        .serve_as(Kind::Message, redact::redact)
        .serve_as(Kind::Message, state::put)
        .and_guests()
        .serve(state::get)
        .and_guests()
        .serve(state::list)
        .and_guests()
        // Events that are sent later.
        .serve_as(Kind::Message, schedule::put)
        .and_guests()
        .serve(delayed::list)
        .and_guests()
        .serve(delayed::get)
        .and_guests()
        .serve(delayed::act)
        .and_guests()
        .serve(delayed::act_by_body)
        .and_guests()
        // Messages to devices: keys for a large room are many, and mustn't use up what is for the message itself.
        // What a request holds counts as well.
        .serve_as(Kind::Other, send_to_device::send)
        .and_guests()
        // Aliases and the directory.
        .serve_as(Kind::Other, aliases::get)
        .serve(aliases::put)
        .but_suspended()
        .serve(aliases::delete)
        .but_suspended()
        .serve(aliases::list)
        .serve(directory::visibility)
        .serve(directory::set_visibility)
        .but_suspended()
        .serve_as(Kind::Other, network_list::set)
        .serve_as(Kind::Other, directory::get)
        .serve_as(Kind::Other, directory::search)
}

fn reading(table: Table<App>) -> Table<App> {
    table
        .serve(sync::sync)
        .and_guests()
        .serve_poll(sliding::unstable)
        .serve_poll(sliding::stable)
        // As it was before `/sync`.
        .serve(former::initial::sync)
        .serve(former::room::sync)
        .and_guests()
        .serve(former::events::events)
        .and_guests()
        .serve(former::event::event)
        .serve(key_changes::changes)
        .serve(filters::create)
        .serve(filters::get)
        .serve(messages::messages)
        .and_guests()
        .serve_as(Kind::Other, search::search)
        .serve(context::context)
        .and_guests()
        .serve(event::event)
        .and_guests()
        .serve(relations::all)
        .serve(relations::of_type)
        .serve(relations::of_kind)
        .serve(threads::threads)
        .serve_as(Kind::Other, relationships::relationships)
        .serve(moment::timestamp_to_event)
        .serve(members::members)
        .and_guests()
        .serve(members::joined)
        .serve(receipts::receipt)
        .serve(receipts::read_markers)
        .serve(typing::typing)
        .but_suspended()
        // What rooms are, and what spaces hold.
        .serve(hierarchy::hierarchy)
        .serve(summary::summary)
        .and_guests()
        .serve(subscription::put)
        .serve(subscription::get)
        .serve(subscription::delete)
        .serve(list::list)
        .serve_as(Kind::Other, data::put)
        .serve_as(Kind::Other, data::put_in_room)
        .serve(data::get)
        .serve(data::get_in_room)
        .serve(tags::list)
        .serve(tags::put)
        .serve(tags::delete)
        // What users find improper.
        .serve_as(Kind::Other, report::room)
        .serve_as(Kind::Other, report::event)
        .serve_as(Kind::Other, report::user)
        // Who is told of notifications.
        .serve(pushers::list)
        .serve(pushers::set)
        .serve(pushers::ack)
        .serve(pushers::find_gateway)
        .serve_as(Kind::Other, mail_links::show_stop)
        .serve_as(Kind::Other, mail_links::stop)
        .serve_as(Kind::Other, mail_links::show_start)
        .serve_as(Kind::Other, mail_links::start)
        // Push rules.
        .serve(rules::all)
        .serve(rules::global)
        .serve(rules::of_kind)
        .serve(rules::get)
        .serve(rules::put)
        .serve(rules::delete)
        .serve(rules::enabled)
        .serve(rules::set_enabled)
        .serve(rules::actions)
        .serve(rules::set_actions)
        .serve_as(Kind::Other, notifications::notifications)
        .serve_as(Kind::Other, data_delete::global)
        .serve_as(Kind::Other, data_delete::in_room)
}

/// People, here and elsewhere.
fn finding(table: Table<App>) -> Table<App> {
    table
        .serve_as(Kind::Other, people::search)
        .serve_as(Kind::Other, mutual_rooms::get)
        .serve_as(Kind::Other, mutual_rooms::unstable)
        .serve_as(Kind::Other, networks::protocols)
        .serve_as(Kind::Other, networks::protocol)
        .serve_as(Kind::Other, networks::location)
        .serve_as(Kind::Other, networks::user)
        .serve_as(Kind::Other, networks::location_of_alias)
        .serve_as(Kind::Other, networks::user_of_id)
}

/// Backups of room keys.
fn backups(table: Table<App>) -> Table<App> {
    table
        .serve(backup::versions::begin)
        .serve(backup::versions::current)
        .serve(backup::versions::get)
        .serve(backup::versions::update)
        .serve(backup::versions::delete)
        .serve_as(Kind::Backup, backup::upload::rooms)
        .serve_as(Kind::Backup, backup::upload::room)
        .serve_as(Kind::Backup, backup::upload::session)
        .serve(backup::read::rooms)
        .serve(backup::read::room)
        .serve(backup::read::session)
        .serve(backup::delete::rooms)
        .serve(backup::delete::room)
        .serve(backup::delete::session)
}

/// Keys for end-to-end encryption.
fn keys(table: Table<App>) -> Table<App> {
    table
        .serve(upload::upload)
        .and_guests()
        .serve(query::query)
        .and_guests()
        .serve(claim::claim)
        .and_guests()
        .serve(cross_signing::upload)
        .serve(signatures::upload)
        .serve(dehydrated::put)
        .serve(dehydrated::get)
        .serve(dehydrated::delete)
        .serve(dehydrated::post_events)
        .serve(dehydrated::get_events)
}

/// Files.
fn media(table: Table<App>) -> Table<App> {
    table
        .serve_as(Kind::Upload, files::upload)
        .but_suspended()
        .serve_as(Kind::Upload, files::create)
        .but_suspended()
        .serve_as(Kind::Upload, files::fill)
        .but_suspended()
        .serve_as(Kind::Upload, resumable::append)
        .but_suspended()
        .serve(resumable::progress)
        .serve(resumable::cancel)
        .serve(settings::get)
        .serve_as(Kind::Other, preview::preview)
        .serve_as(Kind::Download, download::download)
        .and_guests()
        .serve_as(Kind::Download, download::download_as)
        .and_guests()
        .serve_as(Kind::Download, thumbnail::thumbnail)
        .and_guests()
        // As it was before these asked who it is.
        .serve(settings::get_as_once)
        .serve_as(Kind::Other, preview::preview_as_once)
        .serve_as(Kind::Download, download::download_as_once)
        .and_guests()
        .serve_as(Kind::Download, download::download_named_as_once)
        .and_guests()
        .serve_as(Kind::Download, thumbnail::thumbnail_as_once)
        .and_guests()
}

#[cfg(test)]
mod tests;
