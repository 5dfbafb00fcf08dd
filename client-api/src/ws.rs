//! The WebSocket stream.
