//! One server is asked for one file.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, header};
use reqwest::Url;
use rhizome_media::{FetchError, Fetched, Method, Wanted};
use ruma::ServerName;

use super::{
    head::FileHead,
    manners::{self, Turn},
    multipart::boundary,
    transfer::{Held, Transfer, WHOLE, head_of, of_server, of_web},
};
use crate::{
    Federation, MatrixError,
    outbound::{OutboundError, Schemes, Visit, refusal::lacks_endpoint, web},
};

/// Time until an answer begins, beside what it may wait for an upload.
const BEGIN: Duration = Duration::from_secs(20);
/// The same for who waits for another's question; a little longer, so that they hear what became of it.
pub(super) const HEAD: Duration = Duration::from_secs(22);
/// The largest picture that isn't made here.
const LARGEST_PICTURE: u64 = 10 << 20;

/// A file, or a picture of it.
#[derive(Debug, Clone, Copy)]
enum What {
    File,
    Picture(Wanted),
}

/// A question for a file.
struct Question<'a> {
    fed: &'a Federation,
    origin: &'a ServerName,
    media_id: &'a str,
    what: What,
    wait: Duration,
    most: u64,
}

/// Another server's file. `wait`: how long for bytes that haven't been uploaded there.
pub(super) async fn file(
    fed: &Federation,
    origin: &ServerName,
    media_id: &str,
    wait: Duration,
) -> Result<Fetched, FetchError> {
    let question = Question {
        fed,
        origin,
        media_id,
        what: What::File,
        wait,
        most: fed.media().config().remote.max_size,
    };
    question.answer().await
}

/// A picture that another server makes of its file.
pub(super) async fn picture(
    fed: &Federation,
    origin: &ServerName,
    media_id: &str,
    wanted: Wanted,
    wait: Duration,
) -> Result<Fetched, FetchError> {
    let question = Question {
        fed,
        origin,
        media_id,
        what: What::Picture(wanted),
        wait,
        most: LARGEST_PICTURE,
    };
    let picture = question.answer().await?;
    let kind = picture.content_type.as_deref().unwrap_or_default();
    let is_picture = kind.starts_with("image/") && super::is_shown_inline(kind);
    let why = || FetchError::Failed("what it gives is no picture".to_owned());
    is_picture.then_some(picture).ok_or_else(why)
}

/// What a picture that another server made is kept as: no file can be called so.
pub(super) fn picture_name(media_id: &str, wanted: Wanted) -> String {
    let Wanted { width, height, .. } = wanted;
    let still = if wanted.animated { "" } else { "-still" };
    format!(
        "{media_id}/{width}x{height}-{}{still}",
        wanted.method.name()
    )
}

