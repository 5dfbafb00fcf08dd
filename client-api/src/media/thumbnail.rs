//! Pictures in other sizes (<https://spec.matrix.org/v1.19/client-server-api/#thumbnails>).

use axum::extract::State;
use http::{HeaderMap, header};
use rhizome_edge::{Binary, Content, MatrixError, Ruma};
use rhizome_media::{Format, Method, Wanted};
use ruma::{
    UInt,
    api::{
        auth_scheme::AccessTokenOptional,
        client::{authenticated_media::get_content_thumbnail, media},
    },
    media::Method as Asked,
    metadata,
};

use super::{
    answer::{self, Asking},
    download::decode,
    find::{self, Asker},
};
use crate::App;

/// No picture is made larger, whatever is asked for.
const LARGEST: u32 = 8_192;

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`
pub async fn thumbnail(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<get_content_thumbnail::v1::Request>>,
) -> Result<Content, MatrixError> {
    let asked: get_content_thumbnail::v1::Request = decode(&req.head)?;
    let headers = &req.head.parts.headers;
    let size = (asked.width, asked.height);
    let wanted = wanted(size, asked.method.as_ref(), asked.animated, headers)?;
    let of = find::Asked {
        who: Asker::User(&who),
        origin: &asked.server_name,
        media_id: &asked.media_id,
        wait: asked.timeout_ms,
        allow_remote: true,
    };
    let picture = of.thumbnail(&app, wanted).await?;
    let asking = Asking {
        parts: &req.head.parts,
        who: of.who,
        may_redirect: true,
    };
    answer::picture(&app, asking, picture).await
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`, and as older clients spell it.
pub struct Once;
metadata! {
    @for Once,
    method: GET,
    rate_limited: true,
    authentication: AccessTokenOptional,
    history: {
        unstable => "/_matrix/media/v1/thumbnail/{server_name}/{media_id}",
        1.0 => "/_matrix/media/r0/thumbnail/{server_name}/{media_id}",
        1.1 => "/_matrix/media/v3/thumbnail/{server_name}/{media_id}",
    }
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`
#[expect(deprecated, reason = "it is served to who may still use it")]
pub async fn thumbnail_as_once(
    State(app): State<App>,
    Ruma { who, req, peer, .. }: Ruma<Binary<Once>>,
) -> Result<Content, MatrixError> {
    let asked: media::get_content_thumbnail::v3::Request = decode(&req.head)?;
    let headers = &req.head.parts.headers;
    let size = (asked.width, asked.height);
    let wanted = wanted(size, asked.method.as_ref(), asked.animated, headers)?;
    let of = find::Asked {
        who: Asker::of(who.as_ref(), peer),
        origin: &asked.server_name,
        media_id: &asked.media_id,
        wait: asked.timeout_ms,
        allow_remote: asked.allow_remote,
    };
    let picture = of.thumbnail(&app, wanted).await?;
    let asking = Asking {
        parts: &req.head.parts,
        who: of.who,
        may_redirect: asked.allow_redirect,
    };
    answer::picture(&app, asking, picture).await
}

/// Which picture a request is for.
fn wanted(
    (width, height): (UInt, UInt),
    method: Option<&Asked>,
    animated: Option<bool>,
    headers: &HeaderMap,
) -> Result<Wanted, MatrixError> {
    let pixels = |side: UInt| match u32::try_from(u64::from(side)) {
        Ok(0) => Err(MatrixError::invalid_param(
            "A picture has a width and a height",
        )),
        Ok(side) => Ok(side.min(LARGEST)),
        Err(_) => Ok(LARGEST),
    };
    let method = match method {
        None | Some(Asked::Scale) => Method::Scale,
        Some(Asked::Crop) => Method::Crop,
        Some(_) => return Err(MatrixError::invalid_param("method is crop or scale")),
    };
    Ok(Wanted {
        width: pixels(width)?,
        height: pixels(height)?,
        method,
        animated: animated.unwrap_or(false),
        format: format(headers),
    })
}

/// WebP for who names it; who takes anything mightn't know it.
fn format(headers: &HeaderMap) -> Format {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    if accepted.any(names_webp) {
        Format::Webp
    } else {
        Format::Plain
    }
}

/// Whether one of what a client accepts is WebP, and not with `q=0`.
fn names_webp(one: &str) -> bool {
    let mut parts = one.split(';').map(str::trim);
    let is_webp = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("image/webp"));
    is_webp
        && !parts.any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let is_zero = value
                .trim()
                .parse::<f32>()
                .is_ok_and(|weight| weight <= 0.0);
            name.trim().eq_ignore_ascii_case("q") && is_zero
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ruma::uint;

    use super::*;

    #[test]
    fn webp_is_for_who_names_it() {
        for (accept, webp) in [
            ("image/avif,image/webp,image/apng,*/*;q=0.8", true),
            ("Image/WebP", true),
            ("image/png, image/webp;q=0.5", true),
            ("image/webp;q=0", false),
            ("image/webp; q=0.0", false),
            ("*/*", false),
            ("image/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            let expected = if webp { Format::Webp } else { Format::Plain };
            assert_eq!(format(&headers), expected, "{accept}");
        }
        assert_eq!(format(&HeaderMap::new()), Format::Plain);
    }

    #[test]
    fn sizes_have_bounds() {
        let headers = HeaderMap::new();
        let size = |width, height| {
            let wanted = wanted((width, height), None, None, &headers);
            wanted.map(|wanted| (wanted.width, wanted.height))
        };
        assert_eq!(size(uint!(1), uint!(4_000)), Ok((1, 4_000)));
        assert_eq!(size(UInt::MAX, uint!(32)), Ok((LARGEST, 32)));
        assert!(size(uint!(0), uint!(32)).is_err());
        assert!(size(uint!(32), uint!(0)).is_err());
        let odd = wanted(
            (uint!(1), uint!(1)),
            Some(&Asked::from("stretch")),
            None,
            &headers,
        );
        assert!(odd.is_err());
    }
}
