//! Searching for words in what was said (client-server API, "Server Side Search").
//!
//! The database keeps an index of words, which are ours ([`words`]): each message, name and topic is a document by its
//! place in the log or the history ([`StoredEvent::order`](crate::StoredEvent::order)), with the words that it has now.
//! A reader of the log fills it ([`FillSearch`]) and [`index_history`] what other servers gave us of the time before. What
//! the index finds, and what isn't in it yet, is held against what messages say ([`SearchQuery::find`]): that decides,
//! how well they have it is from there, and both databases say the same. Who may see what was found is for others to say.

mod find;
mod index;
mod places;
mod query;
mod reader;
mod said;
pub(crate) mod words;

pub use self::find::{Hit, Hits};
pub use self::places::{Place, SearchScope};
pub use self::query::{Match, SearchQuery, TooMuch};
pub use self::reader::{FillSearch, index_history};
pub use self::said::Part;
