//! What the server can do: versions, well-known, capabilities.
