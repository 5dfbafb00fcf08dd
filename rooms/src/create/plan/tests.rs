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
