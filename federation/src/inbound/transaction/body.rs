//! A transaction's body, taken apart only as far as one may have so many parts.

use std::{fmt, marker::PhantomData};

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, api::federation::transactions::edu::Edu,
    serde::Raw,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::MatrixError;

/// The most events of one transaction.
const MAX_PDUS: usize = 50;
/// The most ephemeral data units of one transaction.
const MAX_EDUS: usize = 100;

/// <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid>
#[derive(Deserialize)]
pub(super) struct Body {
    /// Who has sent it, its signature says.
    #[serde(rename = "origin")]
    _origin: OwnedServerName,
    #[serde(rename = "origin_server_ts")]
    _origin_server_ts: MilliSecondsSinceUnixEpoch,
    pdus: Few<Box<RawValue>, MAX_PDUS>,
    #[serde(default)]
    edus: Few<Raw<Edu>, MAX_EDUS>,
}

impl Body {
    /// # Errors
    /// 400: it isn't a transaction, or has too many parts; then the rest of it isn't read.
    pub(super) fn read(text: &[u8]) -> Result<Self, MatrixError> {
        serde_json::from_slice(text).map_err(|error| MatrixError::of_json(&error))
    }

    /// PDUs and EDUs, as they came.
    pub(super) fn into_parts(self) -> (Vec<Box<RawValue>>, Vec<Raw<Edu>>) {
        (self.pdus.0, self.edus.0)
    }
}

/// A list of at most so many.
struct Few<T, const MOST: usize>(Vec<T>);

impl<T, const MOST: usize> Default for Few<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: DeserializeOwned, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Reading(PhantomData))
    }
}

struct Reading<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: DeserializeOwned, const MOST: usize> Visitor<'de> for Reading<T, MOST> {
    type Value = Few<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut few = Vec::new();
        while let Some(one) = list.next_element()? {
            if few.len() == MOST {
                let message =
                    format!("A transaction has at most {MAX_PDUS} PDUs and {MAX_EDUS} EDUs");
                return Err(A::Error::custom(message));
            }
            few.push(one);
        }
        Ok(Few(few))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pdus: &str, edus: &str) -> String {
        format!("{{\"origin\":\"a.example\",\"origin_server_ts\":1,\"pdus\":[{pdus}]{edus}}}")
    }

    fn many(count: usize) -> String {
        vec!["{\"a\":1}"; count].join(",")
    }

    #[test]
    fn as_many_parts_as_there_may_be_are_read() {
        let edus = format!(",\"edus\":[{}]", many(100));
        let body = Body::read(text(&many(50), &edus).as_bytes()).unwrap();
        let (pdus, edus) = body.into_parts();
        assert_eq!((pdus.len(), edus.len()), (50, 100));
        assert_eq!(pdus[49].get(), "{\"a\":1}");
        let body = Body::read(text("", "").as_bytes()).unwrap();
        let (pdus, edus) = body.into_parts();
        assert!(pdus.is_empty() && edus.is_empty());
    }

    /// What comes after one too many isn't even looked at.
    #[test]
    fn one_part_too_many_ends_it() {
        let edus = format!(",\"edus\":[{}]", many(101));
        let unfinished = format!("{},{{\"broken", many(50));
        let broken_after = format!("{},3 no json", many(50));
        for text in [
            text(&many(51), ""),
            text("", &edus),
            text(&broken_after, ""),
        ] {
            let refused = Body::read(text.as_bytes()).err().unwrap();
            assert_eq!(refused.errcode, "M_BAD_JSON", "{}", refused.message);
            assert!(refused.message.contains("at most 50 PDUs"));
        }
        let refused = Body::read(text(&unfinished, "").as_bytes()).err().unwrap();
        assert_eq!(refused.errcode, "M_NOT_JSON");
        for odd in [
            "{}",
            "[]",
            "{\"origin\":\"a.example\",\"origin_server_ts\":1}",
        ] {
            assert!(Body::read(odd.as_bytes()).is_err(), "{odd}");
        }
    }
}
