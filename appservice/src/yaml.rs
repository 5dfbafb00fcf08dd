//! YAML as a tree whose nodes know their lines.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 16;
/// The most nodes of a file, those that aliases repeat included.
const MAX_NODES: usize = 100_000;

/// A node, and the line where it begins, from 1 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
    /// How many nodes it is, with all below it.
    size: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Text that isn't in quotes: what it is depends on who reads it.
    Plain(String),
    Quoted(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// What is wrong with a text, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl Node {
    fn new(line: usize, value: Value) -> Self {
        let size = 1;
        Self { line, value, size }
    }

    /// Whether it is nothing: `null`, `~`, or no text at all.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if is_null(text))
    }

    /// Its text as it was written, unless it is nothing, a truth value, or no text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Quoted(text) => Some(text),
            Value::Plain(text) if !is_null(text) && truth(text).is_none() => Some(text),
            _ => None,
        }
    }

    /// Whether it says yes or no.
    pub(crate) fn truth(&self) -> Option<bool> {
        match &self.value {
            Value::Plain(text) => truth(text),
            _ => None,
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// As YAML 1.1 has it, by which those read who write these files.
fn truth(text: &str) -> Option<bool> {
    let is_cased = |word: &str| {
        let lower = text == word;
        let upper = text == word.to_ascii_uppercase();
        let title = text.get(1..) == word.get(1..) && text[..1] == word[..1].to_ascii_uppercase();
        lower || upper || title
    };
    if !text.is_ascii() || text.is_empty() {
        return None;
    }
    if ["true", "yes", "on"].into_iter().any(is_cased) {
        return Some(true);
    }
    let is_no = ["false", "no", "off"].into_iter().any(is_cased);
    is_no.then_some(false)
}

/// Reads the only document of a text.
///
/// # Errors
/// It isn't YAML, it isn't one document, or it is too large.
pub(crate) fn parse(text: &str) -> Result<Node, Wrong> {
    let mut tree = Tree::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| Wrong {
            line: error.marker().line(),
            what: format!("this isn't YAML: {}", error.info()),
        })?;
        let line = span.start.line().max(1);
        let taken = tree.take(event, line);
        taken.map_err(|what| Wrong { line, what })?;
    }
    tree.root.ok_or_else(|| Wrong {
        line: 1,
        what: "the file is empty".into(),
    })
}

#[derive(Default)]
struct Tree {
    root: Option<Node>,
    /// Lists and mappings that aren't at their end, with their anchors.
    open: Vec<(usize, Node)>,
    /// The keys of mappings whose values are to come.
    keys: Vec<Option<Node>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                let text = text.into_owned();
                let value = if is_plain {
                    Value::Plain(text)
                } else {
                    Value::Quoted(text)
                };
                self.put(anchor, Node::new(line, value))
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, line, Value::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(anchor, line, Value::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                self.keys.pop();
                let (anchor, node) = self.open.pop().ok_or("this isn't YAML")?;
                self.put(anchor, node)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or("this refers to what it is in, or to nothing")?;
                self.put(0, node)
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("a second document begins; a file describes one application service".into())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, line: usize, value: Value) -> Result<(), String> {
        if self.open.len() == MAX_DEPTH {
            return Err(format!("this is nested more than {MAX_DEPTH} deep"));
        }
        self.open.push((anchor, Node::new(line, value)));
        self.keys.push(None);
        Ok(())
    }

    /// A node is whole: it goes into what is open around it.
    fn put(&mut self, anchor: usize, node: Node) -> Result<(), String> {
        self.nodes += if anchor == 0 { node.size } else { 1 };
        if self.nodes > MAX_NODES {
            return Err(format!("these are more than {MAX_NODES} values"));
        }
        if anchor != 0 {
            self.nodes += node.size;
            self.anchors.insert(anchor, node.clone());
        }
        let (Some((_, around)), Some(key)) = (self.open.last_mut(), self.keys.last_mut()) else {
            self.root = Some(node);
            return Ok(());
        };
        around.size += node.size;
        match &mut around.value {
            Value::List(list) => list.push(node),
            Value::Map(map) => match key.take() {
                None => *key = Some(node),
                Some(before) => map.push((before, node)),
            },
            Value::Plain(_) | Value::Quoted(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
