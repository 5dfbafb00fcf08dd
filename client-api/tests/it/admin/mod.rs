//! What administrators do and learn through `/_synapse/admin`.

mod documented;
mod doors;
mod login_as;
mod media;
mod redacting;
mod registration_tokens;
mod reports;
mod rooms;
mod rooms_history;
mod rooms_shut;
mod servers;
mod users;
mod users_changed;

use http::Method;
use rhizome_client_api::users as accounts;
use serde_json::Value;

use crate::asking::{HttpAnswer, Server, User, config, encoded};

/// Somebody who administers the server.
async fn administrator(server: &Server, name: &str) -> User {
    let config = config();
    let made = accounts::create(
        &server.app.store,
        &config.server_name,
        name,
        "secret",
        true,
        config.password_cost,
    );
    made.await.unwrap();
    server.login(name).await
}

/// A request for administrators; `path` is what follows `/_synapse/admin`, `Null` sends no body.
async fn ask(by: &User, method: Method, path: &str, body: Value) -> HttpAnswer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let path = format!("/_synapse/admin{path}");
    by.server.text(method, &path, Some(&by.token), body).await
}

async fn get(by: &User, path: &str) -> HttpAnswer {
    ask(by, Method::GET, path, Value::Null).await
}

async fn put(by: &User, path: &str, body: Value) -> HttpAnswer {
    ask(by, Method::PUT, path, body).await
}

async fn post(by: &User, path: &str, body: Value) -> HttpAnswer {
    ask(by, Method::POST, path, body).await
}

async fn delete(by: &User, path: &str, body: Value) -> HttpAnswer {
    ask(by, Method::DELETE, path, body).await
}

/// The path of something of a user's: `/v1/users/{id}/{what}`.
fn of_user(version: &str, id: &str, what: &str) -> String {
    format!("/{version}/users/{}{what}", encoded(id))
}
