//! A registration, read from its file.

use ruma::{OwnedUserId, ServerName, UserId};
use url::Url;

use crate::namespaces::{self, MAX_PATTERNS, Matcher, Namespace, Namespaces};
use crate::problem::Problem;
use crate::registration::Registration;
use crate::secret::{HsToken, TokenHash};
use crate::yaml::{self, Node, Value};

/// The most bytes of an id, a token, or the name of a network.
const MAX_TEXT: usize = 255;
/// The most networks.
const MAX_PROTOCOLS: usize = 1000;

/// The keys of what bridges have written since before it was specified: the first that is there counts.
const EPHEMERAL: [&str; 3] = [
    "receive_ephemeral",
    "de.sorunome.msc2409.push_ephemeral",
    "push_ephemeral",
];

/// Reads what `text` describes. `file` is for messages.
///
/// # Errors
/// Every problem of it.
pub(crate) fn registration(
    file: &str,
    text: &str,
    server_name: &ServerName,
) -> Result<Registration, Vec<Problem>> {
    let root = yaml::parse(text).map_err(|wrong| {
        let place = format!("{file}:{}", wrong.line);
        vec![Problem::new(
            place,
            wrong.what,
            "write it as the bridge's documentation shows",
        )]
    })?;
    let mut problems = Problems {
        file: file.to_owned(),
        found: Vec::new(),
    };
    let read = problems.registration(&root, server_name);
    match read {
        Some(registration) if problems.found.is_empty() => Ok(registration),
        _ => Err(problems.found),
    }
}

struct Problems {
    file: String,
    found: Vec<Problem>,
}

/// A mapping, and the line where it begins.
struct Map<'a> {
    line: usize,
    entries: Vec<(&'a str, &'a Node)>,
}

impl<'a> Map<'a> {
    fn get(&self, key: &str) -> Option<&'a Node> {
        let found = self.entries.iter().find(|(name, _)| *name == key);
        found.map(|(_, node)| *node)
    }
}

impl Problems {
    fn add(&mut self, line: usize, what: impl Into<String>, remedy: &str) {
        let place = format!("{}:{line}", self.file);
        self.found.push(Problem::new(place, what, remedy));
    }

    /// Nothing if there is a problem without which more can't be said; else there may be problems as well.
    fn registration(&mut self, root: &Node, server_name: &ServerName) -> Option<Registration> {
        let map = self.map(root, "a registration")?;
        let id = self.token(&map, "id", "a name of its own");
        let as_token = self.token(&map, "as_token", "a long random token");
        let hs_token = self.token(&map, "hs_token", "a long random token");
        let sender = self.sender(&map, server_name);
        let url = self.url(&map);
        let namespaces = self.namespaces(&map);
        let rate_limited = self.truth(&map, "rate_limited").unwrap_or(true);
        let protocols = self.protocols(&map);
        let mut receive_ephemeral = None;
        for key in EPHEMERAL {
            let said = self.truth(&map, key);
            receive_ephemeral = receive_ephemeral.or(said);
        }
        let msc3202 = self.truth(&map, "org.matrix.msc3202").unwrap_or(false);
        let msc4190 = self.truth(&map, "io.element.msc4190").unwrap_or(false);
        Some(Registration {
            id: id?.to_owned(),
            url,
            sender: sender?,
            rate_limited,
            protocols,
            receive_ephemeral: receive_ephemeral.unwrap_or(false),
            msc3202,
            msc4190,
            file: self.file.clone(),
            as_token: TokenHash::of(as_token?),
            hs_token: HsToken::new(hs_token?.to_owned()),
            namespaces,
        })
    }

