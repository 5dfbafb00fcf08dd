//! Who is it: logging in, access tokens, and proving it again.

pub(crate) mod acting;
pub(crate) mod by_password;
pub(crate) mod get_token;
pub(crate) mod jwt;
pub(crate) mod login;
pub(crate) mod login_token;
pub(crate) mod logout;
pub(crate) mod password;
pub(crate) mod phone;
pub(crate) mod refresh;
pub(crate) mod reset;
pub(crate) mod session;
pub(crate) mod shadow;
pub(crate) mod slots;
pub(crate) mod standing;
pub(crate) mod token;
pub(crate) mod uia;
pub(crate) mod validated;
