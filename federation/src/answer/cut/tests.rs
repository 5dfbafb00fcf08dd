use serde_json::Value;

use super::*;
use crate::answer::{Of, Purpose};

static EVENTS: Shape = Shape {
    lists: &["state", "auth_chain"],
    single: Some("event"),
    of: Of::Events,
    body: 1 << 20,
    elements: 1_000,
    purpose: Purpose::Joining,
};
static IDS: Shape = Shape {
    lists: &["pdu_ids"],
    single: None,
    of: Of::Ids,
    body: 1 << 20,
    elements: 3,
    purpose: Purpose::Gathering,
};

fn cut(shape: &'static Shape, text: &str, piece: usize) -> Result<Pieces, String> {
    let mut cutter = Cutter::new(shape);
    for part in text.as_bytes().chunks(piece) {
        cutter.feed(part)?;
    }
    cutter.finish()
}

fn event(number: usize) -> String {
    let filling = r#"\"]}{[\\é\u0041,"#.repeat(1 + number % 9);
    format!(
        r#"{{"n": {number}, "x":[{{}}, [], "{filling}"], "{filling}": {{"a":[1.5e3,null]}}{:100}}}"#,
        ""
    )
}

#[test]
fn pieces_are_those_of_a_parser_however_the_bytes_come() {
    let state: Vec<_> = (0..40).map(event).collect();
    let chain: Vec<_> = (40..60).map(event).collect();
    let text = format!(
        "{{ \"origin\" : \"a\\\"}}\", \"st\\\"ate\":[1], \"state\":[{}] ,\"n\":-1.5,\"event\": {},\n\"other\":{{\"state\":[1]}},\
         \"auth_chain\" : [ {} ],\"members_omitted\":false}} ",
        state.join(" , "),
        event(77),
        chain.join(",")
    );
    serde_json::from_str::<Value>(&text).unwrap();
    for text in [text.clone(), format!("[ 200, {text}]\n")] {
        for piece in [1, 2, 3, 7, 64, 1_000, usize::MAX] {
            let pieces = cut(&EVENTS, &text, piece).unwrap();
            assert_eq!(pieces.lists[0], state);
            assert_eq!(pieces.lists[1], chain);
            assert_eq!(pieces.single.as_deref(), Some(event(77).as_bytes()));
            assert_eq!(pieces.unfit, 0);
        }
    }
}

#[test]
fn what_is_no_event_is_left_out_and_counted() {
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(600 << 10));
    let good = event(3);
    let text = format!(
        r#"{{"state":[{{}},3,null,"x",[[]],{long},{good},true],"auth_chain":[],"event":1}}"#
    );
    for piece in [5, 100_000] {
        let pieces = cut(&EVENTS, &text, piece).unwrap();
        assert_eq!(pieces.lists[0], [&*good]);
        assert_eq!((pieces.unfit, &pieces.single), (7, &None));
    }
    let ids = r#"{"pdu_ids":["$a"," $b",3],"auth_chain_ids":[]}"#;
    let pieces = cut(&IDS, ids, 4).unwrap();
    assert_eq!(pieces.lists[0], [&b"\"$a\""[..], b"\" $b\""]);
}

#[test]
fn more_than_there_may_be_is_refused_as_soon_as_it_comes() {
    let mut cutter = Cutter::new(&EVENTS);
    cutter.feed(b"{\"state\":[").unwrap();
    let fed = (0..1_000).take_while(|_| cutter.feed(b"{},").is_ok());
    assert_eq!(fed.count(), MAX_UNFIT);
    let error = cut(&IDS, r#"{"pdu_ids":["$a","$b","$c","$d"]}"#, 1).unwrap_err();
    assert_eq!(error, "it has more than 3 elements");
}

#[test]
fn what_is_no_answer_is_refused() {
    for text in [
        "",
        " ",
        "[]",
        "[200",
        "[200,{}",
        "3",
        "null",
        "\"x\"",
        "{",
        "{}}",
        "{}{}",
        "[200,{}]]",
        "[[200,{}]]",
        "{\"state\"}",
        "{\"state\":}",
        "{\"state\":[",
        "{\"state\":[,]}",
        "{\"state\":[{}}}",
        "{\"state\":[\"",
        "{\"state\" [",
        "{state:[]}",
        "<html>",
        "{\"x\":{}",
        "{\"state\":[{},{]}",
        "{\"a\":1 2}",
    ] {
        for piece in [1, 100] {
            assert!(cut(&EVENTS, text, piece).is_err(), "{text}");
        }
    }
    for text in [
        "{}",
        " {\"state\":[]}",
        "[200,{}]",
        "{\"state\":{},\"auth_chain\":1}",
    ] {
        let pieces = cut(&EVENTS, text, 1).unwrap();
        assert!(pieces.lists.iter().all(Vec::is_empty), "{text}");
    }
}
