//! Devices that send each other what no server can read: Olm sessions over `/keys` and `/sendToDevice`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};
use vodozemac::olm::{Account, OlmMessage, Session, SessionConfig};
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey, Ed25519Signature};

use crate::{Person, escape, text};

/// <https://spec.matrix.org/v1.19/client-server-api/#molmv1curve25519-aes-sha2>
const OLM: &str = "m.olm.v1.curve25519-aes-sha2";
/// What the messages inside are.
const KIND: &str = "org.example.whisper";

/// A device of somebody, with the keys that only it has.
pub(crate) struct Device<'a> {
    person: &'a Person,
    account: Account,
}

/// Another device, as the servers tell of it.
pub(crate) struct Peer {
    user_id: String,
    device_id: String,
    curve25519: Curve25519PublicKey,
    ed25519: Ed25519PublicKey,
}

impl<'a> Device<'a> {
    /// Makes keys for this device of the person, and uploads the public halves.
    pub(crate) async fn publish(person: &'a Person) -> anyhow::Result<Self> {
        let mut account = Account::new();
        account.generate_one_time_keys(1);
        let mut device = Self { person, account };
        let keys = device.upload()?;
        let answer = person.post("/keys/upload", keys).await?;
        let count = &answer["one_time_key_counts"]["signed_curve25519"];
        ensure!(
            *count == 1,
            "{} uploaded one key, and the server counts {count}",
            person.user_id
        );
        device.account.mark_keys_as_published();
        Ok(device)
    }

    fn upload(&self) -> anyhow::Result<Value> {
        let (user, device) = (&self.person.user_id, &self.person.device_id);
        let identity = self.account.identity_keys();
        let keys = json!({
            "user_id": user,
            "device_id": device,
            "algorithms": [OLM],
            "keys": {
                format!("curve25519:{device}"): identity.curve25519.to_base64(),
                format!("ed25519:{device}"): identity.ed25519.to_base64(),
            },
        });
        let mut one_time = Map::new();
        for (id, key) in self.account.one_time_keys() {
            let key = self.sign(json!({ "key": key.to_base64() }))?;
            one_time.insert(format!("signed_curve25519:{}", id.to_base64()), key);
        }
        Ok(json!({ "device_keys": self.sign(keys)?, "one_time_keys": one_time }))
    }

    fn sign(&self, mut object: Value) -> anyhow::Result<Value> {
        let signature = self.account.sign(signed_part(&object)?).to_base64();
        let key = format!("ed25519:{}", self.person.device_id);
        object["signatures"] = json!({ &self.person.user_id: { key: signature } });
        Ok(object)
    }

    /// Asks for the keys of somebody's device.
    pub(crate) async fn find(&self, whose: &Person) -> anyhow::Result<Peer> {
        let (user_id, device_id) = (whose.user_id.clone(), whose.device_id.clone());
        let asked = json!({ "device_keys": { &user_id: [] } });
        let answer = self.person.post("/keys/query", asked).await?;
        let device = &answer["device_keys"][&user_id][&device_id];
        let key = |algorithm: &str| text(&device["keys"], &format!("{algorithm}:{device_id}"));
        let peer = Peer {
            curve25519: Curve25519PublicKey::from_base64(&key("curve25519")?)?,
            ed25519: Ed25519PublicKey::from_base64(&key("ed25519")?)?,
            user_id,
            device_id,
        };
        peer.verify(device)?;
        Ok(peer)
    }

    /// Claims a one-time key of the other device: the beginning of a session with it.
    pub(crate) async fn claim(&self, peer: &Peer) -> anyhow::Result<Session> {
        let (user, device) = (&peer.user_id, &peer.device_id);
        let asked = json!({ "one_time_keys": { user: { device: "signed_curve25519" } } });
        let answer = self.person.post("/keys/claim", asked).await?;
        let claimed = answer["one_time_keys"][user][device].as_object();
        let key = claimed.and_then(|keys| keys.values().next());
        let key = key.with_context(|| format!("no key of {user} is given: {answer}"))?;
        peer.verify(key)?;
        let key = Curve25519PublicKey::from_base64(&text(key, "key")?)?;
        let config = SessionConfig::version_1();
        let session = self
            .account
            .create_outbound_session(config, peer.curve25519, key)?;
        Ok(session)
    }

