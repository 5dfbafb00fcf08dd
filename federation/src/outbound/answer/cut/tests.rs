use serde_json::Value;

use super::*;
use crate::outbound::answer::{Of, Purpose};

static EVENTS: Shape = Shape {
    lists: &["state", "auth_chain"],
    single: Some("event"),
    names: Some("servers_in_room"),
    flag: Some("members_omitted"),
    of: Of::Events,
    body: 1 << 20,
    elements: 1_000,
    purpose: Purpose::Joining,
};
static IDS: Shape = Shape {
    lists: &["pdu_ids"],
    single: None,
    names: None,
    flag: None,
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
         \"auth_chain\" : [ {} ],\"members_omitted\":true ,\"servers_in_room\":[\"a\", 7,\"b:1\"]}} ",
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
            assert_eq!(pieces.names, [r#""a""#, r#""b:1""#]);
            assert!(pieces.flag);
        }
    }
    for flag in ["false", "1", "truer", "\"true\"", "[true]", "{\"a\":true}"] {
        let text = format!("{{\"members_omitted\":{flag},\"servers_in_room\":{{\"a\":[\"b\"]}}}}");
        let pieces = cut(&EVENTS, &text, 3).unwrap();
        assert!(!pieces.flag && pieces.names.is_empty(), "{text}");
    }
}

#[test]
fn names_are_counted_and_the_first_are_believed() {
    let names: Vec<_> = (0..MOST_NAMES + 5).map(|at| format!("\"s{at}\"")).collect();
    let text = format!("{{\"servers_in_room\":[{}]}}", names.join(","));
    let pieces = cut(&EVENTS, &text, 999).unwrap();
    assert_eq!(pieces.names, names[..MOST_NAMES]);
    let long = format!("{{\"servers_in_room\":[\"{}\"]}}", "a".repeat(600));
    assert!(cut(&EVENTS, &long, 999).unwrap().names.is_empty());
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

/// Numbers that look random, the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

/// Damaged answers: whatever a parser makes of one, we make of it, or refuse it; and nothing panics.
#[test]
fn damaged_answers_are_cut_as_a_parser_does_or_refused() {
    #[derive(serde::Deserialize)]
    struct Parsed<'a> {
        #[serde(borrow, default)]
        state: Vec<&'a serde_json::value::RawValue>,
        #[serde(borrow, default)]
        auth_chain: Vec<&'a serde_json::value::RawValue>,
    }
    let whole = format!(
        r#"{{"x":{{"state":[[]]}}, "state":[{}, {}],"n": 1.5, "auth_chain" :[{}], "y":["\\", "\""]}}"#,
        event(1),
        event(2),
        event(3)
    );
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let odd = br#"{}[]",:\ 0a"#;
    let mut agreed = 0;
    for _ in 0..20_000 {
        let mut text = whole.clone().into_bytes();
        for _ in 0..=dice.below(2) {
            let at = dice.below(text.len());
            match dice.below(3) {
                0 => text[at] = odd[dice.below(odd.len())],
                1 => drop(text.remove(at)),
                _ => text.insert(at, odd[dice.below(odd.len())]),
            }
        }
        let mut cutter = Cutter::new(&EVENTS);
        let mut rest = &text[..];
        let mut fed = Ok(());
        while !rest.is_empty() && fed.is_ok() {
            let (now, later) = rest.split_at(1 + dice.below(rest.len().min(50)));
            fed = cutter.feed(now);
            rest = later;
        }
        let cut = fed.and_then(|()| cutter.finish());
        if let Ok(parsed) = serde_json::from_slice::<Parsed<'_>>(&text) {
            let cut = cut.unwrap();
            for (list, raws) in [(0, parsed.state), (1, parsed.auth_chain)] {
                let texts = raws.iter().map(|raw| raw.get());
                let fitting: Vec<&str> = texts
                    .filter(|text| text.len() >= 100 && text.starts_with('{'))
                    .collect();
                assert_eq!(cut.lists[list], fitting);
            }
            agreed += 1;
        }
    }
    assert!(agreed > 1_000, "{agreed}");
}
