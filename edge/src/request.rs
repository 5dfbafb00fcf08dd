//! What a handler gets: a decoded request, and who makes it.
//!
//! Most requests are of types of ruma. Where ruma has none, a marker with `ruma::metadata!` says method, paths and
//! scheme; where its type doesn't serve, it is the marker itself. [`Body`], [`Undecoded`], [`Binary`] and
//! [`Streamed`] say what becomes of the body.

use std::{marker::PhantomData, net::IpAddr};

use bytes::Bytes;
use ruma::api::{
    IncomingRequest, IncomingRequestExt as _, Metadata,
    error::{DeserializationError, FromHttpRequestError},
};
use serde::de::DeserializeOwned;

use crate::{Identity, MatrixError, Scheme, Upload};

/// In which form an endpoint takes a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// Whole, as text.
    Json,
    /// Whole, as it is.
    Bytes,
    /// Piece by piece.
    Stream,
}

/// A request without its body.
#[derive(Debug)]
pub struct Head {
    /// Method, address and headers.
    pub parts: http::request::Parts,
    /// The variable parts of the path, percent-decoded.
    pub path: Vec<String>,
}

/// A request's body.
#[derive(Debug)]
pub enum Payload {
    /// All of it.
    Whole(Bytes),
    /// What is still to come.
    Stream(Upload),
}

/// A request that an endpoint can take.
pub trait Decode: Metadata + Sized {
    /// What it wants of the body.
    const FORM: BodyForm = BodyForm::Json;

    /// Takes it apart.
    ///
    /// # Errors
    /// 400: what is wrong with it.
    fn decode(head: Head, body: &mut Payload) -> Result<Self, MatrixError>;
}

impl<T: IncomingRequest> Decode for T {
    fn decode(Head { parts, path }: Head, body: &mut Payload) -> Result<Self, MatrixError> {
        let body: &[u8] = match body {
            Payload::Whole(body) => body,
            Payload::Stream(_) => &[],
        };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        T::try_from_http_request(http::Request::from_parts(parts, body), &path)
            .map_err(|error| bad_request(&error))
    }
}

/// A decoded request. The type of `who` follows from the request's authentication scheme.
pub struct Ruma<T>
where
    T: Metadata,
    T::Authentication: Scheme,
{
    /// Who makes the request.
    pub who: <T::Authentication as Scheme>::Who,
    /// The request.
    pub req: T,
    /// The body as it came; nothing of one that is streamed.
    pub body: Bytes,
    /// Where the request came from; `None` within one process.
    pub peer: Option<IpAddr>,
}

/// A request that has been admitted, read and identified, but not decoded.
pub(crate) struct Admitted {
    pub(crate) head: Head,
    pub(crate) body: Payload,
    pub(crate) identity: Identity,
    pub(crate) peer: Option<IpAddr>,
}

impl<T> Ruma<T>
where
    T: Decode,
    T::Authentication: Scheme,
{
    pub(crate) fn decode(admitted: Admitted) -> Result<Self, MatrixError> {
        let who = T::Authentication::who(admitted.identity)?;
        let mut body = admitted.body;
        if let Payload::Whole(body) = &mut body
            && T::FORM == BodyForm::Json
        {
            if body.is_empty() && admitted.head.parts.method == http::Method::POST {
                // Clients leave out a body in which everything is optional.
                *body = Bytes::from_static(b"{}");
            }
            if std::str::from_utf8(body).is_err() {
                return Err(MatrixError::not_json("The request's body is not UTF-8"));
            }
        }
        let req = T::decode(admitted.head, &mut body)?;
        let body = match body {
            Payload::Whole(body) => body,
            Payload::Stream(_) => Bytes::new(),
        };
        Ok(Self {
            who,
            req,
            body,
            peer: admitted.peer,
        })
    }
}

/// The endpoint of `T` with a body (a JSON object; nothing counts as `{}`) of type `B`. Path and
/// query are not decoded.
pub struct Body<T, B> {
    /// The decoded body.
    pub body: B,
    endpoint: PhantomData<fn() -> T>,
}

/// The endpoint of `T`, undecoded: for the hot endpoints, whose body is parsed once, by ourselves.
pub struct Undecoded<T> {
    /// The variable parts of the path, percent-decoded. There are as many as `T`'s path has, but for
    /// an absent state key.
    pub path: Vec<String>,
    /// The query.
    pub query: Option<String>,
    endpoint: PhantomData<fn() -> T>,
}

