//! The one door for local events: gathers what others must give, then sends.
