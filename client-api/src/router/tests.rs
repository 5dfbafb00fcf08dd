//! The table as a whole.

use std::collections::BTreeMap;

use super::*;

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) =
        (pattern.split('/').collect(), path.split('/').collect());
    let fits = |(a, b): (&&str, &&str)| a.starts_with('{') && !b.is_empty() || a == b;
    pattern.len() == path.len() && pattern.iter().zip(&path).all(fits)
}

/// Whatever the specification says is limited, is: by a rate of its own or that of the rest.
#[test]
fn what_the_specification_limits_is_limited() {
    let table = media(keys(backups(reading(writing(accounts(becoming(
        Table::default(),
    )))))));
    let table = admin::serve(table);
    let bare = |path: &str| {
        let parts = path.split('/');
        let parts = parts.map(|part| if part.starts_with('{') { "{}" } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    let served: BTreeMap<(String, &str), Kind> = (table.endpoints())
        .map(|(path, method, kind)| ((bare(path), method), kind))
        .collect();
    let mut found = 0;
    for operation in rhizome_contract::limited() {
        let (method, path) = operation.split_once(' ').unwrap();
        if let Some(kind) = served.get(&(bare(path), method)) {
            assert_ne!(*kind, Kind::Free, "{operation}");
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}

/// A path that is spelled out hides the pattern that would match it as well: then it must serve all
/// of the pattern's methods itself.
#[test]
fn no_path_hides_methods_of_another() {
    let table = media(keys(backups(finding(reading(writing(accounts(
        becoming(Table::default()),
    )))))));
    let table = admin::serve(table);
    let mut served: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, method, _) in table.endpoints() {
        served.entry(path).or_default().push(method);
    }
    assert!(served.len() > 100, "{} paths", served.len());
    for (path, methods) in &served {
        for (pattern, wanted) in &served {
            if pattern != path && matches(pattern, path) {
                let hidden: Vec<_> = wanted
                    .iter()
                    .filter(|method| !methods.contains(method))
                    .collect();
                assert!(hidden.is_empty(), "{path} hides {hidden:?} of {pattern}");
            }
        }
    }
}