/// The endpoint of `T` with a body that is no JSON, whole: it is [`Ruma::body`].
pub struct Binary<T> {
    /// Method, address, headers and the variable parts of the path.
    pub head: Head,
    endpoint: PhantomData<fn() -> T>,
}

/// The endpoint of `T` with a body of any type that is read piece by piece.
pub struct Streamed<T> {
    /// Method, address, headers and the variable parts of the path.
    pub head: Head,
    /// The body.
    pub upload: Upload,
    endpoint: PhantomData<fn() -> T>,
}

macro_rules! metadata_of_first {
    ($($type:ident<T $(, $more:ident)?>)*) => { $(
        impl<T: Metadata $(, $more)?> Metadata for $type<T $(, $more)?> {
            const METHOD: http::Method = T::METHOD;
            const RATE_LIMITED: bool = T::RATE_LIMITED;
            type Authentication = T::Authentication;
            type PathBuilder = T::PathBuilder;
            const PATH_BUILDER: Self::PathBuilder = T::PATH_BUILDER;
        }
    )* };
}

metadata_of_first! { Body<T, B> Undecoded<T> Binary<T> Streamed<T> }

impl<T: Metadata, B: DeserializeOwned> Decode for Body<T, B> {
    fn decode(_: Head, body: &mut Payload) -> Result<Self, MatrixError> {
        let bytes: &[u8] = match body {
            Payload::Whole(body) if !body.is_empty() => body,
            _ => b"{}",
        };
        let body = serde_json::from_slice(bytes);
        Ok(Self {
            body: body.map_err(|error| MatrixError::of_json(&error))?,
            endpoint: PhantomData,
        })
    }
}

impl<T: Metadata> Decode for Undecoded<T> {
    fn decode(head: Head, _: &mut Payload) -> Result<Self, MatrixError> {
        Ok(Self {
            query: head.parts.uri.query().map(str::to_owned),
            path: head.path,
            endpoint: PhantomData,
        })
    }
}

impl<T: Metadata> Decode for Binary<T> {
    const FORM: BodyForm = BodyForm::Bytes;

    fn decode(head: Head, _: &mut Payload) -> Result<Self, MatrixError> {
        Ok(Self {
            head,
            endpoint: PhantomData,
        })
    }
}

impl<T: Metadata> Decode for Streamed<T> {
    const FORM: BodyForm = BodyForm::Stream;

    fn decode(head: Head, body: &mut Payload) -> Result<Self, MatrixError> {
        match std::mem::replace(body, Payload::Whole(Bytes::new())) {
            Payload::Stream(upload) => Ok(Self {
                head,
                upload,
                endpoint: PhantomData,
            }),
            // The table hands over what FORM asks for.
            Payload::Whole(_) => Err(MatrixError::internal()),
        }
    }
}

impl<T> Undecoded<T> {
    /// The part of the path with this index; empty if it is absent.
    pub fn part(&self, index: usize) -> &str {
        self.path.get(index).map_or("", String::as_str)
    }
}

impl<T: IncomingRequest> Undecoded<T> {
    /// Decodes a request that has no body.
    pub fn decode(&self) -> Result<T, MatrixError> {
        let query = self.query.as_deref().unwrap_or_default();
        let request = http::Request::builder()
            .method(T::METHOD)
            .uri(format!("/?{query}"))
            .body(&[][..])
            .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        T::try_from_http_request(request, &path).map_err(|error| bad_request(&error))
    }
}

/// Says what is wrong with a request that couldn't be decoded.
fn bad_request(error: &FromHttpRequestError) -> MatrixError {
    let error = match error {
        FromHttpRequestError::Deserialization(error) => error,
        FromHttpRequestError::MethodMismatch { .. } => return MatrixError::method_not_allowed(),
        other => return MatrixError::bad_json(other.to_string()),
    };
    match error {
        DeserializationError::Utf8(error) => MatrixError::not_json(error.to_string()),
        DeserializationError::Json(error) => MatrixError::of_json(error),
        DeserializationError::Query(error) if error.to_string().contains("missing field") => {
            MatrixError::missing_param(error.to_string())
        }
        DeserializationError::Query(_)
        | DeserializationError::Ident(_)
        | DeserializationError::Header(_) => MatrixError::invalid_param(error.to_string()),
        other => MatrixError::bad_json(other.to_string()),
    }
}
