//! A large room as its server describes it: made here, signed with throwaway keys, and told by routers on
//! the in-process network. Tests and `benches/join.rs` use it.

use axum::{
    Router,
    body::Body,
    extract::Path as AxumPath,
    http::{Response, StatusCode},
    routing::{get, put},
};
use rhizome_federation::testing::Network;
use rhizome_protocol::{
    Object, Pdu, RoomRules,
    draft::{self, Draft, Place},
    server_keys,
    sign::KeyPair,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// So many events of the auth chain are what all others rest on.
const CORE: usize = 4;

/// What room to make.
#[derive(Debug, Clone)]
pub struct Crowd {
    pub version: String,
    /// Joined members besides the creator.
    pub members: usize,
    /// How many servers these are from.
    pub servers: usize,
    /// Of a hundred members so many have changed their profile: their join before is in the auth chain.
    pub changed: usize,
    /// Other state events.
    pub others: usize,
    /// Tells rooms from each other.
    pub name: String,
}

/// The room's description.
#[derive(Debug, Clone)]
pub struct Told {
    pub version: String,
    pub room_id: OwnedRoomId,
    pub auth_events: Vec<OwnedEventId>,
    pub last: OwnedEventId,
    pub depth: i64,
    pub auth_chain: Vec<String>,
    pub state: Vec<String>,
}

/// The name and key of one of the crowd's servers; the first is the one to join through.
pub fn server(index: usize) -> (OwnedServerName, KeyPair) {
    let name = format!("s{index}.crowd.example");
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
    (
        name.try_into().unwrap(),
        KeyPair::from_seed("crowd", &seed).unwrap(),
    )
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

struct Maker {
    rules: &'static RoomRules,
    room_id: Option<OwnedRoomId>,
    servers: Vec<(OwnedServerName, KeyPair)>,
    last: Vec<OwnedEventId>,
    depth: i64,
    now: i64,
}

impl Maker {
    fn make(
        &mut self,
        (server, sender): (usize, &OwnedUserId),
        (kind, state_key): (&str, &str),
        content: &Value,
        auth_events: &[OwnedEventId],
    ) -> Pdu {
        self.depth += 1;
        let draft = Draft {
            room_id: self.room_id.clone(),
            sender: sender.clone(),
            kind: kind.to_owned(),
            state_key: Some(state_key.to_owned()),
            content: content.as_object().unwrap().clone(),
            redacts: None,
        };
        let place = Place {
            prev_events: self.last.clone(),
            auth_events: auth_events.to_vec(),
            depth: self.depth,
            origin_server_ts: self.now + self.depth,
            ..Place::default()
        };
        let (name, key) = &self.servers[server];
        let pdu = draft::build(self.rules, &draft, &place, name, key).unwrap();
        self.last = vec![pdu.event_id().to_owned()];
        pdu
    }
}

impl Crowd {
    pub fn new(version: &str, members: usize) -> Self {
        Self {
            version: version.to_owned(),
            members,
            servers: 10,
            changed: 0,
            others: 300,
            name: "crowd".to_owned(),
        }
    }

    /// Makes the room. Not for versions 1 and 2.
    pub fn tell(&self) -> Told {
        let rules = RoomRules::named(&self.version).unwrap();
        let implied = rules.format.room_id_is_create_hash;
        let mut maker = Maker {
            rules,
            room_id: (!implied)
                .then(|| RoomId::parse(format!("!{}:s0.crowd.example", self.name)).unwrap()),
            servers: (0..self.servers).map(server).collect(),
            last: Vec::new(),
            depth: 0,
            // A while ago, so that nothing is from the future.
            now: now() - 3_600_000,
        };
        let creator: OwnedUserId = "@creator:s0.crowd.example".try_into().unwrap();
        let by = (0, &creator);
        let mut of_create = json!({ "room_version": self.version, "of": self.name });
        if rules.id() == "10" {
            of_create["creator"] = creator.as_str().into();
        }
        let create = maker.make(by, ("m.room.create", ""), &of_create, &[]);
        maker.room_id = Some(create.room_id().to_owned());
        let id = |pdu: &Pdu| pdu.event_id().to_owned();
        let base: Vec<_> = (!implied).then(|| id(&create)).into_iter().collect();
        let with = |more: &[&Pdu]| {
            let more = more.iter().map(|pdu| id(pdu));
            base.iter().cloned().chain(more).collect::<Vec<_>>()
        };
        let joined = json!({ "membership": "join", "displayname": "The creator" });
        let entry = maker.make(by, ("m.room.member", creator.as_str()), &joined, &base);
        let mut users = Object::new();
        if !implied {
            users.insert(creator.to_string(), 100.into());
        }
        let levels = json!({ "users": users, "users_default": 0, "state_default": 50, "events": { "m.room.name": 50 } });
        let levels = maker.make(by, ("m.room.power_levels", ""), &levels, &with(&[&entry]));
        let own = with(&[&levels, &entry]);
        let public = json!({ "join_rule": "public" });
        let rule = maker.make(by, ("m.room.join_rules", ""), &public, &own);
        let shared = json!({ "history_visibility": "shared" });
        let history = maker.make(by, ("m.room.history_visibility", ""), &shared, &own);
        let core = [&create, &entry, &levels, &rule];
        let mut auth_chain: Vec<String> = core.iter().map(|pdu| pdu.json().to_string()).collect();
        let mut state = auth_chain.clone();
        state.push(history.json().to_string());
        for number in 0..self.others {
            let content = json!({ "about": "what a bot or a widget keeps here", "number": number });
            let key = format!("thing {number}");
            let pdu = maker.make(by, ("org.example.thing", &key), &content, &own);
            state.push(pdu.json().to_string());
        }
        let to_join = with(&[&levels, &rule]);
        for number in 0..self.members {
            let at = number % self.servers;
            let user: OwnedUserId = format!("@member{number}:{}", maker.servers[at].0)
                .try_into()
                .unwrap();
            let key = ("m.room.member", user.as_str());
            let content = json!({ "membership": "join", "displayname": format!("Member {number}"),
                "avatar_url": format!("mxc://{}/abcdefghijklmnopqrstuvwx", maker.servers[at].0) });
            let mut pdu = maker.make((at, &user), key, &content, &to_join);
            if number % 100 < self.changed {
                auth_chain.push(pdu.json().to_string());
                let mut content = content;
                content["displayname"] = "Another name".into();
                let auth = with(&[&levels, &rule, &pdu]);
                pdu = maker.make((at, &user), key, &content, &auth);
            }
            state.push(pdu.json().to_string());
        }
        Told {
            version: self.version.clone(),
            room_id: create.room_id().to_owned(),
            auth_events: to_join,
            last: maker.last.remove(0),
            depth: maker.depth,
            auth_chain,
            state,
        }
    }
}

impl Told {
    /// The answer of `make_join` for a user.
    pub fn template(&self, user: &str) -> Value {
        json!({ "room_version": self.version, "event": {
            "type": "m.room.member", "room_id": self.room_id, "sender": user, "state_key": user,
            "content": { "membership": "join" }, "depth": self.depth + 1,
            "auth_events": self.auth_events, "prev_events": [self.last],
        } })
    }

    /// The answer of `send_join`.
    pub fn answer(&self) -> String {
        format!(
            r#"{{"origin":"s0.crowd.example","members_omitted":false,"auth_chain":[{}],"state":[{}]}}"#,
            self.auth_chain.join(","),
            self.state.join(",")
        )
    }

    /// The answer of `send_join` without the members, but for those that the rest of the state rests on.
    pub fn answer_without_members(&self, servers: usize) -> String {
        let names: Vec<_> = (0..servers).map(|index| server(index).0).collect();
        let others = self.state.iter().map(String::as_str);
        let others = others.filter(|event| !event.contains(r#""type":"m.room.member""#));
        let others: Vec<&str> = others.collect();
        format!(
            r#"{{"members_omitted":true,"servers_in_room":{},"auth_chain":[{}],"state":[{}]}}"#,
            json!(names),
            // What the others rest on comes first.
            self.auth_chain[..CORE].join(","),
            others.join(",")
        )
    }

    /// The answer of `state`.
    pub fn state(&self) -> String {
        format!(
            r#"{{"auth_chain":[{}],"pdus":[{}]}}"#,
            self.auth_chain.join(","),
            self.state.join(",")
        )
    }

    /// The answer of `state_ids`.
    pub fn state_ids(&self) -> String {
        let rules = RoomRules::named(&self.version).unwrap();
        let id = |text: &String| {
            let event: Object = serde_json::from_str(text).unwrap();
            let event = Pdu::parse(rules, event).unwrap();
            event.event_id().to_owned()
        };
        let ids = |texts: &[String]| texts.iter().map(id).collect::<Vec<_>>();
        let (state, chain) = (ids(&self.state), ids(&self.auth_chain));
        json!({ "pdu_ids": state, "auth_chain_ids": chain }).to_string()
    }

    /// What the description says besides the events, for another process.
    pub fn head(&self) -> Value {
        json!([
            self.version,
            self.room_id,
            self.auth_events,
            self.last,
            self.depth
        ])
    }

    /// The inverse of [`Told::head`]: without events.
    pub fn of_head(head: Value) -> Self {
        let (version, room_id, auth_events, last, depth) = serde_json::from_value(head).unwrap();
        Self {
            version,
            room_id,
            auth_events,
            last,
            depth,
            auth_chain: Vec::new(),
            state: Vec::new(),
        }
    }
}

/// Puts the crowd's servers on the network. The first lets users join `rooms`: each with a function that
/// gives the body of `send_join`'s answer.
pub fn attach<F>(network: &Network, servers: usize, rooms: Vec<(Told, F)>)
where
    F: Fn() -> Body + Clone + Send + Sync + 'static,
{
    attach_with(network, servers, rooms, Router::new());
}

/// The same, where the first takes `more` questions.
pub fn attach_with<F>(network: &Network, servers: usize, rooms: Vec<(Told, F)>, more: Router)
where
    F: Fn() -> Body + Clone + Send + Sync + 'static,
{
    let rooms: Arc<[(Told, F)]> = rooms.into();
    let of = move |id: &str| rooms.iter().find(|(told, _)| told.room_id == id).cloned();
    let make = {
        let of = of.clone();
        async move |AxumPath((room, user)): AxumPath<(String, String)>| {
            let told = of(&room).ok_or(StatusCode::NOT_FOUND)?.0;
            Ok::<_, StatusCode>(axum::Json(told.template(&user)))
        }
    };
    let send = async move |AxumPath((room, _)): AxumPath<(String, String)>| {
        of(&room).map_or_else(Response::default, |(_, body)| Response::new(body()))
    };
    let joins = Router::new()
        .route("/_matrix/federation/v1/make_join/{room}/{user}", get(make))
        .route("/_matrix/federation/v2/send_join/{room}/{event}", put(send))
        .merge(more);
    for index in 0..servers {
        let (name, key) = server(index);
        let valid_until = now() + 24 * 3_600_000;
        let keys = server_keys::build(&name, &[&key], &[], valid_until).unwrap();
        let keys = get(async move || axum::Json(Value::Object(keys)));
        let router = Router::new().route("/_matrix/key/v2/server", keys);
        let router = if index == 0 {
            router.merge(joins.clone())
        } else {
            router
        };
        network.attach(&name, router);
    }
}
