//! JSON schemas: the part of them that the specification's files use.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    sync::OnceLock,
};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// What a value must be. A keyword that isn't here fails the reading of the data.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Schema {
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Kinds>,
    #[serde(rename = "enum")]
    one_of_these: Option<Vec<Value>>,
    pattern: Option<Pattern>,
    required: Vec<String>,
    properties: BTreeMap<String, Schema>,
    pattern_properties: BTreeMap<String, Schema>,
    #[serde(skip)]
    patterns: OnceLock<Vec<Regex>>,
    additional_properties: Option<Box<Schema>>,
    min_properties: Option<usize>,
    max_properties: Option<usize>,
    items: Option<Box<Schema>>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
}

/// Schemas by the names that others refer to.
pub type Definitions = BTreeMap<String, Schema>;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Kinds {
    One(Kind),
    Some(Vec<Kind>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Pattern {
    text: String,
    #[serde(skip)]
    regex: OnceLock<Regex>,
}

impl Pattern {
    fn regex(&self) -> &Regex {
        self.regex.get_or_init(|| regex(&self.text))
    }
}

fn regex(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("the specification's pattern {text}: {error}"))
}

/// Where in a JSON document something is. Its text is a JSON pointer.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    Whole,
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Key(above, key) => {
                write!(f, "{above}/{}", key.replace('~', "~0").replace('/', "~1"))
            }
            Self::Index(above, index) => write!(f, "{above}/{index}"),
        }
    }
}

/// What is wrong, and where in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: String,
    pub what: String,
}

impl Schema {
    /// What of `value` isn't as this schema wants it.
    pub fn faults(&self, value: &Value, definitions: &Definitions) -> Vec<Fault> {
        self.faults_at(Place::Whole, value, definitions)
    }

    fn faults_at(&self, place: Place<'_>, value: &Value, definitions: &Definitions) -> Vec<Fault> {
        let mut judge = Judge {
            definitions,
            faults: Vec::new(),
        };
        judge.schema(self, value, place);
        judge.faults
    }

    /// Whether this says itself that a value is of this kind.
    fn is_of(&self, kind: Kind) -> bool {
        match &self.kind {
            Some(Kinds::One(one)) => *one == kind,
            Some(Kinds::Some(some)) => some.contains(&kind),
            None => false,
        }
    }

    /// The value that a parameter's text stands for; a text that is none stays a string.
    pub fn value_of(&self, text: &str) -> Value {
        let read = if self.is_of(Kind::Integer) || self.is_of(Kind::Number) {
            text.parse::<f64>()
                .ok()
                .and_then(|_| serde_json::from_str(text).ok())
        } else if self.is_of(Kind::Boolean) {
            text.parse().ok().map(Value::Bool)
        } else {
            None
        };
        read.unwrap_or_else(|| Value::from(text))
    }

    /// Whether a parameter may come several times.
    pub fn is_list(&self) -> bool {
        self.is_of(Kind::Array)
    }

    /// Of a list's elements.
    pub fn items(&self) -> Option<&Schema> {
        self.items.as_deref()
    }
}

struct Judge<'a> {
    definitions: &'a Definitions,
    faults: Vec<Fault>,
}

impl Judge<'_> {
    fn fault(&mut self, place: Place<'_>, what: impl Display) {
        self.faults.push(Fault {
            place: place.to_string(),
            what: what.to_string(),
        });
    }

    fn schema(&mut self, schema: &Schema, value: &Value, place: Place<'_>) {
        if let Some(name) = &schema.reference {
            let definition = &self.definitions[name];
            self.schema(definition, value, place);
        }
        if let Some(kinds) = &schema.kind {
            let kinds = match kinds {
                Kinds::One(kind) => std::slice::from_ref(kind),
                Kinds::Some(kinds) => kinds,
            };
            if !kinds.iter().any(|kind| kind.has(value)) {
                self.fault(place, format_args!("is {}, not {kinds:?}", short(value)));
                return;
            }
        }
        if let Some(these) = &schema.one_of_these
            && !these.contains(value)
        {
            let these = Value::from(these.clone());
            self.fault(place, format_args!("is {}, none of {these}", short(value)));
        }
        for part in &schema.all_of {
            self.schema(part, value, place);
        }
        self.choice(&schema.any_of, value, place, usize::MAX);
        self.choice(&schema.one_of, value, place, 1);
        match value {
            Value::String(text) => self.string(schema, text, place),
            Value::Array(list) => self.array(schema, list, place),
            Value::Object(map) => self.object(schema, map, place),
            _ => {}
        }
    }

    /// At least one of `forms` must fit, and at most `most`.
    fn choice(&mut self, forms: &[Schema], value: &Value, place: Place<'_>, most: usize) {
        if forms.is_empty() {
            return;
        }
        let tried = forms
            .iter()
            .map(|form| form.faults_at(place, value, self.definitions));
        let mut failed: Vec<_> = tried.filter(|faults| !faults.is_empty()).collect();
        let fitting = forms.len() - failed.len();
        if fitting > most {
            let what = format_args!("fits {fitting} forms of which one is allowed");
            self.fault(place, what);
        } else if fitting == 0 {
            // A form that doesn't even want such a value wasn't meant.
            let here = place.to_string();
            failed.retain(|faults| faults.iter().all(|fault| fault.place != here));
            match (failed.pop(), failed.is_empty()) {
                (Some(faults), true) => self.faults.extend(faults),
                _ => self.fault(place, "fits none of its forms"),
            }
        }
    }

    fn string(&mut self, schema: &Schema, text: &str, place: Place<'_>) {
        if let Some(pattern) = &schema.pattern
            && !pattern.regex().is_match(text)
        {
            self.fault(
                place,
                format_args!("is {text:?}, not like {}", pattern.text),
            );
        }
    }

    fn array(&mut self, schema: &Schema, list: &[Value], place: Place<'_>) {
        self.count(list.len(), schema.min_items, schema.max_items, place);
        if let Some(items) = &schema.items {
            for (index, value) in list.iter().enumerate() {
                self.schema(items, value, Place::Index(&place, index));
            }
        }
    }

    fn object(&mut self, schema: &Schema, map: &serde_json::Map<String, Value>, place: Place<'_>) {
        self.count(
            map.len(),
            schema.min_properties,
            schema.max_properties,
            place,
        );
        for key in &schema.required {
            if !map.contains_key(key) {
                self.fault(Place::Key(&place, key), "is missing");
            }
        }
        let names = schema.pattern_properties.keys();
        let patterns = schema
            .patterns
            .get_or_init(|| names.map(|name| regex(name)).collect());
        for (key, value) in map {
            let place = Place::Key(&place, key);
            let mut named = false;
            if let Some(property) = schema.properties.get(key) {
                named = true;
                self.schema(property, value, place);
            }
            for (pattern, property) in patterns.iter().zip(schema.pattern_properties.values()) {
                if pattern.is_match(key) {
                    named = true;
                    self.schema(property, value, place);
                }
            }
            if !named && let Some(others) = &schema.additional_properties {
                self.schema(others, value, place);
            }
        }
    }

    fn count(&mut self, has: usize, least: Option<usize>, most: Option<usize>, place: Place<'_>) {
        if has < least.unwrap_or(0) || has > most.unwrap_or(usize::MAX) {
            self.fault(place, format_args!("has {has} entries"));
        }
    }
}

impl Kind {
    fn has(self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// A value as a message can hold it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