impl Question<'_> {
    async fn answer(&self) -> Result<Fetched, FetchError> {
        if manners::is_left_alone(self.fed, self.origin) {
            return Err(FetchError::Unasked);
        }
        let turn = self.fed.manners().turn(self.origin).await;
        let turn = turn.ok_or(FetchError::Unasked)?;
        // It may have been found out while this waited.
        if manners::is_left_alone(self.fed, self.origin) {
            return Err(FetchError::Unasked);
        }
        let asked = self.of_server().await;
        manners::remember(self.fed, self.origin, &asked);
        match asked {
            Ok(answer) => self.read(answer, turn).await,
            Err(OutboundError::Remote(error)) if is_old(&error) => {
                let asked = self.of_anybody().await;
                let answer = asked.map_err(|error| of_server(&error))?;
                self.read_old(answer, turn).await
            }
            Err(error) => Err(of_server(&error)),
        }
    }

    /// The endpoint for servers.
    async fn of_server(&self) -> Result<Response<axum::body::Body>, OutboundError> {
        let (media_id, query) = (self.media_id, self.query());
        let target = match self.what {
            What::File => format!("/_matrix/federation/v1/media/download/{media_id}?{query}"),
            What::Picture(_) => {
                format!("/_matrix/federation/v1/media/thumbnail/{media_id}?{query}")
            }
        };
        let outbound = self.fed.outbound();
        outbound.get(self.origin, &target, self.wait + BEGIN).await
    }

    /// The old endpoint, for everybody.
    async fn of_anybody(&self) -> Result<Response<axum::body::Body>, OutboundError> {
        let what = match self.what {
            What::File => "download",
            What::Picture(_) => "thumbnail",
        };
        let target = format!(
            "/_matrix/media/v3/{what}/{}/{}?allow_remote=false&allow_redirect=true&{}",
            self.origin,
            self.media_id,
            self.query()
        );
        let answer = self.unsigned(&target).await?;
        match location_of(&answer).and_then(|location| of_same(&target, location)) {
            Some(target) => self.unsigned(&target).await,
            None => Ok(answer),
        }
    }

    async fn unsigned(&self, target: &str) -> Result<Response<axum::body::Body>, OutboundError> {
        let outbound = self.fed.outbound();
        outbound
            .get_unsigned(self.origin, target, self.wait + BEGIN)
            .await
    }

    fn query(&self) -> String {
        let wait = self.wait.as_millis();
        match self.what {
            What::File => format!("timeout_ms={wait}"),
            What::Picture(wanted) => format!(
                "timeout_ms={wait}&width={}&height={}&method={}&animated={}",
                wanted.width,
                wanted.height,
                wanted.method.name(),
                wanted.animated
            ),
        }
    }

    async fn read(
        &self,
        answer: Response<axum::body::Body>,
        turn: Turn,
    ) -> Result<Fetched, FetchError> {
        let (parts, body) = answer.into_parts();
        let boundary = web::text(&parts.headers, header::CONTENT_TYPE).and_then(boundary);
        let no_parts = || FetchError::Failed("its answer isn't of two parts".to_owned());
        let boundary = boundary.ok_or_else(no_parts)?;
        match Transfer::of_parts(&boundary, body, self.most).await? {
            Held::File(head, transfer) => transfer.fetched(head, turn),
            Held::Location(location) => self.visit(&location, turn).await,
        }
    }

    async fn read_old(
        &self,
        answer: Response<axum::body::Body>,
        turn: Turn,
    ) -> Result<Fetched, FetchError> {
        if let Some(location) = location_of(&answer) {
            return self.visit(location, turn).await;
        }
        let (parts, body) = answer.into_parts();
        if !parts.status.is_success() {
            let why = format!("it answers {}", parts.status);
            return Err(FetchError::Failed(why));
        }
        let head = head_of(&parts.headers);
        Transfer::of_body(body, self.most).fetched(head, turn)
    }

    /// Goes to where the file is. By `https` alone: nobody on the way should put another there.
    async fn visit(&self, location: &str, turn: Turn) -> Result<Fetched, FetchError> {
        let visit = Visit {
            schemes: Schemes::Https,
            redirects: 3,
            most: self.most,
            time: WHOLE,
            idle: BEGIN,
        };
        let failed = |why: &str| FetchError::Failed(why.to_owned());
        let url = Url::parse(location).map_err(|_| failed("it sends on to what isn't a URL"))?;
        let headers = HeaderMap::new();
        let visited = self.fed.outbound().web().get(url, &headers, &visit);
        let visited = tokio::time::timeout(BEGIN, visited).await;
        let visited = visited.map_err(|_| failed("where it sends on to nobody answers"))?;
        let found = visited.map_err(of_web)?;
        let head = FileHead {
            length: found.body.announced(),
            ..head_of(&found.headers)
        };
        Transfer::of_web(found.body, self.most).fetched(head, turn)
    }
}

/// Whether a refusal says that the other server has only the old endpoint. Some take the new one for the old, and miss a
/// server's name in its path.
fn is_old(error: &MatrixError) -> bool {
    let misses_something = error.status == StatusCode::BAD_REQUEST && error.errcode == "M_UNKNOWN";
    lacks_endpoint(error) || misses_something
}

/// Where an answer sends on to, if it does.
fn location_of(answer: &Response<axum::body::Body>) -> Option<&str> {
    if answer.status().is_success() {
        return None;
    }
    web::text(answer.headers(), header::LOCATION)
}

/// Where on the same server that is, if it names no other.
fn of_same(target: &str, location: &str) -> Option<String> {
    let server = Url::parse("https://server.invalid").ok()?;
    let is_relative = Url::parse(location).is_err();
    let there = server.join(target).ok()?.join(location).ok()?;
    let is_same = is_relative && there.origin() == server.origin();
    let query = there.query().map(|query| format!("?{query}"));
    is_same.then(|| format!("{}{}", there.path(), query.unwrap_or_default()))
}

/// The smallest of the specification's sizes that is as large as what is wanted, or the largest: other servers are asked for
/// few, and have them (<https://spec.matrix.org/v1.19/client-server-api/#thumbnails>).
pub(super) fn specified(wanted: Wanted) -> Wanted {
    let sizes: &[(u32, u32)] = match wanted.method {
        Method::Crop => &[(32, 32), (96, 96)],
        Method::Scale => &[(320, 240), (640, 480), (800, 600)],
    };
    let fits = |(width, height): &&(u32, u32)| *width >= wanted.width && *height >= wanted.height;
    let found = sizes.iter().find(fits).or(sizes.last());
    found.map_or(wanted, |(width, height)| Wanted {
        width: *width,
        height: *height,
        ..wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_server_is_on_the_same() {
        let target = "/_matrix/media/v3/download/a/b?c";
        for (location, same) in [
            ("/files/x?y#z", Some("/files/x?y")),
            ("x", Some("/_matrix/media/v3/download/a/x")),
            ("../x", Some("/_matrix/media/v3/download/x")),
            ("//other.example/x", None),
            ("https://other.example/x", None),
            ("https:/x", None),
            ("file:///x", None),
            ("\\\\other.example/x", None),
        ] {
            assert_eq!(of_same(target, location).as_deref(), same, "{location}");
        }
    }
}
