//! The database, the commit queue and the log
