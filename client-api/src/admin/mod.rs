//! The API for administrators under `/_synapse/admin`, in the shapes that tools for them already speak
//! (<https://element-hq.github.io/synapse/latest/usage/administration/admin_api/>).
//!
//! Everything here is for administrators alone, which the door sees to: who is none, a guest, suspended or nobody, is refused
//! before anything of the request is read. Handlers read what is asked strictly ([`asked`]), find whom or what it is about
//! ([`subject`]), and do what the command line does, by the same functions. Lists are put in order, counted and cut by the
//! database. What changes something says so in the log: who did what to whom.
//!
//! What of that API is here, docs/coverage-admin.md says.

mod asked;
mod endpoint;
mod federation;
mod media;
mod registration_tokens;
mod reports;
mod rooms;
mod server;
mod subject;
mod users;

use rhizome_edge::Table;

use crate::App;

/// Every endpoint for administrators, but those that stand with what they belong to: registration by a shared secret, and
/// notices.
pub fn serve(table: Table<App>) -> Table<App> {
    let people = reports::serve(registration_tokens::serve(users::serve(table)));
    server::serve(federation::serve(media::serve(rooms::serve(people))))
}

/// The paths, with variables in braces, and the methods of all that only administrators may do: for tests and documents.
pub fn endpoints() -> Vec<(String, &'static str)> {
    let table = serve(Table::default());
    let each = table.endpoints();
    each.map(|(path, method, _)| (path.to_owned(), method))
        .collect()
}
