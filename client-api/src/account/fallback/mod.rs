//! Stages of user-interactive authentication in a browser, for clients that don't know them
//! (<https://spec.matrix.org/v1.19/client-server-api/#fallback>).
//!
//! Who knows a session's id may complete its stages, here as in the API, and by the same rules (`auth/uia`). A GET changes
//! nothing. The pages have no script but the captcha's, and the one that tells the client that a stage is done.

mod address;
mod form;
mod page;

use axum::extract::State;
use http::{HeaderMap, StatusCode, header};
use rhizome_edge::{Binary, Content, MatrixError, Ruma};
use ruma::{
    api::{auth_scheme::NoAccessToken, client::uiaa::get_uiaa_fallback_page::v3 as fallback},
    metadata,
};

use self::{
    form::Form,
    page::{address_form, captcha_form, done, password_form, terms_form, token_form},
};
use crate::{
    App,
    auth::{
        uia::{self, Given, Opened, Stage, Whom},
        validated::Medium,
    },
    page::Page,
};

/// The longest form that is looked at.
const LONGEST: usize = 64 << 10;

/// `POST`: a form of one of the pages.
pub struct Complete;
metadata! {
    @for Complete,
    method: POST,
    rate_limited: true,
    authentication: NoAccessToken,
    history: {
        1.0 => "/_matrix/client/r0/auth/{auth_type}/fallback/web",
        1.1 => "/_matrix/client/v3/auth/{auth_type}/fallback/web",
    }
}

/// `GET /_matrix/client/v3/auth/{authType}/fallback/web`
pub async fn show(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Binary<fallback::Request>>,
) -> Result<Content, MatrixError> {
    let (name, query) = (req.head.path.first(), req.head.parts.uri.query());
    match find(&app, name.map_or("", String::as_str), query).await? {
        Ok((stage, opened)) => Ok(shown(&app, stage, &opened, &req.head.parts.headers, None)),
        Err(page) => Ok(page),
    }
}

/// `POST /_matrix/client/v3/auth/{authType}/fallback/web`
pub async fn complete(
    State(app): State<App>,
    Ruma {
        req, body, peer, ..
    }: Ruma<Binary<Complete>>,
) -> Result<Content, MatrixError> {
    let (name, query) = (req.head.path.first(), req.head.parts.uri.query());
    let (stage, opened) = match find(&app, name.map_or("", String::as_str), query).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    if opened.has(stage) {
        return Ok(done());
    }
    if body.len() > LONGEST {
        return Err(MatrixError::too_large("The form is too large"));
    }
    let form = Form::read(&body);
    match stage {
        Stage::Email => return address::confirm(&app, Medium::Email, &opened, &form, peer).await,
        Stage::Msisdn => return address::confirm(&app, Medium::Msisdn, &opened, &form, peer).await,
        _ => {}
    }
    let field = |name: &str| form.get(name).unwrap_or_default();
    let given = match stage {
        Stage::Dummy => Given::Dummy,
        Stage::Terms => Given::Terms,
        Stage::Password => Given::Password(Whom::Clear, field("password")),
        Stage::Token => Given::Token(field("token").trim()),
        Stage::Captcha => Given::Captcha(match &app.config.registration_rules.captcha {
            Some(captcha) => field(page::answer_of(captcha.kind)),
            None => "",
        }),
        other => Given::Other(Some(other)),
    };
    let headers = &req.head.parts.headers;
    let again = |why: &str| shown(&app, stage, &opened, headers, Some(why));
    match uia::complete(&app, &opened, given, peer).await {
        Ok(Ok(())) => Ok(done()),
        Ok(Err(why)) => Ok(again(&why).with_status(StatusCode::BAD_REQUEST)),
        Err(error) if error.status == StatusCode::INTERNAL_SERVER_ERROR => Err(error),
        Err(error) => Ok(again(&error.message).with_status(error.status)),
    }
}

/// The stage and the session that a page is for, or the page that says why there are none.
async fn find(
    app: &App,
    name: &str,
    query: Option<&str>,
) -> Result<Result<(Stage, Opened), Content>, MatrixError> {
    let Some(stage) = Stage::named(name) else {
        return Ok(Err(Page::new("Unknown step")
            .saying("This server doesn't know such a step.")
            .content()
            .with_status(StatusCode::NOT_FOUND)));
    };
    let query = Form::read(query.unwrap_or_default().as_bytes());
    let id = query.get("session").unwrap_or_default();
    let opened = match id {
        "" => None,
        id => Opened::find(app, id).await?,
    };
    let Some(opened) = opened else {
        return Ok(Err(Page::new("Too late")
            .saying("This has taken too long, or is done already. Please begin again in your app.")
            .content()
            .with_status(StatusCode::BAD_REQUEST)));
    };
    if !opened.has(stage) && !opened.goes_on_with(stage) {
        return Ok(Err(Page::new("Not this step")
            .saying("This step isn't needed now. Please go on in your app.")
            .content()
            .with_status(StatusCode::BAD_REQUEST)));
    }
    Ok(Ok((stage, opened)))
}

/// The page of a stage.
fn shown(
    app: &App,
    stage: Stage,
    opened: &Opened,
    headers: &HeaderMap,
    why: Option<&str>,
) -> Content {
    if opened.has(stage) {
        return done();
    }
    let rules = &app.config.registration_rules;
    match stage {
        Stage::Dummy => Page::new("Continue")
            .alarming(why)
            .saying("Your app has brought you here. If you want to go on, press the button.")
            .with_form("", "Continue")
            .content(),
        Stage::Password => password_form(opened.act(), why),
        Stage::Token => token_form(why),
        Stage::Terms => {
            let wanted = headers
                .get(header::ACCEPT_LANGUAGE)
                .and_then(|value| value.to_str().ok());
            terms_form(&rules.terms, wanted.unwrap_or_default(), why)
        }
        Stage::Captcha => match &rules.captcha {
            Some(captcha) => captcha_form(captcha, why),
            None => elsewhere(),
        },
        Stage::Email => address_form(Medium::Email, why),
        Stage::Msisdn => address_form(Medium::Msisdn, why),
        Stage::Jwt | Stage::Sso | Stage::OAuth => elsewhere(),
    }
}

fn elsewhere() -> Content {
    Page::new("In your app")
        .saying("This step can be done in your app only.")
        .content()
}
