//! What of a request and its answer isn't as the specification says.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{
    answer,
    exchange::{Exchange, fault},
    schema::Fault,
    specification::{self, Found, In, Parameter},
};

/// The part of an exchange that something is wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A path that the specification doesn't have, and that was answered all the same.
    Path,
    /// A variable of the path or of the query: a request that breaks its rules was answered with success.
    Parameter,
    /// The request's body, likewise.
    Request,
    /// No access token, or no signature, likewise.
    Authorization,
    /// The answer's status.
    Status,
    /// The answer's body.
    Answer,
}

/// Something that isn't as the specification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The operation's method and path.
    pub operation: String,
    /// What is wrong with it, in general.
    pub part: Part,
    /// The answer's status.
    pub status: u16,
    /// Where in the part: a JSON pointer in a body, `/name` of a parameter.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            part,
            status,
            place,
            what,
        } = self;
        write!(f, "{operation} ({status}): {part:?} {place} {what}")
    }
}

/// What came of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// The operation's method and path, where the server has it.
    pub operation: Option<&'static str>,
    /// What isn't as the specification says.
    pub findings: Vec<Finding>,
}

/// Where the older spelling of a path leads: the specification's server answers both alike.
fn current(path: &str) -> String {
    let old = ["/_matrix/media/r0/", "/_matrix/media/v1/"];
    let rest = old.iter().find_map(|prefix| path.strip_prefix(prefix));
    match rest {
        Some(rest) if rest != "create" => format!("/_matrix/media/v3/{rest}"),
        _ => path.replacen("/_matrix/client/r0/", "/_matrix/client/v3/", 1),
    }
}

impl Exchange {
    /// Compares with the specification.
    pub fn check(&self) -> Checked {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let known = ["/_matrix/", "/.well-known/matrix/"];
        if self.method == "OPTIONS" || !known.iter().any(|prefix| path.starts_with(prefix)) {
            return Checked::default();
        }
        let path = current(path);
        match specification::find(&self.method, &path) {
            Some(found) => self.check_operation(&found, query),
            None => self.check_stray(&path),
        }
    }

    /// What no operation is for must be answered so.
    fn check_stray(&self, path: &str) -> Checked {
        let mut checked = Checked::default();
        let status = if specification::is_path(path) {
            405
        } else {
            404
        };
        if self.status != status || !answer::is_unrecognized(self) {
            let what = format!(
                "is answered without being in the specification: {status} M_UNRECOGNIZED is due"
            );
            checked.findings.push(self.finding(
                &format!("{} {path}", self.method),
                Part::Path,
                Fault {
                    place: String::new(),
                    what,
                },
            ));
        }
        checked
    }

    fn check_operation(&self, found: &Found, query: &str) -> Checked {
        if answer::is_unrecognized(self) {
            return Checked::default();
        }
        let mut wrong = Vec::new();
        if self.status < 300 {
            wrong.push((Part::Authorization, self.authorization(found, query)));
            wrong.extend(self.asks(found, query));
        }
        wrong.push((Part::Status, answer::status(self, found)));
        wrong.push((Part::Answer, answer::body(self, found)));
        self.checked(found, wrong)
    }

    /// Compares the request alone, which must be right whatever it is answered: one of ours to another server.
    pub fn check_request(&self) -> Checked {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let Some(found) = specification::find(&self.method, path) else {
            return Checked::default();
        };
        let mut wrong = vec![(Part::Authorization, self.signature(&found))];
        wrong.extend(self.asks(&found, query));
        self.checked(&found, wrong)
    }

    /// What is wrong with what is asked for.
    fn asks(&self, found: &Found, query: &str) -> [(Part, Vec<Fault>); 2] {
        [
            (Part::Parameter, self.parameters(found, query)),
            (Part::Request, self.request(found)),
        ]
    }

