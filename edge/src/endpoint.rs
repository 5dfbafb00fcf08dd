//! An endpoint as the table has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};

use http::Method;

use crate::{Api, BodyForm, Proof, finish::Answering, request::Admitted};

pub(crate) struct Endpoint<S: Api> {
    pub(crate) proof: Proof,
    pub(crate) kind: S::Kind,
    pub(crate) form: BodyForm,
    /// Whether it ends with its client: it only reads, though it isn't a GET.
    pub(crate) is_poll: bool,
    /// Whether guests may use it.
    pub(crate) guests: AtomicBool,
    /// Whether who is suspended may use it.
    pub(crate) suspended: AtomicBool,
    /// Whether who is locked out may use it.
    pub(crate) locked: AtomicBool,
    pub(crate) run: Box<dyn Fn(S, Admitted) -> Answering + Send + Sync>,
}

/// The endpoints of one path.
pub(crate) type Methods<S> = BTreeMap<&'static str, Arc<Endpoint<S>>>;

/// Methods are told apart by name; a HEAD is a GET whose body nobody sends.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "?",
    }
}
