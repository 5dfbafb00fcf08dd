//! Finding people by their names (client-server API, "User Directory").
//!
//! A reader of the log ([`FillPeople`]) keeps what everybody is called: users of this server by their profile, others by
//! what they are called in rooms, each name once, with the words by which it is found. A name is told to whom it may be:
//! to everybody if its bearer is joined by it to a room that anybody may look into, else to who is in such a room with
//! them. So a name that is only used in a private room is found by its members alone, and by nobody else's search.
//! Everything is made of what is so now, never of what the log says, and may be made twice.

mod fill;
mod find;
mod found;
mod mutual;
mod plan;
mod reader;
mod touched;
mod words;
mod write;

pub use self::found::{FoundPeople, PeopleScope, Person};
pub(crate) use self::reader::PeopleReader;
pub use self::reader::{FillPeople, PEOPLE_READER};
pub use self::words::{PeopleQuery, TooLong};
