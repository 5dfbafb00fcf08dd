//! What becomes of what test binaries saw.

use rhizome_contract::{
    DEVIATIONS,
    coverage::{Coverage, agree},
};

const SYNC: &str = "GET /_matrix/client/v3/sync";
const LOGIN: &str = "POST /_matrix/client/v3/login";
const SIGN: &str = "POST /_matrix/policy/v1/sign";

fn coverage(lines: &[(&str, String)]) -> Coverage {
    let mut coverage = Coverage::default();
    for (binary, line) in lines {
        coverage.add(binary, line);
    }
    coverage
}

#[test]
fn a_page_says_what_is_there_and_who_tests_it() {
    let page = coverage(&[
        ("one", format!("routed {SYNC}")),
        ("two", format!("tested {SYNC}")),
        ("one", format!("tested {SYNC}")),
        ("two", format!("asked {SIGN}")),
    ])
    .page();
    assert!(
        page.contains(&format!(
            "| `{SIGN}` | of policy servers, which ours ask | two |"
        )),
        "{page}"
    );
    assert!(
        page.contains(&format!("| `{SYNC}` | yes | one, two |")),
        "{page}"
    );
    assert!(
        page.contains(&format!("| `{LOGIN}` | not yet |  |")),
        "{page}"
    );
    assert!(page.contains("\n1 of "), "{page}");
}

#[test]
fn a_page_says_what_is_asked_of_application_services() {
    const PING: &str = "POST /_matrix/app/v1/ping";
    let page = coverage(&[("one", format!("asked {PING}"))]).page();
    assert!(page.contains("which ours ask: 1 of 9."), "{page}");
    assert!(
        page.contains(&format!("| `{PING}` | yes | one |")),
        "{page}"
    );
    let transactions = "PUT /_matrix/app/v1/transactions/{txnId}";
    let line = format!("| `{transactions}` | not yet |  |");
    assert!(page.contains(&line), "{page}");
}

#[test]
fn what_no_test_uses_and_what_nothing_needs_is_complained_of() {
    let needed = DEVIATIONS.iter().flat_map(|one| one.cases);
    let mut lines: Vec<_> = needed
        .map(|case| ("one", format!("deviated {}", case.name())))
        .collect();
    lines.push(("one", format!("routed {SYNC}")));
    lines.push(("one", format!("tested {SYNC}")));
    let unasked = coverage(&lines).complaints();
    assert!(
        unasked.len() == 1 && unasked[0].starts_with(SIGN),
        "{unasked:?}"
    );
    lines.push(("two", format!("asked {SIGN}")));
    assert_eq!(coverage(&lines).complaints(), Vec::<String>::new());
    lines.push(("one", format!("routed {LOGIN}")));
    let stale = lines.remove(0).1.replace("deviated ", "");
    let complaints = coverage(&lines).complaints();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(
        complaints[0].starts_with(LOGIN) && complaints[1].ends_with(&stale),
        "{complaints:?}"
    );
}

#[test]
fn pages_agree_by_what_is_there() {
    let one = coverage(&[("one", format!("routed {SYNC}"))]);
    let tested = coverage(&[
        ("one", format!("routed {SYNC}")),
        ("one", format!("tested {SYNC}")),
    ]);
    assert!(agree(&one.page(), &tested.page()));
    assert!(!agree(&one.page(), &coverage(&[]).page()));
}
