//! Accounts, their devices, and what they keep for their users.

pub(crate) mod admin_register;
mod by_service;
pub mod carried;
pub(crate) mod contact;
pub(crate) mod data;
pub(crate) mod data_delete;
pub(crate) mod deactivate;
pub(crate) mod devices;
pub(crate) mod fallback;
pub(crate) mod filters;
pub mod guests;
pub(crate) mod management;
pub(crate) mod moderation;
pub(crate) mod newcomers;
pub(crate) mod openid;
pub(crate) mod presence;
pub mod profile;
pub(crate) mod register;
mod registering;
pub(crate) mod tags;
mod upgrading;
pub mod users;
