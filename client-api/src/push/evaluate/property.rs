//! Properties of events by dot-separated path (appendices, "Dot-separated property paths").

use rhizome_protocol::Pdu;
use ruma::push::ScalarJsonValue;
use serde_json::Value;

use crate::view::filter::split_path;

/// The path of a property.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path(Box<[Box<str>]>);

/// What stands at a path.
#[derive(Debug, Clone, Copy)]
pub enum Property<'a> {
    /// A string beside the content.
    Text(&'a str),
    /// A number beside the content.
    Number(i64),
    /// Something in the content.
    Json(&'a Value),
}

/// What a property is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A string.
    Text(Box<str>),
}

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Self {
        let path = split_path(text).into_iter();
        Self(path.map(String::into_boxed_str).collect())
    }

    /// Whether it is `content.body`, in which patterns are looked for word by word.
    pub fn is_body(&self) -> bool {
        self.0.iter().map(|name| &**name).eq(["content", "body"])
    }

    /// What stands there, of what clients are shown of an event.
    pub fn of<'a>(&self, event: &'a Pdu) -> Option<Property<'a>> {
        let (first, rest) = self.0.split_first()?;
        if &**first == "content" {
            let (name, rest) = rest.split_first()?;
            let mut at = event.content_field(name)?;
            for name in rest {
                at = at.as_object()?.get(&**name)?;
            }
            return Some(Property::Json(at));
        }
        if !rest.is_empty() {
            return None;
        }
        Some(match &**first {
            "type" => Property::Text(event.kind()),
            "sender" => Property::Text(event.sender().as_str()),
            "state_key" => Property::Text(event.state_key()?),
            "room_id" => Property::Text(event.room_id().as_str()),
            "event_id" => Property::Text(event.event_id().as_str()),
            "redacts" => Property::Text(event.redacts()?.as_str()),
            "origin_server_ts" => Property::Number(event.origin_server_ts()),
            _ => return None,
        })
    }
}

impl<'a> Property<'a> {
    /// The string, if it is one.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) => None,
            Self::Json(value) => value.as_str(),
        }
    }

    /// The array, if it is one.
    pub fn list(self) -> Option<&'a [Value]> {
        match self {
            Self::Json(Value::Array(list)) => Some(list),
            _ => None,
        }
    }

    /// Whether it is exactly that.
    pub fn is(self, scalar: &Scalar) -> bool {
        match self {
            Self::Text(text) => matches!(scalar, Scalar::Text(wanted) if **wanted == *text),
            Self::Number(number) => *scalar == Scalar::Int(number),
            Self::Json(value) => scalar.is(value),
        }
    }
}

impl Scalar {
    /// Whether a value is exactly this.
    pub fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(wanted), Value::Bool(found)) => wanted == found,
            (Self::Int(wanted), Value::Number(found)) => found.as_i64() == Some(*wanted),
            (Self::Text(wanted), Value::String(found)) => **wanted == **found,
            _ => false,
        }
    }
}

impl From<&ScalarJsonValue> for Scalar {
    fn from(value: &ScalarJsonValue) -> Self {
        match value {
            ScalarJsonValue::Null => Self::Null,
            ScalarJsonValue::Bool(value) => Self::Bool(*value),
            ScalarJsonValue::Integer(value) => Self::Int((*value).into()),
            ScalarJsonValue::String(value) => Self::Text(value.as_str().into()),
        }
    }
}
