use ruma::user_id;

use super::*;

fn request(preset: Preset) -> CreateRoom {
    CreateRoom {
        creator: user_id!("@alice:one").to_owned(),
        creator_profile: Object::new(),
        version: RoomVersionId::V12,
        public: false,
        preset,
        name: None,
        topic: None,
        alias: None,
        creation_content: Object::new(),
        initial_state: Vec::new(),
        power_level_content_override: Object::new(),
        invite: Vec::new(),
        is_direct: false,
        invited_profiles: HashMap::new(),
        encrypted: false,
        policy: Policy::default(),
    }
}

fn kinds(plan: &[Planned]) -> Vec<&str> {
    plan.iter()
        .map(|planned| planned.key.kind.as_str())
        .collect()
}

#[test]
fn the_order_is_the_specifications() {
    let rules = RoomRules::named("11").unwrap();
    let request = CreateRoom {
        name: Some("Den".into()),
        topic: Some("Foxes".into()),
        alias: Some("#den:one".try_into().unwrap()),
        initial_state: vec![InitialState {
            kind: "m.room.guest_access".into(),
            state_key: String::new(),
            content: Object::new(),
        }],
        ..request(Preset::PublicChat)
    };
    let plan = events(rules, &request).unwrap();
    assert_eq!(
        kinds(&plan),
        [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.canonical_alias",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "m.room.name",
            "m.room.topic"
        ]
    );
    assert_eq!(plan[2].content["users"], json!({ "@alice:one": 100 }));
    assert_eq!(plan[2].content["invite"], 50);
    assert!(!plan[0].content.contains_key("creator"));
}

#[test]
fn a_preset_says_only_what_an_absent_event_would_not() {
    let rules = RoomRules::named("11").unwrap();
    let guests = |preset| {
        let plan = events(rules, &request(preset)).unwrap();
        plan.into_iter()
            .find(|planned| planned.key.kind == "m.room.guest_access")
            .map(|planned| planned.content["guest_access"].clone())
    };
    assert_eq!(guests(Preset::PublicChat), None);
    assert_eq!(guests(Preset::PrivateChat), Some(json!("can_join")));
    assert_eq!(guests(Preset::TrustedPrivateChat), Some(json!("can_join")));
}

#[test]
fn a_room_is_encrypted_by_policy_unless_the_request_says_how() {
    let rules = RoomRules::named("11").unwrap();
    let mut request = request(Preset::PrivateChat);
    request.encrypted = true;
    let set = |request: &CreateRoom| {
        let plan = events(rules, request).unwrap();
        let of = plan.into_iter();
        let of = of.filter(|planned| planned.key.kind == "m.room.encryption");
        of.map(|planned| planned.content).collect::<Vec<_>>()
    };
    assert_eq!(set(&request)[0]["algorithm"], "m.megolm.v1.aes-sha2");
    let mut content = Object::new();
    content.insert("algorithm".into(), "org.x".into());
    request.initial_state.push(InitialState {
        kind: "m.room.encryption".into(),
        state_key: String::new(),
        content: content.clone(),
    });
    assert_eq!(set(&request), [content]);
}

#[test]
fn levels_set_otherwise_let_nobody_become_a_creator() {
    let mut request = request(Preset::PublicChat);
    let levels = json!({ "events": { "org.x": 0 } });
    request.power_level_content_override = levels.as_object().unwrap().clone();
    let level = |version: &str| {
        let plan = events(RoomRules::named(version).unwrap(), &request).unwrap();
        plan[2].content["events"].get("m.room.tombstone").cloned()
    };
    assert_eq!(level("12"), Some(json!(150)));
    assert_eq!(level("11"), None);
}

#[test]
fn creators_of_v12_stand_in_the_create_event_only() {
    let rules = RoomRules::named("12").unwrap();
    let mut request = request(Preset::TrustedPrivateChat);
    request.invite = vec![
        user_id!("@bob:two").to_owned(),
        user_id!("@carol:three").to_owned(),
    ];
    request
        .creation_content
        .insert("additional_creators".into(), json!(["@bob:two"]));
    let plan = events(rules, &request).unwrap();
    assert_eq!(
        plan[0].content["additional_creators"],
        json!(["@bob:two", "@carol:three"])
    );
    assert_eq!(plan[2].content["users"], json!({}));
    assert_eq!(plan[2].content["events"]["m.room.tombstone"], 150);

    request
        .creation_content
        .insert("additional_creators".into(), json!(["bob"]));
    assert!(matches!(
        events(rules, &request),
        Err(Error::InvalidRoomState(_))
    ));
}