    /// Sends some words that only the other device can read.
    pub(crate) async fn whisper(
        &self,
        session: &mut Session,
        peer: &Peer,
        words: &str,
    ) -> anyhow::Result<()> {
        let identity = self.account.identity_keys();
        let inside = json!({
            "type": KIND,
            "content": { "body": words },
            "sender": self.person.user_id,
            "recipient": peer.user_id,
            "recipient_keys": { "ed25519": peer.ed25519.to_base64() },
            "keys": { "ed25519": identity.ed25519.to_base64() },
        });
        let (kind, body) = session.encrypt(inside.to_string())?.to_parts();
        let body = vodozemac::base64_encode(body);
        let message = json!({
            "algorithm": OLM,
            "sender_key": identity.curve25519.to_base64(),
            "ciphertext": { peer.curve25519.to_base64(): { "type": kind, "body": body } },
        });
        let messages = json!({ "messages": { &peer.user_id: { &peer.device_id: message } } });
        let txn = escape(&self.person.transaction());
        let path = format!("/sendToDevice/m.room.encrypted/{txn}");
        self.person.put(&path, messages).await?;
        Ok(())
    }

    /// Waits for the other device's next message; its ciphertext.
    pub(crate) async fn receive(
        &self,
        peer: &Peer,
        since: &str,
        limit: Duration,
    ) -> anyhow::Result<OlmMessage> {
        let found = |answer: &Value| {
            let events = answer["to_device"]["events"].as_array()?;
            let theirs = |event: &&Value| {
                event["type"] == "m.room.encrypted" && event["sender"] == peer.user_id
            };
            events.iter().find(theirs).cloned()
        };
        let (event, _) = self.person.sync_until(since, limit, found).await?;
        let ours = self.account.curve25519_key().to_base64();
        let ciphertext = &event["content"]["ciphertext"][ours];
        let kind = ciphertext["type"].as_u64();
        let kind = kind.with_context(|| format!("a message without a ciphertext: {event}"))?;
        let body = vodozemac::base64_decode(text(ciphertext, "body")?)?;
        Ok(OlmMessage::from_parts(usize::try_from(kind)?, &body)?)
    }

    /// The first message of a session that the other device began: the session, and the words.
    pub(crate) fn accept(
        &mut self,
        peer: &Peer,
        message: &OlmMessage,
    ) -> anyhow::Result<(Session, String)> {
        let OlmMessage::PreKey(first) = message else {
            anyhow::bail!("{} doesn't begin a session", peer.user_id)
        };
        let config = SessionConfig::version_1();
        let begun = self
            .account
            .create_inbound_session(config, peer.curve25519, first)?;
        let words = self.words(peer, &begun.plaintext)?;
        Ok((begun.session, words))
    }

    /// The words of a message.
    pub(crate) fn open(
        &self,
        session: &mut Session,
        peer: &Peer,
        message: &OlmMessage,
    ) -> anyhow::Result<String> {
        self.words(peer, &session.decrypt(message)?)
    }

    /// What was inside, once it is known to be from the one and for the other.
    fn words(&self, peer: &Peer, inside: &[u8]) -> anyhow::Result<String> {
        let inside: Value = serde_json::from_slice(inside)?;
        let meant = inside["sender"] == peer.user_id
            && inside["keys"]["ed25519"] == peer.ed25519.to_base64()
            && inside["recipient"] == self.person.user_id
            && inside["recipient_keys"]["ed25519"] == self.account.ed25519_key().to_base64();
        ensure!(meant, "this is between others: {inside}");
        text(&inside["content"], "body")
    }
}

impl Peer {
    /// Whether the device itself signed something.
    fn verify(&self, object: &Value) -> anyhow::Result<()> {
        let key = format!("ed25519:{}", self.device_id);
        let signature = text(&object["signatures"][&self.user_id], &key)?;
        let signature = Ed25519Signature::from_base64(&signature)?;
        (self.ed25519)
            .verify(signed_part(object)?.as_bytes(), &signature)
            .with_context(|| format!("{} hasn't signed {object}", self.device_id))
    }
}

/// What a signature is of: the canonical JSON of the rest. Keys are sorted in a `Value`, and there are
/// only plain words in it.
fn signed_part(object: &Value) -> anyhow::Result<String> {
    let mut object = object.as_object().context("not an object")?.clone();
    object.remove("signatures");
    object.remove("unsigned");
    Ok(Value::Object(object).to_string())
}
