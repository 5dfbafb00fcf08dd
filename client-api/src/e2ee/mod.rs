//! What clients need for end-to-end encryption.

pub mod send_to_device;