#[test]
fn trusted_friends_get_the_creators_power_before_v12() {
    let rules = RoomRules::named("10").unwrap();
    let mut request = request(Preset::TrustedPrivateChat);
    request.invite = vec![user_id!("@bob:two").to_owned()];
    let plan = events(rules, &request).unwrap();
    assert_eq!(plan[0].content["creator"], "@alice:one");
    assert_eq!(
        plan[2].content["users"],
        json!({ "@alice:one": 100, "@bob:two": 100 })
    );
}

#[test]
fn who_may_come_in_decides_on_encryption_and_guests() {
    let rules = RoomRules::named("11").unwrap();
    let says = |preset, join_rule, own: Option<&str>| {
        let mut request = request(preset);
        request.policy.join_rule = join_rule;
        request.policy.encrypted_unless_public = true;
        let own = own.map(|own| InitialState {
            kind: "m.room.join_rules".into(),
            state_key: String::new(),
            content: Object::from_iter([("join_rule".to_owned(), own.into())]),
        });
        request.initial_state.extend(own);
        let plan = events(rules, &request).unwrap();
        let has = |kind: &str| plan.iter().any(|planned| planned.key.kind == kind);
        (has("m.room.encryption"), has("m.room.guest_access"))
    };
    let (private, public) = (Preset::PrivateChat, Preset::PublicChat);
    assert_eq!(says(private, None, None), (true, true));
    assert_eq!(says(public, None, None), (false, false));
    assert_eq!(says(private, Some(Entrance::Public), None), (false, false));
    assert_eq!(says(public, Some(Entrance::Invite), None), (true, true));
    assert_eq!(says(public, Some(Entrance::Knock), None), (true, true));
    assert_eq!(says(private, None, Some("public")), (false, true));
    assert_eq!(says(public, None, Some("invite")), (true, false));
}

#[test]
fn the_operators_policy_goes_before_the_preset_and_after_the_request() {
    let of = |value: &Value| value.as_object().unwrap().clone();
    let policy = Policy {
        join_rule: Some(Entrance::Knock),
        encrypted_unless_public: false,
        power_levels: of(&json!({ "invite": 40, "events": { "m.room.name": 100, "org.x": 1 } })),
    };
    let mut request = CreateRoom {
        policy,
        ..request(Preset::PublicChat)
    };
    let content = |request: &CreateRoom, version: RoomVersionId, kind: &str| {
        let rules = RoomRules::get(&version).unwrap();
        let plan = events(rules, request).unwrap();
        let planned = plan.into_iter().find(|planned| planned.key.kind == kind);
        Value::Object(planned.unwrap().content)
    };
    let levels = content(&request, RoomVersionId::V12, "m.room.power_levels");
    assert_eq!(
        (&levels["invite"], &levels["kick"]),
        (&json!(40), &json!(50))
    );
    let events = &levels["events"];
    assert_eq!(
        (&events["m.room.name"], &events["org.x"]),
        (&json!(100), &json!(1))
    );
    assert_eq!(events["m.room.avatar"], 50);
    let rule = |request: &CreateRoom, version| {
        content(request, version, "m.room.join_rules")["join_rule"].clone()
    };
    assert_eq!(rule(&request, RoomVersionId::V12), "knock");
    assert_eq!(
        rule(&request, RoomVersionId::V6),
        "invite",
        "it doesn't know the other"
    );

    request.power_level_content_override = of(&json!({ "invite": 10 }));
    let levels = content(&request, RoomVersionId::V12, "m.room.power_levels");
    assert_eq!(levels["invite"], 10);
    request.initial_state.push(InitialState {
        kind: "m.room.join_rules".into(),
        state_key: String::new(),
        content: of(&json!({ "join_rule": "invite" })),
    });
    assert_eq!(rule(&request, RoomVersionId::V12), "invite");
}
