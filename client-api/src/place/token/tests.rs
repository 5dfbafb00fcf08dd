//! Tokens as they are written and read.

use super::*;

#[test]
fn a_token_reads_back_as_itself() {
    let seal = || Some("0f".to_owned());
    let all = Some(Pos(72_594));
    for (epoch, seal, to_device, sticky, presence) in [
        ("0af3", None, None, None, None),
        ("0123456789ab", None, Some(Pos(0)), None, Some(0)),
        ("0123456789ab", seal(), None, Some(Pos(5)), None),
        ("0123456789ab", seal(), None, None, Some(12)),
        ("0123456789ab", seal(), all, all, Some(3)),
    ] {
        let token = Token {
            epoch: epoch.into(),
            pos: Pos(72_594),
            heard: Heard::only(ProcessId::ONLY, 12),
            to_device,
            sticky,
            presence: presence.map(|told| (ProcessId::ONLY, told)),
            seal,
        };
        assert_eq!(Token::parse(&token.to_string()).as_ref(), Ok(&token));
        let mut of_several = Heard::only(ProcessId(0xa1), 12);
        of_several.note(ProcessId(u32::MAX), 7);
        let token = Token {
            heard: of_several,
            presence: presence.map(|told| (ProcessId(0xa1), told)),
            ..token
        };
        assert_eq!(Token::parse(&token.to_string()), Ok(token));
    }
}

#[test]
fn a_token_names_as_many_processes_as_can_be_heard_and_no_more() {
    let mut heard = Heard::default();
    for n in (1..100).take(Heard::MOST) {
        heard.note(ProcessId(n), i64::from(n));
    }
    let token = Token {
        heard,
        ..Token::parse("s1_7_3").unwrap()
    };
    assert_eq!(Token::parse(&token.to_string()).as_ref(), Ok(&token));
    let mut more = token.clone();
    more.heard.note(ProcessId(100), 100);
    assert!(Token::parse(&more.to_string()).is_ok());
    let more = format!("{token}_e64-100");
    assert_eq!(Token::parse(&more), Err(NotAToken));
}

#[test]
fn what_a_device_has_been_told_is_no_more_than_all() {
    let told = |text: &str| Token::parse(text).map(|token| token.told_to_device());
    // From before there were such messages, and where an answer had none.
    assert_eq!(told("s1_7_3"), Ok(Pos(7)));
    assert_eq!(told("s1_7_3_5"), Ok(Pos(5)));
    assert_eq!(told("s1_7_3_99"), Ok(Pos(7)));
    let sticky = |text: &str| Token::parse(text).map(|token| token.told_sticky());
    assert_eq!(sticky("s1_7_3_5"), Ok(Pos(7)));
    assert_eq!(sticky("s1_7_3_5_k6"), Ok(Pos(6)));
    assert_eq!(sticky("s1_7_3_k99"), Ok(Pos(7)));
}

#[test]
fn what_is_not_a_token_is_told_apart() {
    for text in [
        "",
        "s",
        "s1",
        "s1_2",
        "s1_2_3_4_5",
        "s1_2_3_k",
        "s1_2_3_k4_5",
        "s1_2_3_k4_k5",
        "s1_2_k3",
        "s1_2_3_p",
        "s1_2_3_p4_5",
        "s1_2_3_p4_k5",
        "s1_2_3_p4_p5",
        "s1_2_p3",
        "s1_2_3_e",
        "s1_2_3_e1",
        "s1_2_3_e-5",
        "s1_2_3_e0-5",
        "s1_2_3_eg-5",
        "s1_2_3_eA-5",
        "s1_2_3_e1-",
        "s1_2_3_e1-5-6",
        "s1_2_3_e123456789-5",
        "s1_2_3_e1-5_4",
        "s1_2_3_p4_e1-5",
        "s1_2_3_p-4",
        "s1_2_3_p0-4",
        "s1_2_3_p1-4-5",
        "s1_2_3_",
        "s1_2_3_-4",
        "t1_2_3",
        "s_1_2",
        "s1__2",
        "s-1_2_3",
        "s1_+2_3",
        "sé_1_2",
        "s1_2_99999999999999999999",
        "s1_2_3\u{0}",
        " s1_2_3",
    ] {
        assert_eq!(Token::parse(text), Err(NotAToken), "{text:?}");
    }
}

#[test]
fn an_ephemeral_position_from_the_future_is_forgotten() {
    let only = ProcessId::ONLY;
    let now = |head| Heard::only(only, head);
    let token = Token::parse("s1_7_9").unwrap();
    assert_eq!(token.heard(&now(20), only), now(9));
    assert_eq!(token.heard(&now(8), only), Heard::default());
    // What others told, who are gone for good, is nothing to one that is alone.
    let of_several = Token::parse("s1_7_9_e1-9").unwrap();
    assert_eq!(of_several.heard(&now(20), only), now(0));
    // Of several, nobody has been told what this one has yet to say.
    let (one, two) = (ProcessId(1), ProcessId(2));
    let token = Token::parse("s1_7_900_e1-900_e2-30").unwrap();
    let heard = token.heard(&Heard::only(one, 40), one);
    assert_eq!((heard.of(one), heard.of(two)), (40, 30));
}

/// However many processes a client is answered by, none takes what another told for news, nor for its own.
#[test]
fn positions_of_other_processes_stay_theirs() {
    let token = Token::parse("s1_7_900_e1-900_e2-20").unwrap();
    let (one, two) = (ProcessId(1), ProcessId(2));
    let mut now = Heard::only(two, 25);
    now.note(one, 880);
    let heard = token.heard(&now, two);
    assert_eq!((heard.of(one), heard.of(two)), (900, 20));
    assert_eq!(token.presence_after(&now, two), 20);
    // From before there were several: all of it is told, once.
    let old = Token::parse("s1_7_900").unwrap();
    assert_eq!(old.heard(&now, two).of(two), 0);
}

#[test]
fn presence_may_be_told_less_far_and_never_further() {
    let now = Heard::only(ProcessId::ONLY, 20);
    let told =
        |text: &str| Token::parse(text).map(|token| token.presence_after(&now, ProcessId::ONLY));
    assert_eq!(told("s1_7_9"), Ok(9));
    assert_eq!(told("s1_7_9_5_k6"), Ok(9));
    assert_eq!(told("s1_7_9_p4"), Ok(4));
    assert_eq!(told("s1_7_9_p99"), Ok(9));
    // The stream is another one by now.
    assert_eq!(told("s1_7_99_p4"), Ok(0));
    let mut token = Token::parse("s1_7_9_ea-9_e5-3").unwrap();
    let (five, ten) = (ProcessId(5), ProcessId(10));
    token.leave_presence(ten, 4);
    assert_eq!(token.to_string(), "s1_7_9_e5-3_ea-9_pa-4");
    // Who types has been told, however much presence is left.
    let mut now = Heard::only(ten, 20);
    now.note(five, 3);
    assert_eq!(token.heard(&now, ten).of(ten), 9);
    assert_eq!(token.presence_after(&now, ten), 4);
    assert_eq!(token.presence_after(&now, five), 3);
}
