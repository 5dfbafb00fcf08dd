//! How much is told: what a pusher wants, and of that what fits.

use crate::error::BuildError;
use crate::notification::{Device, Event};

/// How much of an event is told, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// As [`Self::EventIdOnly`], without what the pusher and its push rules add.
    Bare,
    /// Ids, counts and priority: the format `event_id_only`.
    EventIdOnly,
    /// All but what the event says.
    WithoutContent,
    /// All that the pusher wants.
    Full,
}

impl Detail {
    /// The next that is less.
    pub fn less(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::WithoutContent),
            Self::WithoutContent => Some(Self::EventIdOnly),
            Self::EventIdOnly => Some(Self::Bare),
            Self::Bare => None,
        }
    }

    /// What a pusher wants at most. Without a `format` that is all; one that isn't known asks for less, surely.
    pub(crate) fn wanted(device: &Device) -> Self {
        match device.data.get("format") {
            None | Some(serde_json::Value::Null) => Self::Full,
            Some(_) => Self::EventIdOnly,
        }
    }

    /// The same where nothing of an encrypted event may go out.
    pub(crate) fn private(device: &Device, event: Option<&Event>) -> Self {
        if event.is_some_and(Event::is_encrypted) {
            return Self::EventIdOnly;
        }
        Self::wanted(device)
    }
}

/// The most detailed body that has no more than `most` bytes.
pub(crate) fn fit(
    wanted: Detail,
    most: usize,
    body: impl Fn(Detail) -> serde_json::Result<Vec<u8>>,
) -> Result<(Detail, Vec<u8>), BuildError> {
    let mut detail = wanted;
    loop {
        let bytes = body(detail).map_err(|_| BuildError::Unwritable)?;
        if bytes.len() <= most {
            return Ok((detail, bytes));
        }
        detail = detail.less().ok_or(BuildError::TooLarge)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_loses_its_details_one_by_one() {
        let size = |detail| match detail {
            Detail::Full => 100,
            Detail::WithoutContent => 50,
            Detail::EventIdOnly => 20,
            Detail::Bare => 10,
        };
        let fits = |wanted, most| {
            let fitted = fit(wanted, most, |detail| Ok(vec![b' '; size(detail)]));
            fitted.map(|(detail, body)| (detail, body.len()))
        };
        assert_eq!(fits(Detail::Full, 100).unwrap(), (Detail::Full, 100));
        assert_eq!(
            fits(Detail::Full, 99).unwrap(),
            (Detail::WithoutContent, 50)
        );
        assert_eq!(
            fits(Detail::EventIdOnly, 99).unwrap(),
            (Detail::EventIdOnly, 20)
        );
        assert_eq!(fits(Detail::Full, 10).unwrap(), (Detail::Bare, 10));
        assert!(matches!(fits(Detail::Full, 9), Err(BuildError::TooLarge)));
    }
}
