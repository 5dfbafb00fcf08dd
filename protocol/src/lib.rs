//! The Matrix room model as pure functions: events, hashes, signatures, auth rules, state resolution
