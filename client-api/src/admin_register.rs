//! Registration with the shared secret.
