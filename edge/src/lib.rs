//! The front door of both APIs: everything between HTTP and a handler that doesn't depend on the endpoint.
//!
//! An API ([`Api`]) is a state that can tell who makes a request and how much may be asked. Its endpoints stand
//! in a [`Table`], one line each: method, paths, authentication scheme and decoding follow from the type of the
//! request that the handler takes ([`Ruma`]), and the kind of limit stands beside it. A request passes through
//! these stages, each of which may answer it with a [`MatrixError`]:
//!
//! 1. the table finds the endpoint (404, 405, CORS);
//! 2. [`Api::admit`] judges the head alone: tokens, limits, budgets;
//! 3. the body is read within its bound, or handed over as a stream ([`Streamed`]);
//! 4. [`Api::identify`] says who it is, if that takes the body, as signatures do, and [`Api::hold`] how many they may have
//!    under way;
//! 5. the request is decoded and the handler runs; one that isn't a GET is finished although its client hangs up;
//! 6. what the handler returns is a [`Reply`]: a response of ruma, [`RawJson`] or [`Content`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod api;
mod body;
mod cors;
mod dispatch;
mod endpoint;
mod error;
mod finish;
pub mod limits;
mod patient;
mod places;
mod reply;
mod request;
mod reservation;
mod table;
mod who;

pub use crate::{
    api::{Api, Asked, Held},
    body::{CutShort, Upload},
    error::MatrixError,
    finish::ToTheEnd,
    places::{Place, Places},
    reply::{Content, RawJson, Reply},
    request::{Binary, Body, BodyForm, Decode, Head, Payload, Ruma, Streamed, Undecoded},
    reservation::{Bodies, Reservation},
    table::Table,
    who::{Acting, AdministratorToken, Caller, Identity, Proof, Scheme, Service, Shown},
};
