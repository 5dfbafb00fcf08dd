//! Policy servers: whom a room has its events looked at by, and the signatures that they give
//! (<https://spec.matrix.org/v1.19/server-server-api/#policy-servers>).

use ruma::{OwnedServerName, ServerName};
use serde_json::Value;

use super::rejection::json_error;
use crate::{Incoming, Object, Pdu, Rejection, content::text, hash, redact, sign};

/// The type of the state event, with an empty state key, that names a room's policy server.
pub const KIND: &str = "m.room.policy";
/// What the key of each policy server is called, beside the keys that its server publishes.
pub const KEY_ID: &str = "ed25519:policy_server";

/// Which server a room wants to sign its events, and by which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyServer {
    server: OwnedServerName,
    /// `None`: what the room gives for a key is none, so no signature holds.
    key: Option<[u8; 32]>,
}

impl PolicyServer {
    /// Whom the content of an event of [`KIND`] names; `None`: nobody. That server has a say only while it is in the room.
    pub fn of(content: &Object) -> Option<Self> {
        let via = text(content, "via")?;
        let keys = content.get("public_keys")?.as_object()?;
        let key = text(keys, "ed25519")?;
        Some(Self {
            server: OwnedServerName::try_from(via).ok()?,
            key: read_key(key),
        })
    }

    /// Its name.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// Whether policy servers sign such events: all but the one that names them, so that a room can do without one that
    /// doesn't answer.
    pub fn signs(kind: &str, state_key: Option<&str>) -> bool {
        kind != KIND || state_key != Some("")
    }

    /// Whether the event has all that it needs of this policy server.
    pub fn passes(&self, pdu: &Pdu) -> bool {
        !Self::signs(pdu.kind(), pdu.state_key()) || self.has_signed(pdu)
    }

    fn has_signed(&self, pdu: &Pdu) -> bool {
        // What nobody has signed so doesn't need to be parsed.
        pdu.json().contains(KEY_ID)
            && Incoming::parse(pdu.json().as_bytes()).is_ok_and(|event| self.holds(pdu, &event))
    }

    /// Whether this text of the event has a signature that holds.
    fn holds(&self, pdu: &Pdu, event: &Incoming) -> bool {
        let signature = event
            .get("signatures")
            .and_then(|all| self.signature(all))
            .and_then(hash::from_base64_exact);
        let (Some(key), Some(signature)) = (&self.key, signature) else {
            return false;
        };
        redact::signed_text(pdu.rules(), event).is_ok_and(|signed| {
            let signed = event.numbers.restore(signed);
            sign::verify_bytes(key, signed.as_bytes(), &signature)
        })
    }

    /// Its signature among those of an event, or of an answer.
    fn signature<'a>(&self, signatures: &'a Value) -> Option<&'a str> {
        signatures
            .get(self.server.as_str())?
            .get(KEY_ID)
            .and_then(Value::as_str)
    }

    /// The event with the signature that the policy server has answered with; all others stay, also those of the same server.
    ///
    /// # Errors
    /// The answer has no signature that holds, or the event gets too large by it.
    pub fn sign(&self, pdu: &Pdu, answer: &Value) -> Result<Pdu, Rejection> {
        let unsigned = || {
            let server = &self.server;
            let reason =
                format!("{server} gave no signature by the key that the room has in {KIND}");
            Rejection::new(Rejection::POLICY, reason)
        };
        let signature = self.signature(answer).ok_or_else(unsigned)?;
        let mut event = Incoming::parse(pdu.json().as_bytes()).map_err(json_error)?;
        let empty = || Value::Object(Object::new());
        let signatures = event.object.entry("signatures").or_insert_with(empty);
        let all = signatures.as_object_mut().ok_or_else(unsigned)?;
        let own = all.entry(self.server.as_str()).or_insert_with(empty);
        let own = own.as_object_mut().ok_or_else(unsigned)?;
        own.insert(KEY_ID.to_owned(), signature.into());
        if !self.holds(pdu, &event) {
            return Err(unsigned());
        }
        Pdu::parse(pdu.rules(), event)
    }
}

