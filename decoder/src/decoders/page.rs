//! Web pages.

use super::{Decoders, Error, check, talk::Hold};
use crate::page::{MOST, Page};
use crate::wire::{Answer, Task};

/// Of what a server says of a page, so much is passed on.
const CONTENT_TYPE: usize = 255;

impl Decoders {
    /// What a web page says of itself. Of the page, [`MOST`] bytes are looked at.
    pub async fn page(&self, page: &[u8], content_type: Option<&str>) -> Result<Page, Error> {
        let said = content_type.and_then(|said| said.get(..said.floor_char_boundary(CONTENT_TYPE)));
        let task = Task::Page {
            content_type: said.map(ToOwned::to_owned),
        };
        let page = page.get(..MOST).unwrap_or(page);
        let mut nothing = Hold::new(0);
        let (answer, _) = self.ask(task, page, &mut nothing).await?;
        match answer {
            Answer::Page(page) if page.clone().bounded() == *page => Ok(*page),
            _ => Err(check::nonsense()),
        }
    }
}