    fn checked(&self, found: &Found, wrong: Vec<(Part, Vec<Fault>)>) -> Checked {
        let wrong = wrong.into_iter().flat_map(|(part, faults)| {
            let faults = faults.into_iter();
            faults.map(move |fault| self.finding(found.key, part, fault))
        });
        Checked {
            operation: Some(found.key),
            findings: wrong.collect(),
        }
    }

    fn finding(&self, operation: &str, part: Part, fault: Fault) -> Finding {
        Finding {
            operation: operation.to_owned(),
            part,
            status: self.status,
            place: fault.place,
            what: fault.what,
        }
    }

    fn authorization(&self, found: &Found, query: &str) -> Vec<Fault> {
        if !found.operation.auth
            || self.headers.contains_key(AUTHORIZATION)
            || values(query).contains_key("access_token")
        {
            return Vec::new();
        }
        vec![fault("", "is missing")]
    }

    /// What is wrong with how one server shows another, or an application service, who it is.
    fn signature(&self, found: &Found) -> Vec<Fault> {
        if !found.operation.auth {
            return Vec::new();
        }
        let header = self.header(AUTHORIZATION.as_str());
        if std::ptr::eq(found.api, specification::application_service()) {
            let shows = header.is_some_and(|header| header.starts_with("Bearer "));
            let lacks = || fault("", "is no token");
            return (!shows).then(lacks).into_iter().collect();
        }
        let rest = header
            .as_deref()
            .and_then(|header| header.strip_prefix("X-Matrix "));
        let Some(rest) = rest else {
            return vec![fault("", "is no signature of a server")];
        };
        let has = |name: &str| (rest.split(',')).any(|one| one.starts_with(&format!("{name}=\"")));
        let lacking = ["origin", "destination", "key", "sig"]
            .into_iter()
            .filter(|name| !has(name));
        lacking
            .map(|name| fault(&format!("/{name}"), "is missing"))
            .collect()
    }

    /// What is wrong with the variables of path, query and headers.
    fn parameters(&self, found: &Found, query: &str) -> Vec<Fault> {
        let given = values(query);
        let mut faults = Vec::new();
        for parameter in &found.operation.parameters {
            let name = parameter.name.as_str();
            let texts = match parameter.place {
                In::Query => given.get(name).cloned().unwrap_or_default(),
                In::Path => found
                    .variable(name)
                    .map(ToOwned::to_owned)
                    .into_iter()
                    .collect(),
                In::Header => self.header(name).into_iter().collect(),
            };
            if texts.is_empty() {
                if parameter.required {
                    faults.push(fault(&format!("/{name}"), "is missing"));
                }
                continue;
            }
            let value = value(parameter, &texts);
            let wrong = parameter.schema.faults(&value, &found.api.definitions);
            faults.extend(wrong.into_iter().map(|fault| Fault {
                place: format!("/{name}{}", fault.place),
                ..fault
            }));
        }
        faults
    }

    fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// What is wrong with the request's body.
    fn request(&self, found: &Found) -> Vec<Fault> {
        let (Some(schema), Some(sent)) = (&found.operation.body, &self.sent) else {
            return Vec::new();
        };
        if sent.is_empty() {
            let required = found.operation.body_required;
            return required
                .then(|| fault("", "is missing"))
                .into_iter()
                .collect();
        }
        match serde_json::from_slice(sent) {
            Ok(value) => schema.faults(&value, &found.api.definitions),
            Err(error) => vec![fault("", &format!("is no JSON: {error}"))],
        }
    }
}

/// What the texts of a parameter stand for.
fn value(parameter: &Parameter, texts: &[String]) -> Value {
    let schema = &parameter.schema;
    if schema.is_list() {
        let one = |text: &String| match schema.items() {
            Some(items) => items.value_of(text),
            None => Value::from(text.as_str()),
        };
        return texts.iter().map(one).collect();
    }
    schema.value_of(&texts[0])
}

/// The query's variables, decoded.
fn values(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        values.entry(decoded(name)).or_default().push(decoded(text));
    }
    values
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
