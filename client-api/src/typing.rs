//! Typing notifications.
