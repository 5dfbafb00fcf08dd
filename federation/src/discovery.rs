//! From a server name to where its federation API listens.
