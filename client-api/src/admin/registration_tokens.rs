//! Tokens with which people register where `registration.mode` is `"token"`.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Table, Undecoded};
use rhizome_storage::{RegistrationToken, TokenLimit};
use serde_json::{Map, Value, json};

use crate::{
    App, Caller, Ruma,
    admin::{
        asked::{self, Asked},
        endpoint::endpoints,
    },
};

endpoints! {
    /// `GET`: the tokens, oldest first; with `valid` those with which somebody can register now, or nobody can.
    GetTokens: GET "/_synapse/admin/v1/registration_tokens";
    /// `POST`: makes one.
    PostToken: POST "/_synapse/admin/v1/registration_tokens/new";
    /// `GET`: one.
    GetToken: GET "/_synapse/admin/v1/registration_tokens/{token}";
    /// `PUT`: says for how many accounts or until when it is good.
    PutToken: PUT "/_synapse/admin/v1/registration_tokens/{token}";
    /// `DELETE`: deletes it. Who is registering with it already may end that.
    DeleteToken: DELETE "/_synapse/admin/v1/registration_tokens/{token}";
    /// `GET`: one whose name is that of the path at which tokens are made.
    GetNew: GET "/_synapse/admin/v1/registration_tokens/new";
    /// `PUT`: likewise.
    PutNew: PUT "/_synapse/admin/v1/registration_tokens/new";
    /// `DELETE`: likewise.
    DeleteNew: DELETE "/_synapse/admin/v1/registration_tokens/new";
}

/// How long tokens are of which nothing is said.
const USUAL_LENGTH: usize = 16;

/// What there is for tokens.
pub fn serve(table: Table<App>) -> Table<App> {
    table
        .serve(list)
        .serve(add)
        .serve(get)
        .serve(change)
        .serve(delete)
        .serve(get_new)
        .serve(change_new)
        .serve(delete_new)
}

/// `GET /_synapse/admin/v1/registration_tokens`
pub async fn list(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetTokens>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let page = asked.whole_page()?;
    // One more tells whether there are more.
    let more = (page.from, page.limit.saturating_add(1));
    let valid = asked.flag("valid")?;
    let mut tokens = app.store.registration_tokens(valid, more).await?;
    let next = page.cut(&mut tokens);
    let shown: Vec<_> = tokens.iter().map(shown).collect();
    let mut answer = json!({ "registration_tokens": shown });
    if let Some(next) = next {
        answer["next_token"] = next.into();
    }
    RawJson::of(&answer)
}

/// `POST /_synapse/admin/v1/registration_tokens/new`
pub async fn add(
    State(app): State<App>,
    Ruma { who, body, .. }: Ruma<Undecoded<PostToken>>,
) -> Result<RawJson, MatrixError> {
    let wish: Map<String, Value> = asked::body(&body)?;
    let said = |name: &str| wish.get(name).filter(|value| !value.is_null());
    let token = match (said("token"), said("length")) {
        // It has its length, whatever is said of that: tools say always something.
        (Some(token), _) => {
            let token = token
                .as_str()
                .filter(|token| RegistrationToken::can_be(token));
            let token = token.ok_or_else(|| {
                MatrixError::invalid_param("A token has 1 to 64 of a-z, A-Z, 0-9 and -._~")
            })?;
            token.to_owned()
        }
        (None, length) => RegistrationToken::random(length.map_or(Ok(USUAL_LENGTH), of_length)?)?,
    };
    let uses = uses(&wish)?.and_then(TokenLimit::number);
    let until = expiry(&app, &wish)?.and_then(TokenLimit::number);
    if !app
        .store
        .add_registration_token(&token, uses, until)
        .await?
    {
        return Err(MatrixError::invalid_param("There is such a token already"));
    }
    tracing::info!(by = %who.user_id, "a registration token was made");
    one(&app, &token).await
}

/// `GET /_synapse/admin/v1/registration_tokens/{token}`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetToken>>,
) -> Result<RawJson, MatrixError> {
    one(&app, req.part(0)).await
}

