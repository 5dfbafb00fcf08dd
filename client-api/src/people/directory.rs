//! Finding people by their names (client-server API, "User Directory").

use std::time::Duration;

use axum::extract::State;
use rhizome_edge::RawJson;
use rhizome_storage::{PeopleQuery, PeopleScope, Person};
use ruma::api::client::user_directory::search_users::v3;

use crate::{
    App, MatrixError, Ruma,
    view::{ignored, json::Json},
};

/// The most people in an answer.
const MOST: usize = 100;
/// For so long a search waits until it knows of what has happened before it.
const PATIENCE: Duration = Duration::from_millis(200);

/// `POST /_matrix/client/v3/user_directory/search`
pub async fn search(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<v3::Request>,
) -> Result<RawJson, MatrixError> {
    let query = PeopleQuery::parse(&req.search_term)
        .map_err(|_| MatrixError::invalid_param("search_term is longer than a name"))?;
    let limit = usize::try_from(req.limit).unwrap_or(MOST).min(MOST);
    app.store.people_are_known(PATIENCE).await;
    let ignored = ignored::read(&app.store, who.user).await?;
    let without = ignored::numbers(&app.store, &ignored).await?;
    let scope = PeopleScope {
        user: who.user,
        here: &app.config.server_name,
        all_local: app.config.found_users.are_all_local(),
        without: &without,
        limit,
    };
    let found = app.store.find_people(&query, scope).await?;
    let mut json = Json::with_capacity(1_024);
    json.open().key("results").open_list();
    for person in &found.people {
        write(&mut json, person);
    }
    json.close_list().key("limited").boolean(found.limited);
    json.close();
    Ok(RawJson(json.finish().into()))
}

fn write(json: &mut Json, person: &Person) {
    json.open().key("user_id").string(person.user_id.as_str());
    if let Some(name) = &person.name {
        json.key("display_name").string(name);
    }
    // What others say that is no address of a file isn't passed on.
    let avatar = person.avatar.as_deref();
    if let Some(avatar) = avatar.filter(|avatar| avatar.starts_with("mxc://")) {
        json.key("avatar_url").string(avatar);
    }
    json.close();
}
