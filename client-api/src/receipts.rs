//! Read receipts.
