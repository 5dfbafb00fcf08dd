//! YAML as a tree.

use super::*;

fn told(text: &str) -> (usize, String) {
    let wrong = parse(text).unwrap_err();
    (wrong.line, wrong.what)
}

/// What stands under a key.
fn at<'a>(node: &'a Node, key: &str) -> &'a Node {
    let Value::Map(pairs) = &node.value else {
        panic!("{node:?}")
    };
    let found = pairs.iter().find(|(name, _)| name.text() == Some(key));
    &found.unwrap().1
}

#[test]
fn nodes_know_their_lines() {
    let root = parse("# first\na: 1\nb:\n  - x\n  - c: 'y'\n").unwrap();
    assert_eq!((root.line, at(&root, "a").line), (2, 2));
    let Value::List(list) = &at(&root, "b").value else {
        panic!("{root:?}")
    };
    assert_eq!((list[0].line, list[1].line), (4, 5));
    assert_eq!(at(&list[1], "c").text(), Some("y"));
}

#[test]
fn plain_words_are_what_they_say_and_quoted_ones_text() {
    let root = parse("a: yes\nb: 'yes'\nc: ~\nd: Off\ne: 0x1f\nf: yEs\ng: !!str true\nh:\ni: ''\n")
        .unwrap();
    assert_eq!(
        (at(&root, "a").truth(), at(&root, "a").text()),
        (Some(true), None)
    );
    assert_eq!(
        (at(&root, "b").truth(), at(&root, "b").text()),
        (None, Some("yes"))
    );
    assert!(at(&root, "c").is_null() && at(&root, "h").is_null() && !at(&root, "i").is_null());
    assert_eq!(at(&root, "d").truth(), Some(false));
    assert_eq!(at(&root, "e").text(), Some("0x1f"));
    assert_eq!(
        (at(&root, "f").truth(), at(&root, "f").text()),
        (None, Some("yEs"))
    );
    assert_eq!(at(&root, "g").text(), Some("true"));
    assert_eq!(at(&root, "i").text(), Some(""));
}

#[test]
fn aliases_stand_for_what_they_name() {
    let root = parse("a: &x {b: 1}\nc: *x\nd: [*x, *x]\n").unwrap();
    assert_eq!(at(at(&root, "c"), "b").text(), Some("1"));
    let Value::List(list) = &at(&root, "d").value else {
        panic!("{root:?}")
    };
    assert_eq!(list.len(), 2);
    assert_eq!(told("a: &x [*x]\n").0, 1);
}

#[test]
fn what_would_be_huge_is_refused_soon() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        let ten = vec![below; 10].join(",");
        bomb = format!("{bomb}a{level}: &a{level} [{ten}]\n");
    }
    assert!(told(&bomb).1.contains("more than"), "{:?}", told(&bomb));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(parse(&deep).is_err());
    let lines: Vec<String> = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    let deep = lines.concat();
    assert!(parse(&deep).is_err());
    let long = format!("[{}]", "a,".repeat(MAX_NODES + 1));
    assert!(parse(&long).is_err());
}

#[test]
fn what_is_no_document_is_refused() {
    assert_eq!(told(""), (1, "the file is empty".to_owned()));
    assert_eq!(told("# nothing\n").0, 1);
    assert!(told("a: b\n---\nc: d\n").1.contains("second document"));
    assert!(told("a: b\n c: d\n").1.contains("isn't YAML"));
    assert!(told("a: [b\n").1.contains("isn't YAML"));
}
