//! What tools for administrators ask, read strictly: parameters of queries, pages of lists, bodies.

use rhizome_edge::{MatrixError, Undecoded};
use rhizome_storage::{Task, TaskState};
use serde::de::DeserializeOwned;

use crate::content::pairs;

/// The elements of a page, if nothing is said of it.
const USUAL: usize = 100;
/// The most elements of a page: who wants more asks for the next one.
const MOST: usize = 1_000;

/// The parameters of a query.
pub struct Asked(Vec<(String, String)>);

impl Asked {
    /// Of this request.
    pub fn of<T>(req: &Undecoded<T>) -> Self {
        Self(pairs(req.query.as_deref().unwrap_or_default()))
    }

    /// The first of this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The same that must say something if it is there.
    pub fn words(&self, name: &str) -> Result<Option<&str>, MatrixError> {
        match self.text(name) {
            Some("") => Err(MatrixError::invalid_param(format!("{name} is empty"))),
            text => Ok(text),
        }
    }

    /// A number that isn't negative.
    pub fn number(&self, name: &str) -> Result<Option<i64>, MatrixError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse().ok().filter(|number| *number >= 0);
        number.map(Some).ok_or_else(|| {
            MatrixError::invalid_param(format!("{name} must be a number, 0 or more"))
        })
    }

    /// The same, where there has to be one.
    pub fn some_number(&self, name: &str) -> Result<i64, MatrixError> {
        let number = self.number(name)?;
        number.ok_or_else(|| MatrixError::missing_param(format!("{name} is missing")))
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, MatrixError> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(MatrixError::invalid_param(format!(
                "{name} is true or false"
            ))),
        }
    }

    /// Whether a list is to begin with its end (`dir`), if that is said.
    pub fn backwards(&self) -> Result<Option<bool>, MatrixError> {
        match self.text("dir") {
            None => Ok(None),
            Some("f") => Ok(Some(false)),
            Some("b") => Ok(Some(true)),
            Some(_) => Err(MatrixError::invalid_param("dir is f or b")),
        }
    }

    /// By what a list is put in order (`order_by`), of what `named` knows; `usual` if nothing is said.
    pub fn order<O>(&self, usual: O, named: impl Fn(&str) -> Option<O>) -> Result<O, MatrixError> {
        let Some(name) = self.text("order_by") else {
            return Ok(usual);
        };
        named(name).ok_or_else(|| MatrixError::invalid_param("The list has no such order_by"))
    }

    /// Which page of a list.
    pub fn page(&self) -> Result<Page, MatrixError> {
        self.page_of(USUAL, MOST)
    }

    /// The same of a list whose readers know nothing of pages: as much as there may be.
    pub fn whole_page(&self) -> Result<Page, MatrixError> {
        self.page_of(MOST, MOST)
    }

    /// The same with so many elements, if nothing is said of it, and so many at most.
    pub fn page_of(&self, usual: usize, most: usize) -> Result<Page, MatrixError> {
        let size = |name: &str, usual: usize| {
            let number = self.number(name)?;
            Ok::<_, MatrixError>(number.map_or(usual, |n| usize::try_from(n).unwrap_or(usize::MAX)))
        };
        Ok(Page {
            from: size("from", 0)?,
            limit: size("limit", usual)?.min(most),
        })
    }
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many come before it.
    pub from: usize,
    /// How many it has at most.
    pub limit: usize,
}

impl Page {
    /// For statements.
    pub fn bounds(self) -> (usize, usize) {
        (self.from, self.limit)
    }

    /// Where the next one begins, if this one shows so many of so many.
    pub fn next(self, shown: usize, total: usize) -> Option<usize> {
        let end = self.from.saturating_add(shown);
        (shown > 0 && end < total).then_some(end)
    }

    /// The same for who has read one element more than the page has, which is cut off.
    pub fn cut<T>(self, read: &mut Vec<T>) -> Option<usize> {
        let total = self.from.saturating_add(read.len());
        read.truncate(self.limit);
        self.next(read.len(), total)
    }
}

/// What has become of a task, in the words of tools.
pub fn status(task: &Task) -> &'static str {
    match task.state {
        TaskState::Open if task.place.is_empty() => "scheduled",
        TaskState::Open => "active",
        TaskState::Done => "complete",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
    }
}

/// A body; nothing counts as an empty object.
pub fn body<B: DeserializeOwned>(bytes: &[u8]) -> Result<B, MatrixError> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| MatrixError::of_json(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Asked {
        Asked(pairs(query))
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let fine = asked("from=5&limit=7&dir=b&guests=false&name=%C3%A4%26");
        assert_eq!(fine.page().unwrap(), Page { from: 5, limit: 7 });
        assert_eq!(fine.backwards(), Ok(Some(true)));
        assert_eq!(fine.flag("guests"), Ok(Some(false)));
        assert_eq!(fine.text("name"), Some("ä&"));
        assert_eq!(asked("").page().unwrap().bounds(), (0, USUAL));
        assert_eq!(asked("limit=999999").page().unwrap().limit, MOST);
        for query in ["from=-1", "limit=x", "limit=", "from=1.5", "limit=1e3"] {
            assert_eq!(asked(query).page().unwrap_err().errcode, "M_INVALID_PARAM");
        }
        assert!(asked("dir=up").backwards().is_err());
        assert!(asked("a=1").flag("a").is_err());
        assert!(asked("a=").words("a").is_err());
        assert!(asked("").some_number("a").is_err());
        assert!(asked("order_by=x").order(1, |_| None).is_err());
        assert_eq!(asked("").order(1, |_| None), Ok(1));
    }

    #[test]
    fn a_list_ends() {
        let page = Page { from: 4, limit: 2 };
        assert_eq!(page.next(2, 7), Some(6));
        assert_eq!(page.next(2, 6), None);
        assert_eq!(page.next(0, 6), None);
        let (mut three, mut two) = (vec![1, 2, 3], vec![1, 2]);
        assert_eq!((page.cut(&mut three), three), (Some(6), vec![1, 2]));
        assert_eq!((page.cut(&mut two), two), (None, vec![1, 2]));
    }

    #[test]
    fn a_body_may_be_left_out() {
        assert_eq!(
            body::<serde_json::Value>(b"").unwrap(),
            serde_json::json!({})
        );
        let wrong = body::<Vec<u8>>(b"{}").unwrap_err();
        assert_eq!(wrong.errcode, "M_BAD_JSON");
        assert_eq!(body::<Vec<u8>>(b"[").unwrap_err().errcode, "M_NOT_JSON");
    }
}
