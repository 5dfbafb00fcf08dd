//! Join, invite, leave, kick, ban, unban, forget.
