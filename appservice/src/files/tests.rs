//! Files in a folder.

use ruma::server_name;

use super::*;

fn text(id: &str) -> String {
    format!("id: {id}\nurl: null\nas_token: {id}\nhs_token: h\nsender_localpart: {id}\n")
}

#[test]
fn files_are_found_by_patterns_and_each_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(path("folder.yaml")).unwrap();
    for id in ["a", "b"] {
        std::fs::write(path(&format!("{id}.yaml")), text(id)).unwrap();
    }
    std::fs::write(path("notes.txt"), "no YAML: [").unwrap();
    let load = |paths: &[String]| load(paths, server_name!("here"));
    let all = load(&[path("*.yaml"), path("a.yaml"), path("?.yaml")]);
    let all = all.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(all.len(), 2);
    assert_eq!(all.by_id("a").unwrap().file, path("a.yaml"));
    let none = load(&[path("*.yml")]).unwrap_or_else(|error| panic!("{error}"));
    assert!(none.is_empty());

    let missing = load(&[path("*.yaml"), path("c.yaml")])
        .map(|_| ())
        .unwrap_err();
    assert_eq!(missing.0[0].place, path("c.yaml"));
    assert!(missing.0[0].what.contains("can't be read"), "{missing}");
    let wrong = load(&[path("[")]).map(|_| ()).unwrap_err();
    assert!(wrong.0[0].what.contains("no pattern"), "{wrong}");
    let notes = load(&[path("notes.txt"), path("c.yaml")])
        .map(|_| ())
        .unwrap_err();
    assert_eq!(notes.0.len(), 2, "both are told: {notes}");
}

#[test]
fn what_is_no_registration_is_refused_whatever_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    let told = || {
        let paths = [path.display().to_string()];
        load(&paths, server_name!("here"))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    std::fs::write(&path, vec![b'#'; usize::try_from(MAX_FILE).unwrap() + 1]).unwrap();
    assert!(told().contains("larger than"), "{}", told());
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(told().contains("UTF-8"), "{}", told());
    std::fs::write(&path, "").unwrap();
    assert!(told().contains("a.yaml:1: the file is empty"), "{}", told());
}