/// `PUT /_synapse/admin/v1/registration_tokens/{token}`
pub async fn change(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PutToken>>,
) -> Result<RawJson, MatrixError> {
    change_one(&app, &who, req.part(0), &body).await
}

/// `DELETE /_synapse/admin/v1/registration_tokens/{token}`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteToken>>,
) -> Result<RawJson, MatrixError> {
    delete_one(&app, &who, req.part(0)).await
}

/// The name that the path at which tokens are made hides.
const NEW: &str = "new";

/// `GET /_synapse/admin/v1/registration_tokens/new`
pub async fn get_new(
    State(app): State<App>,
    Ruma { .. }: Ruma<Undecoded<GetNew>>,
) -> Result<RawJson, MatrixError> {
    one(&app, NEW).await
}

/// `PUT /_synapse/admin/v1/registration_tokens/new`
pub async fn change_new(
    State(app): State<App>,
    Ruma { who, body, .. }: Ruma<Undecoded<PutNew>>,
) -> Result<RawJson, MatrixError> {
    change_one(&app, &who, NEW, &body).await
}

/// `DELETE /_synapse/admin/v1/registration_tokens/new`
pub async fn delete_new(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<Undecoded<DeleteNew>>,
) -> Result<RawJson, MatrixError> {
    delete_one(&app, &who, NEW).await
}

async fn one(app: &App, token: &str) -> Result<RawJson, MatrixError> {
    let found = app.store.registration_token(token).await?;
    RawJson::of(&shown(&found.ok_or_else(unknown)?))
}

async fn change_one(
    app: &App,
    who: &Caller,
    token: &str,
    body: &[u8],
) -> Result<RawJson, MatrixError> {
    let wish: Map<String, Value> = asked::body(body)?;
    let (uses, until) = (uses(&wish)?, expiry(app, &wish)?);
    let store = &app.store;
    if !store.change_registration_token(token, uses, until).await? {
        return Err(unknown());
    }
    tracing::info!(by = %who.user_id, "a registration token was changed");
    one(app, token).await
}

async fn delete_one(app: &App, who: &Caller, token: &str) -> Result<RawJson, MatrixError> {
    if !app.store.delete_registration_token(token).await? {
        return Err(unknown());
    }
    tracing::info!(by = %who.user_id, "a registration token was deleted");
    RawJson::of(&json!({}))
}

fn unknown() -> MatrixError {
    MatrixError::not_found("There is no such registration token")
}

fn of_length(length: &Value) -> Result<usize, MatrixError> {
    let length = length
        .as_u64()
        .and_then(|length| usize::try_from(length).ok());
    length
        .filter(|length| (1..=RegistrationToken::LONGEST).contains(length))
        .ok_or_else(|| MatrixError::invalid_param("length is 1 to 64"))
}

/// How many accounts may be made, if something is said of it; `null` is any number.
fn uses(wish: &Map<String, Value>) -> Result<Option<TokenLimit>, MatrixError> {
    match wish.get("uses_allowed") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(TokenLimit::Without)),
        Some(uses) => match uses.as_i64().filter(|uses| *uses >= 0) {
            Some(uses) => Ok(Some(TokenLimit::To(uses))),
            None => Err(MatrixError::invalid_param(
                "uses_allowed is a number, 0 or more, or null",
            )),
        },
    }
}

/// Until when it is good, if something is said of it; `null` is for ever.
fn expiry(app: &App, wish: &Map<String, Value>) -> Result<Option<TokenLimit>, MatrixError> {
    match wish.get("expiry_time") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(TokenLimit::Without)),
        Some(until) => match until.as_i64() {
            Some(until) if until >= app.store.clock().now_ms() => Ok(Some(TokenLimit::To(until))),
            _ => Err(MatrixError::invalid_param(
                "expiry_time is a time to come, in milliseconds since 1970, or null",
            )),
        },
    }
}

fn shown(token: &RegistrationToken) -> Value {
    json!({
        "token": token.token,
        "uses_allowed": token.uses_allowed,
        "pending": token.pending,
        "completed": token.completed,
        "expiry_time": token.expires_ms,
    })
}