/// A key in base64; the specification's own example of one has the letters of URLs.
fn read_key(text: &str) -> Option<[u8; 32]> {
    hash::from_base64_exact(&text.replace('-', "+").replace('_', "/"))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;
    use crate::{
        RoomRules,
        canonical::parse_object,
        draft::{self, Draft, Place},
        sign::{KeyPair, sign_pdu},
    };

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed("policy_server", &[seed; 32]).unwrap()
    }

    fn object(value: &Value) -> Object {
        parse_object(value.to_string().as_bytes()).unwrap()
    }

    fn policy(seed: u8) -> PolicyServer {
        let keys = json!({ "ed25519": key(seed).public_base64() });
        let content = json!({ "via": "policy.org", "public_keys": keys });
        PolicyServer::of(&object(&content)).unwrap()
    }

    fn event(rules: &'static RoomRules, kind: &str, state_key: Option<&str>) -> Pdu {
        let draft = Draft {
            room_id: Some("!r:policy.org".try_into().unwrap()),
            sender: "@a:policy.org".try_into().unwrap(),
            kind: kind.into(),
            state_key: state_key.map(Into::into),
            content: object(&json!({ "body": "hi" })),
            redacts: None,
        };
        let place = Place {
            depth: 1,
            ..Place::default()
        };
        let own = KeyPair::from_seed("a", &[7; 32]).unwrap();
        draft::build(rules, &draft, &place, server_name!("policy.org"), &own).unwrap()
    }

    /// What a policy server with the key of this seed answers.
    fn answer(pdu: &Pdu, seed: u8) -> Value {
        let mut signed = object(&serde_json::from_str(pdu.json()).unwrap());
        signed.insert("signatures".into(), json!({}));
        let server = server_name!("policy.org");
        sign_pdu(pdu.rules(), &mut signed, server, &key(seed)).unwrap();
        signed["signatures"].clone()
    }

    #[test]
    fn what_names_nobody() {
        let keys = json!({ "ed25519": key(1).public_base64() });
        for content in [
            json!({}),
            json!({ "via": "policy.org" }),
            json!({ "public_keys": keys }),
            json!({ "via": 1, "public_keys": keys }),
            json!({ "via": "not a name", "public_keys": keys }),
            json!({ "via": "policy.org", "public_keys": [] }),
            json!({ "via": "policy.org", "public_keys": {} }),
            json!({ "via": "policy.org", "public_keys": { "ed25519": 1 } }),
            json!({ "via": "policy.org", "public_key": key(1).public_base64() }),
        ] {
            assert_eq!(PolicyServer::of(&object(&content)), None, "{content}");
        }
    }

    #[test]
    fn keys_of_both_alphabets_and_such_as_are_none() {
        let of = |key: &str| {
            let content = json!({ "via": "policy.org", "public_keys": { "ed25519": key } });
            PolicyServer::of(&object(&content)).unwrap().key
        };
        let url = of("6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s");
        assert!(url.is_some());
        assert_eq!(url, of("6yhHGKhCiXTSEN2ksjV7kX/N6rBQZ3Xb+M7LlC6NS+s"));
        // The room wants signatures, and there can be none.
        assert_eq!(of("nonsense"), None);
        let content = json!({ "via": "policy.org", "public_keys": { "ed25519": "?" } });
        let broken = PolicyServer::of(&object(&content)).unwrap();
        let pdu = event(RoomRules::named("11").unwrap(), "m.room.message", None);
        assert!(!broken.passes(&pdu));
        assert!(broken.sign(&pdu, &answer(&pdu, 1)).is_err());
    }

    #[test]
    fn all_but_the_event_that_names_it_need_its_signature() {
        let rules = RoomRules::named("11").unwrap();
        let passes = |kind: &str, key: Option<&str>| policy(1).passes(&event(rules, kind, key));
        assert!(passes(KIND, Some("")));
        assert!(!passes(KIND, Some("x")));
        assert!(!passes(KIND, None));
        assert!(!passes("m.room.member", Some("@a:policy.org")));
        assert!(!passes("m.room.message", None));
    }

    #[test]
    fn a_signature_is_added_and_none_goes() {
        for rules in RoomRules::supported() {
            let pdu = event(rules, "m.room.message", None);
            let signed = policy(1).sign(&pdu, &answer(&pdu, 1)).unwrap();
            assert_eq!(signed.event_id(), pdu.event_id());
            assert!(policy(1).passes(&signed) && !policy(1).passes(&pdu));
            let written: Value = serde_json::from_str(signed.json()).unwrap();
            let keys = written["signatures"]["policy.org"].as_object().unwrap();
            let keys: Vec<_> = keys.keys().collect();
            assert_eq!(keys, ["ed25519:a", KEY_ID]);
            // It is over what a redaction leaves.
            assert!(policy(1).passes(&signed.redacted()));

            // The room has another key by now: that takes the old one's place.
            assert!(!policy(2).passes(&signed));
            assert!(policy(2).sign(&signed, &answer(&pdu, 1)).is_err());
            let again = policy(2).sign(&signed, &answer(&pdu, 2)).unwrap();
            assert!(policy(2).passes(&again) && !policy(1).passes(&again));
        }
    }

    #[test]
    fn answers_that_are_none() {
        let pdu = event(RoomRules::named("12").unwrap(), "m.room.message", None);
        let other = event(RoomRules::named("12").unwrap(), "m.room.topic", Some(""));
        for answer in [
            json!({}),
            json!([]),
            json!({ "policy.org": {} }),
            json!({ "policy.org": { KEY_ID: 1 } }),
            json!({ "policy.org": { KEY_ID: "AAAA" } }),
            json!({ "other.org": answer(&pdu, 1)["policy.org"] }),
            answer(&pdu, 2),
            answer(&other, 1),
        ] {
            let refused = policy(1).sign(&pdu, &answer).unwrap_err();
            assert_eq!(refused.rule, Rejection::POLICY, "{answer}");
        }
    }
}
