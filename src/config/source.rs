//! Where a setting came from: the file's text with its spans, and the environment over it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Config, ConfigError, ENV_PREFIX, Problem};

/// The parsed file. Empty when there is none.
pub(super) struct Source<'a> {
    name: &'a str,
    text: &'a str,
    table: DeTable<'a>,
}

impl<'a> Source<'a> {
    pub(super) fn parse(file: Option<(&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let (name, text) = file.unwrap_or(("", ""));
        match DeTable::parse(text) {
            Ok(table) => Ok(Self {
                name,
                text,
                table: table.into_inner(),
            }),
            Err(error) => Err(ConfigError::one(
                format!("{name}:{}", line(text, error.span())),
                format!("this is not valid TOML: {}", error.message()),
                "write `key = value` under a [section]; text needs quotes, lists square brackets",
            )),
        }
    }

    /// The settings, and the variable behind each path that the environment set.
    pub(super) fn read(
        &self,
        environment: &BTreeMap<String, String>,
    ) -> Result<(Config, BTreeMap<String, String>), ConfigError> {
        // The file alone first: only this deserialiser knows the spans.
        let config: Config = toml::from_str(self.text).map_err(|error| self.explain(&error))?;
        if environment.is_empty() {
            return Ok((config, BTreeMap::new()));
        }
        let mut table: Table = toml::from_str(self.text).map_err(|error| self.explain(&error))?;
        let mut from_env = BTreeMap::new();
        for (variable, text) in environment {
            let path: Vec<String> = variable
                .trim_start_matches(ENV_PREFIX)
                .split("__")
                .map(str::to_ascii_lowercase)
                .collect();
            let value = typed_value(variable, &path, text)?;
            set(&mut table, &path, value).map_err(|()| {
                ConfigError::one(
                    variable.clone(),
                    "this names a key inside something that is not a section",
                    "set the whole value, as TOML or JSON",
                )
            })?;
            from_env.insert(path.join("."), variable.clone());
        }
        let config = Config::deserialize(table).map_err(|error| {
            ConfigError(vec![problem_from_message(
                "the environment".to_owned(),
                error.message(),
            )])
        })?;
        Ok((config, from_env))
    }

    /// Where the key at `path` was set: `file:line: key`, a variable, or just the key.
    pub(super) fn place(&self, path: &str, from_env: &BTreeMap<String, String>) -> String {
        let mut ancestor = Some(path);
        while let Some(prefix) = ancestor {
            if let Some(variable) = from_env.get(prefix) {
                return format!("environment variable {variable}");
            }
            ancestor = prefix.rsplit_once('.').map(|(parent, _)| parent);
        }
        match self.span_of(path) {
            Some(span) => format!("{}:{}: {path}", self.name, line(self.text, Some(span))),
            None => path.to_owned(),
        }
    }

    /// The span of the deepest part of `path` that the file has.
    fn span_of(&self, path: &str) -> Option<Range<usize>> {
        let mut segments = path.split('.');
        let (key, value) = entry(&self.table, segments.next()?)?;
        let mut found = key;
        let mut value = value;
        for segment in segments {
            match value {
                DeValue::Table(table) => {
                    let Some((key, inner)) = entry(table, segment) else {
                        break;
                    };
                    (found, value) = (key, inner);
                }
                DeValue::Array(items) => {
                    let item = segment
                        .parse::<usize>()
                        .ok()
                        .and_then(|index| items.get(index));
                    let Some(item) = item else { break };
                    found = item.span();
                    value = item.get_ref();
                }
                _ => break,
            }
        }
        Some(found)
    }

    /// A deserialiser's error, with line, key and remedy.
    fn explain(&self, error: &toml::de::Error) -> ConfigError {
        let mut place = format!("{}:{}", self.name, line(self.text, error.span()));
        if let Some(path) = error.span().and_then(|span| key_at(&self.table, &span)) {
            place = format!("{place}: {path}");
        }
        ConfigError(vec![problem_from_message(place, error.message())])
    }
}

fn entry<'t>(table: &'t DeTable<'_>, name: &str) -> Option<(Range<usize>, &'t DeValue<'t>)> {
    table
        .iter()
        .find(|(key, _)| key.get_ref() == name)
        .map(|(key, value)| (key.span(), value.get_ref()))
}

/// The path of the innermost key whose value holds `span`.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref().to_string();
        let inner = inside(value, span).map(|path| format!("{name}.{path}"));
        inner.or_else(|| (holds(key.span()) || holds(value.span())).then_some(name))
    })
}

fn inside(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<String> {
    match value.get_ref() {
        DeValue::Table(table) => key_at(table, span),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            if let Some(path) = inside(item, span) {
                return Some(format!("{index}.{path}"));
            }
            (item.span().start <= span.start && span.end <= item.span().end)
                .then(|| index.to_string())
        }),
        _ => None,
    }
}

/// The line of a span, counted from 1.
fn line(text: &str, span: Option<Range<usize>>) -> usize {
    let offset = span.map_or(0, |span| span.start).min(text.len());
    text.get(..offset).unwrap_or_default().matches('\n').count() + 1
}

/// The value of a variable in the type that its key wants: text if that fits, else TOML, else JSON.
fn typed_value(variable: &str, path: &[String], text: &str) -> Result<Value, ConfigError> {
    let mut candidates = vec![Value::String(text.to_owned())];
    if let Ok(mut table) = toml::from_str::<Table>(&format!("value = {text}"))
        && let Some(value) = table.remove("value")
    {
        candidates.push(value);
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        candidates.push(value);
    }
    let mut first_error = None;
    let mut last_error = None;
    for value in candidates {
        let mut alone = Table::new();
        if set(&mut alone, path, value.clone()).is_err() {
            continue;
        }
        match Config::deserialize(alone) {
            Ok(_) => return Ok(value),
            // One key of a group whose other keys are in the file: judged when all is laid together.
            Err(error) if error.message().starts_with("missing field") && path.len() > 2 => {
                return Ok(value);
            }
            Err(error) => {
                first_error.get_or_insert_with(|| error.message().to_owned());
                last_error = Some(error.message().to_owned());
            }
        }
    }
    // Plain text that is no TOML value has only the first error; else the typed attempt says more.
    let message = last_error.or(first_error).unwrap_or_default();
    Err(ConfigError(vec![problem_from_message(
        format!("environment variable {variable}"),
        &message,
    )]))
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), ()> {
    match path {
        [] => Err(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let inner = table
                .entry(key.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => set(inner, rest, value),
                _ => Err(()),
            }
        }
    }
}

/// A message of serde or of our own types becomes a problem with a remedy.
fn problem_from_message(place: String, message: &str) -> Problem {
    let message = message.trim();
    if let Some((what, remedy)) = message.split_once("; ") {
        return Problem {
            place,
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        };
    }
    let remedy = if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let mut names = message.split('`').skip(1).step_by(2);
        let written = names.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = names.collect();
        match closest(&written, &known) {
            Some(close) => format!("did you mean `{close}`?"),
            None => "remove it, or see `rhizome config example` for what there is".to_owned(),
        }
    } else if let Some(field) = message.strip_prefix("missing field ") {
        format!("add the line {field} = …; see `rhizome config example`")
    } else {
        "see `rhizome config example` for the form of this setting".to_owned()
    };
    Problem {
        place,
        what: message.to_owned(),
        remedy,
    }
}

/// The known name nearest to what was written, if it is near.
fn closest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|name| (distance(&written, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// The edit distance of two short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
