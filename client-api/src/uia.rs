//! User-interactive authentication.
