//! The account: whoami, password, deactivation.