    fn map<'a>(&mut self, node: &'a Node, what: &str) -> Option<Map<'a>> {
        let Value::Map(pairs) = &node.value else {
            let told = format!("{what} is keys and values");
            self.add(node.line, told, "write `key: value`, one a line");
            return None;
        };
        let mut entries: Vec<(&str, &Node)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let Some(name) = key.text() else {
                self.add(key.line, "this key isn't text", "put it in quotes");
                continue;
            };
            if name == "<<" {
                self.add(
                    key.line,
                    "`<<` isn't understood",
                    "write out what it stands for",
                );
            }
            if entries.iter().any(|(other, _)| *other == name) {
                let told = format!("`{}` is there twice", shown(name));
                self.add(key.line, told, "keep one of them");
            }
            entries.push((name, value));
        }
        let line = node.line;
        Some(Map { line, entries })
    }

    fn text<'a>(&mut self, map: &Map<'a>, key: &str, needs: &str) -> Option<(usize, &'a str)> {
        let Some(node) = map.get(key) else {
            let remedy = format!("add `{key}:` and {needs}");
            self.add(map.line, format!("`{key}` is missing"), &remedy);
            return None;
        };
        if let Some(text) = node.text() {
            return Some((node.line, text));
        }
        let remedy = format!("set it to {needs}, in quotes");
        self.add(node.line, format!("`{key}` isn't text"), &remedy);
        None
    }

    /// What goes into headers and rows: short, and of visible characters.
    fn token<'a>(&mut self, map: &Map<'a>, key: &str, needs: &str) -> Option<&'a str> {
        let (line, text) = self.text(map, key, needs)?;
        // An id may have spaces, as the specification's example has; a token is part of a header.
        let is_fit = |c: char| c.is_ascii_graphic() || (key == "id" && !c.is_control());
        if text.is_empty() || text.len() > MAX_TEXT || !text.chars().all(is_fit) {
            let what =
                format!("`{key}` is empty, longer than {MAX_TEXT} bytes, or has odd characters");
            self.add(line, what, &format!("set it to {needs}"));
            return None;
        }
        Some(text)
    }

    fn sender(&mut self, map: &Map<'_>, server_name: &ServerName) -> Option<OwnedUserId> {
        const NEEDS: &str =
            "the name of the bridge's own user, without @ and server: letters, digits and -._=/+";
        let (line, localpart) = self.text(map, "sender_localpart", NEEDS)?;
        // Capitals, too, though nobody gets such a name today: bridges write some random text here, and act for a user
        // of their namespaces instead.
        let is_fit = |c: char| c.is_ascii_alphanumeric() || "-._=/+".contains(c);
        let user = UserId::parse(format!("@{localpart}:{server_name}")).ok();
        let user = user.filter(|user| user.as_str().len() <= MAX_TEXT);
        if localpart.is_empty() || !localpart.chars().all(is_fit) || user.is_none() {
            let what = "`sender_localpart` can't be a user's name";
            self.add(line, what, &format!("set it to {NEEDS}"));
            return None;
        }
        user
    }

    fn url(&mut self, map: &Map<'_>) -> Option<Url> {
        let Some(node) = map.get("url") else {
            let remedy = "add `url:` and where the bridge listens, or `url: null`";
            self.add(map.line, "`url` is missing", remedy);
            return None;
        };
        if node.is_null() {
            return None;
        }
        if node.text() == Some("") {
            return None;
        }
        let text = node.text().unwrap_or_default();
        let remedy = "write it as \"http://localhost:29318\", or `null` if the bridge needs to be told nothing";
        let url = Url::parse(text).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            self.add(node.line, "`url` is no http or https URL", remedy);
            return None;
        };
        let has_more = url.query().is_some() || url.fragment().is_some();
        if has_more || !url.username().is_empty() || url.password().is_some() {
            let what = "`url` has a user, a password, a query or a fragment";
            self.add(node.line, what, remedy);
            return None;
        }
        Some(url)
    }

    fn truth(&mut self, map: &Map<'_>, key: &str) -> Option<bool> {
        let node = map.get(key).filter(|node| !node.is_null())?;
        let truth = node.truth();
        if truth.is_none() {
            let what = format!("`{key}` is neither true nor false");
            self.add(
                node.line,
                what,
                "set it to `true` or `false`, without quotes",
            );
        }
        truth
    }

    fn list<'a>(&mut self, map: &Map<'a>, key: &str, most: usize) -> &'a [Node] {
        let Some(node) = map.get(key).filter(|node| !node.is_null()) else {
            return &[];
        };
        match &node.value {
            Value::List(list) if list.len() <= most => return list,
            Value::List(_) => {
                let what = format!("`{key}` has more than {most} entries");
                self.add(node.line, what, "use fewer");
            }
            _ => self.add(
                node.line,
                format!("`{key}` isn't a list"),
                "write one entry a line, each after a `-`",
            ),
        }
        &[]
    }

    fn protocols(&mut self, map: &Map<'_>) -> Vec<String> {
        let mut protocols: Vec<String> = Vec::new();
        for node in self.list(map, "protocols", MAX_PROTOCOLS) {
            let text = node.text().unwrap_or_default();
            if text.is_empty() || text.len() > MAX_TEXT {
                let what = "this isn't the name of a network";
                self.add(node.line, what, "write it in quotes, as \"irc\"");
            } else if !protocols.iter().any(|protocol| protocol == text) {
                protocols.push(text.to_owned());
            }
        }
        protocols
    }

    fn namespaces(&mut self, map: &Map<'_>) -> Namespaces {
        let Some(node) = map.get("namespaces").filter(|node| !node.is_null()) else {
            return Namespaces::default();
        };
        let Some(kinds) = self.map(node, "`namespaces`") else {
            return Namespaces::default();
        };
        Namespaces {
            users: self.kind(&kinds, "users"),
            aliases: self.kind(&kinds, "aliases"),
            rooms: self.kind(&kinds, "rooms"),
        }
    }

    fn kind(&mut self, kinds: &Map<'_>, kind: &str) -> Matcher {
        let nodes = self.list(kinds, kind, MAX_PATTERNS);
        let namespaces = nodes.iter().filter_map(|node| self.namespace(node));
        let namespaces: Vec<_> = namespaces.collect();
        Matcher::new(namespaces).unwrap_or_else(|error| {
            let line = kinds.get(kind).map_or(kinds.line, |node| node.line);
            let remedy = "use fewer or simpler regular expressions";
            self.add(line, format!("`{kind}`: {error}"), remedy);
            Matcher::default()
        })
    }

    fn namespace(&mut self, node: &Node) -> Option<Namespace> {
        let map = self.map(node, "a namespace")?;
        let regex = self.text(&map, "regex", "a regular expression");
        let exclusive = self.truth(&map, "exclusive");
        if map.get("exclusive").is_none_or(Node::is_null) {
            let remedy = "add `exclusive: true` if nobody else may use what matches, else `false`";
            self.add(map.line, "`exclusive` is missing", remedy);
        }
        let (line, regex) = regex?;
        if let Err(error) = namespaces::check(regex) {
            let remedy = "write a simpler one; looking ahead or behind and back-references aren't understood";
            self.add(line, format!("`regex` can't be used: {error}"), remedy);
            return None;
        }
        Some(Namespace {
            regex: regex.to_owned(),
            exclusive: exclusive?,
        })
    }
}

/// A key as a message shows it.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests;
