//! Nobody but administrators gets anything of what is for them.

use http::Method;
use rhizome_client_api::{ClientConfig, admin_endpoints};
use rhizome_storage::AccountFlag;
use ruma::UserId;
use serde_json::{Value, json};

use super::{administrator, get};
use crate::asking::{HttpAnswer, Server, User, config, each_server, each_server_with, encoded};

fn with_guests() -> ClientConfig {
    let mut config = config();
    config.guests = true;
    config
}

/// Something that its variables can stand for.
fn filled(path: &str, user: &str) -> String {
    let parts = path.split('/').map(|part| {
        if part.starts_with('{') {
            encoded(user)
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

async fn each(server: &Server, token: Option<&str>, user: &str) -> Vec<(String, HttpAnswer)> {
    let mut answers = Vec::new();
    for (path, method) in admin_endpoints() {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = filled(&path, user);
        // What isn't even JSON: nothing of it is read.
        let answer = server.text(method.clone(), &path, token, "{").await;
        answers.push((format!("{method} {path}"), answer));
    }
    answers
}

async fn flag(server: &Server, user: &str, flag: AccountFlag, on: bool) {
    let user = <&UserId>::try_from(user).unwrap();
    let no = server.app.store.user_no(user).await.unwrap();
    let set = server.app.store.set_account_flag(no, flag, on);
    assert!(set.await.unwrap());
}

async fn guest(server: &Server) -> User {
    let path = "/_matrix/client/v3/register?kind=guest";
    let session = server.ask(Method::POST, path, json!({})).await.ok();
    server.user_of(&session)
}

#[tokio::test]
async fn whoever_is_no_administrator_is_refused_everywhere() {
    each_server_with(with_guests, async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let guest = guest(&server).await;
        assert!(admin_endpoints().len() > 30);
        for (what, answer) in each(&server, None, &ada.id).await {
            println!("{what}");
            answer.fails(401, "M_MISSING_TOKEN");
        }
        for (what, answer) in each(&server, Some("as.nobodys"), &ada.id).await {
            println!("{what}");
            answer.fails(401, "M_UNKNOWN_TOKEN");
        }
        for user in [&ada, &guest] {
            // Of themselves as of others.
            for of in [&user.id, &boss.id] {
                for (what, answer) in each(&server, Some(&user.token), of).await {
                    println!("{what} by {}", user.id);
                    answer.fails(403, "M_FORBIDDEN");
                }
            }
        }
        // Nor is a guest one who was made it by mistake: nobody needs a password to be a guest.
        flag(&server, &guest.id, AccountFlag::Admin, true).await;
        get(&guest, "/v2/users").await.fails(403, "M_FORBIDDEN");
        // Who administered the server once, or is suspended.
        let other = administrator(&server, "other").await;
        get(&other, "/v2/users").await.ok();
        flag(&server, &other.id, AccountFlag::Suspended, true).await;
        for (what, answer) in each(&server, Some(&other.token), &ada.id).await {
            println!("{what} while suspended");
            answer.fails(403, "M_FORBIDDEN");
        }
        flag(&server, &other.id, AccountFlag::Suspended, false).await;
        get(&other, "/v2/users").await.ok();
        flag(&server, &other.id, AccountFlag::Admin, false).await;
        get(&other, "/v2/users").await.fails(403, "M_FORBIDDEN");
    })
    .await;
}

/// What paths hold is looked at before anything is done: nothing of it breaks the server.
#[tokio::test]
async fn paths_are_read_strictly() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        for hostile in crate::asking::HOSTILE {
            for (path, method) in admin_endpoints() {
                if method != "GET" || !path.contains('{') {
                    continue;
                }
                let path = filled(&path, hostile);
                let answer = server.text(Method::GET, &path, Some(&boss.token), "").await;
                let status = answer.status.as_u16();
                assert!(
                    (200..=404).contains(&status),
                    "{path}: {status} {}",
                    answer.body
                );
            }
        }
    })
    .await;
}

/// Users of other servers aren't taken for users of this one.
#[tokio::test]
async fn nothing_is_done_to_users_of_other_servers() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let stranger = "@ada:elsewhere.test";
        server
            .app
            .store
            .user_no(<&UserId>::try_from(stranger).unwrap())
            .await
            .unwrap();
        // Where they are, and what they have said in rooms here, is here.
        let may = ["joined_rooms", "memberships", "redact"];
        let mut asked = 0;
        for (path, method) in admin_endpoints() {
            let of_user = [
                "/users/{",
                "/user/{",
                "/deactivate/{",
                "/suspend/{",
                "/whois/{",
            ];
            let of_user = of_user.iter().any(|part| path.contains(part))
                || path.contains("/reset_password/{");
            if !of_user || may.iter().any(|end| path.ends_with(end)) || path.contains("threepid") {
                continue;
            }
            let body: Value = match method {
                "GET" => Value::Null,
                _ => json!({
                    "admin": true, "suspend": true, "new_password": "x", "devices": [],
                    "display_name": "x", "password": "x",
                }),
            };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let query = if method == Method::GET {
                "?from_ts=0"
            } else {
                ""
            };
            let path = format!("{}{query}", filled(&path, stranger));
            let body = if body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            let answer = server.text(method, &path, Some(&boss.token), body).await;
            answer.fails(400, "M_INVALID_PARAM");
            asked += 1;
        }
        assert!(asked > 20, "{asked}");
    })
    .await;
}
