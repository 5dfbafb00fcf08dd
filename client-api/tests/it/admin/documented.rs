//! What docs/coverage-admin.md says is there.

use std::{collections::BTreeSet, fmt::Write as _};

use rhizome_client_api::admin_endpoints;

const TEXT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/coverage-admin.md"
));

/// What stands elsewhere: who calls it needn't be an administrator, or it belongs to something else.
const ELSEWHERE: [&str; 4] = [
    "GET /v1/register",
    "POST /v1/register",
    "POST /v1/send_server_notice",
    "PUT /v1/send_server_notice/{txn_id}",
];

#[test]
fn what_is_served_is_written_down() {
    let mut written = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for line in TEXT.lines() {
        let mut cells = line.split('|').map(str::trim);
        let Some(operation) = cells.nth(1).and_then(|cell| cell.strip_prefix('`')) else {
            continue;
        };
        let operation = numbered(operation.trim_end_matches('`'));
        let is_new = match cells.next() {
            Some("yes") => written.insert(operation.clone()),
            Some("no") => missing.insert(operation.clone()),
            other => panic!("{operation}: {other:?}"),
        };
        assert!(is_new, "{operation} is written twice");
    }
    let mut served: BTreeSet<String> = admin_endpoints()
        .iter()
        .map(|(path, method)| {
            let path = path.strip_prefix("/_synapse/admin").unwrap();
            format!("{method} {path}")
        })
        .collect();
    assert!(served.len() > 80, "{}", served.len());
    served.extend(ELSEWHERE.map(numbered));
    let untold: Vec<_> = served.difference(&written).collect();
    assert!(untold.is_empty(), "not written down: {untold:?}");
    let untrue: Vec<_> = written.difference(&served).collect();
    assert!(untrue.is_empty(), "not served: {untrue:?}");
    assert!(missing.is_disjoint(&served));
}

/// An operation with its variables as the table has them.
fn numbered(operation: &str) -> String {
    let mut parts = operation.split('{');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (number, part) in (1..).zip(parts) {
        let rest = part.split_once('}').expect("a variable ends").1;
        write!(numbered, "{{p{number}}}{rest}").expect("text is written");
    }
    numbered
}
